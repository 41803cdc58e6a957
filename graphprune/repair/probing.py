"""How much errors of groups matter to a model's outputs: each group is pruned alone, and the outputs are compared.

Errors of layers do not add up by themselves: a tenth of a layer's energy may be noise to the next, or all that counts.
So each group's error, relative to its layers' outputs, is scaled to what it was seen to do at the model's outputs, at
one width, a deep cut: what few samples say of wide layers is right for light pruning, and much too small further on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..layout import kept_by
from ..plan import Plan
from ..scores import FloatArray
from ..solver.choices import ranking
from ..statistics.consumers import consumers_of
from ..statistics.reruns import Outputs, Reruns, reruns
from .apply import cuts_of
from .fitted_cuts import fitted

if TYPE_CHECKING:
    from ..data import Samples
    from ..statistics.consumers import Consumer
    from ..statistics.moments import Moments

LEAST = 1e-9
LEAST_FACTOR = 1e-6
"""Part of the usual factor that a group is scaled by at least: removing it is never quite free."""


@dataclass(frozen=True)
class Probe:
    """Prunes one group at a time to a part of its units, ``part``, and looks at what the model gives then.

    Consumers are fitted by least squares on the moments of what they read, damped by ``ridge`` or more.
    """

    graph: Graph
    groups: Groups
    moments_of: Callable[[Consumer], Moments]
    samples: Samples
    ridge: float
    part: float

    def scaled(self, scores: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the scores of every group, multiplied so that those that go add up to the error seen at the outputs.

        ``scores`` add up to errors, shape (units,) a group. A group whose error cannot be told from zero, or that has
        no weights to remove columns of, is scaled by the median of what others are. They are returned as they are where
        nothing can be compared. Raises ModelError for a model that does not run.
        """
        names = compared(self.graph)
        if not names:
            return dict(scores)
        running = reruns(self.graph, names, self.samples)
        before = running.outputs({})
        factors = {name: self._factor(name, values, running, before) for name, values in scores.items()}
        known = [factor for factor in factors.values() if factor is not None]
        usual = max(float(np.median(known)) if known else 1.0, LEAST)
        least = usual * LEAST_FACTOR
        chosen = {name: usual if factor is None else max(factor, least) for name, factor in factors.items()}
        return {name: values * chosen[name] for name, values in scores.items()}

    def _factor(self, group: str, values: FloatArray, running: Reruns, before: Outputs) -> float | None:
        """Return the error at the outputs over the sum of the scores of units gone, of a group pruned alone."""
        order, width = ranking(values), max(round(len(values) * self.part), 1)
        own = float(values[order[width:]].sum())
        changed = self._pruned(group, order[:width]) if own > LEAST else {}
        return relative_error(before, running.outputs(changed)) / own if changed else None

    def _pruned(self, group: str, kept: IntArray) -> dict[str, Array]:
        """Return what the model stores when one group alone is pruned to some units and its consumers are fitted."""
        sizes = {g.id: g.size for g in self.groups.groups}
        plan = Plan({group: tuple(sorted(kept.tolist()))}, sizes, self.groups.fingerprint)
        cuts = list(cuts_of(self.graph, self.groups, kept_by(self.groups, plan), self._consumers))
        return fitted(cuts, self.graph, self.moments_of, self.ridge)

    @cached_property
    def _consumers(self) -> tuple[Consumer, ...]:
        return tuple(consumers_of(self.graph, self.groups))


def compared(graph: Graph) -> list[str]:
    """Return the tensors that errors are told by: the floating outputs.

    Where there is none, they are what outputs are made of, such as what an ArgMax looks at.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    seen, waiting = dict.fromkeys(graph.outputs), list(graph.outputs)
    found = [name for name in seen if _is_floating(graph, name)]
    while waiting and not found:
        sources = [n for name in waiting for n in (makers[name].inputs if name in makers else ()) if n]
        waiting = [n for n in dict.fromkeys(sources) if n not in seen and graph.tensors[n].kind == "activation"]
        seen.update(dict.fromkeys(waiting))
        found = [name for name in waiting if name in makers and _is_floating(graph, name)]
    return found


def _is_floating(graph: Graph, name: str) -> bool:
    return graph.tensors[name].dtype.startswith("float")


def relative_error(before: Sequence[Sequence[Array]], after: Sequence[Sequence[Array]]) -> float:
    """Return the energy of what outputs differ by over their own about the mean over samples, the mean over outputs.

    Outputs are given batch by batch. Where all samples give the same, the energy itself counts. Places where the
    original is infinite (logarithms of zero, masks) are left out; where the pruned one alone is, all is lost.
    """
    parts = []
    for old, new in zip(before, after, strict=True):
        was, now = ([np.asarray(b, np.float64) for b in batches] for batches in (old, new))
        known = [np.isfinite(b) for b in was]
        was = [np.where(k, b, 0.0) for k, b in zip(known, was, strict=True)]
        spread = sum(float(np.square(b - middle).sum()) for b, middle in zip(was, _means(was), strict=True))
        energy = spread or sum(float(np.square(b).sum()) for b in was) or 1.0
        worst = (energy / max(sum(b.size for b in was), 1)) ** 0.5
        missed = 0.0
        for k, a, b in zip(known, was, now, strict=True):
            missed += float(
                np.square(np.where(k & np.isfinite(b), np.where(np.isfinite(b), b, 0.0) - a, k * worst)).sum()
            )
        parts.append(missed / energy)
    return float(np.mean(parts)) if parts else 0.0


def _means(batches: Sequence[FloatArray]) -> Sequence[FloatArray]:
    """Return what to centre batches about: the mean over all samples, or each batch's own where sizes differ."""
    if len({b.shape[1:] for b in batches}) > 1 or not all(b.ndim for b in batches):
        return [np.asarray(b.mean(axis=0) if b.ndim else 0.0) for b in batches]
    return [np.asarray(sum(b.sum(axis=0) for b in batches) / sum(len(b) for b in batches))] * len(batches)
