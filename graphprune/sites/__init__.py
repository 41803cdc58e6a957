"""Where the gates of a group stand: at its consumers or at its producers, read off the facts of coupling.

**Consumers.** A removed unit is a term left out of every sum over its index, whatever value it had there: after a
sigmoid that is not zero, behind a normalisation it is not what the producer made. So the gates multiply the data that
goes into every contraction, along the letter it sums over. A path from a unit's producer to an output crosses exactly
one of these places, the first sum; so zeros and ones are removal itself, and a gate's derivative at one is that of the
true loss. VIBNet and SBP place theirs here as well (``shared/methods.md`` 2.4: after the activation).

**Producers.** The gates multiply what makes the units: the output of every contraction or lookup that has the units on
an axis of its own (a depthwise convolution passes them on, so it is none), bias included, and, where only
normalisations with stored statistics and stored scales and offsets follow, what those make of it: multiplied before a
batch norm, a gate of zero would leave beta and the running mean behind. This is Molchanov's definition (arXiv
1906.10771), and equals the consumers' to first order as long as everything between is positively homogeneous.
"""

from __future__ import annotations

from ..graph import Graph
from ..groups import Groups
from .consumers import consumers
from .producers import producers
from .site import Site, Where


def sites_of(graph: Graph, groups: Groups, where: Where = "consumers") -> tuple[Site, ...]:
    """Return all places for gates, in graph order; between them they serve every group that a model has to sum over."""
    if where == "producers":
        return tuple(producers(graph, groups))
    return tuple(consumers(graph, groups))
