"""How far each consumer's weights may go from the old ones: as far as holds on the other half of the samples.

The halves are the first and the last samples, not a mixture: where neighbours are alike (views of one scene, frames of
one recording), a fit must hold on other scenes to be believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..statistics.collect import collect
from ..statistics.targets import Store, Targets
from .apply import Cut, layers_of, not_fitted
from .fit import least_squares
from .halves import LEAST
from .validation import elsewhere

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..data import Samples
    from ..graph import Array, Graph
    from ..groups import Groups
    from ..statistics.moments import Moments
    from ..statistics.settings import Settings

STEPS = (1.0, 10.0, 100.0, 1000.0)
"""The ridges tried, over the least one."""


class _Both(Store):
    """What two stores keep between them; nothing can be put in."""

    def __init__(self, first: Store, second: Store) -> None:
        super().__init__(0)
        self.parts = (first, second)

    def get(self, key: Hashable) -> Array:
        """Return what is kept under a key."""
        return next(part for part in self.parts if key in part).get(key)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether anything is kept under a key."""
        return any(key in part for part in self.parts)


def ridges_and_targets(
    graph: Graph, groups: Groups, cuts: Sequence[Cut], data: Samples, settings: Settings, least: float
) -> tuple[dict[int, float], Targets | None]:
    """Return the ridge of every consumer by its node, and the consumers' outputs for ``sequential``.

    The model runs once. Each ridge is the one of ``STEPS`` times ``least`` with the smallest error on the half of the
    samples that was not fitted, both ways. Of few samples it is ``least``, and no outputs are returned.
    """
    fitted = [c for c in cuts if not c.consumer.refusal]
    if len(data) < LEAST * (data.fixed_batch or 1) or not fitted:
        return {c.consumer.node: least for c in fitted}, None
    consumers = [c.consumer for c in fitted]
    first, second = (
        collect(graph, groups, data, settings, consumers=consumers, shard=(k, 2), targets=True) for k in (0, 1)
    )
    chosen = {}
    for cut in fitted:
        halves = [half.of(cut.consumer) for half in (first, second)]
        chosen[cut.consumer.node] = least if not_fitted(cut, halves[0]) else _best(cut, halves, least)
    a, b = first.targets, second.targets
    assert a is not None
    assert b is not None
    return chosen, Targets(_Both(a.store, b.store), [*a.starts, *b.starts], [*a.sizes, *b.sizes])


def _best(cut: Cut, halves: Iterable[Moments], least: float) -> float:
    first, second = (list(layers_of(cut.consumer, moments)) for moments in halves)
    removed = cut.removed.reshape(cut.consumer.blocks, cut.consumer.width)
    ridges = [least * step for step in STEPS]
    errors = np.zeros(len(ridges))
    for gone, one, other in zip(removed, first, second, strict=True):
        for fitted, judge in ((one, other), (other, one)):
            for k, ridge in enumerate(ridges):
                fit = least_squares(fitted, gone, ridge)
                errors[k] += elsewhere(judge, fit.weights, fit.shift)
    return ridges[int(errors.argmin())]
