"""How much errors of groups matter to a model's outputs: each group is pruned alone, and the outputs are compared.

Errors of layers do not add up by themselves: a tenth of a layer's energy may be noise to the next, or all that counts.
So each group's error, relative to its layers' outputs, is scaled to what it was seen to do at the model's outputs, at
more than one width: what few samples say of wide layers is right for light pruning, and much too small further on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from .elimination import Removal
from .monotone import as_scores
from .nested_cuts import fitted

if TYPE_CHECKING:
    from ..data import Samples
    from ..statistics.consumers import Consumer
    from ..statistics.moments import Moments

LEAST = 1e-9


@dataclass(frozen=True)
class Probe:
    """Prunes one group at a time to parts of its units, ``parts``, falling, and looks at what the model gives then.

    Consumers are fitted by least squares on the moments of what they read, damped by ``ridge`` or more.
    """

    graph: Graph
    groups: Groups
    moments_of: Callable[[Consumer], Moments]
    samples: Samples
    ridge: float
    parts: tuple[float, ...]

    def scaled(self, scores: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the scores of every group, scaled so that their sums are the errors seen at the outputs.

        ``scores`` add up to errors, shape (units,) a group. A group whose error cannot be told from zero, or that has
        no weights to remove columns of, is scaled by the median of what others are. They are returned as they are where
        nothing can be compared. Raises ModelError for a model that does not run.
        """
        names = compared(self.graph)
        if not names:
            return dict(scores)
        running = reruns(self.graph, names, self.samples)
        before = running.outputs({})
        seen = {name: list(self._seen(name, values, running, before)) for name, values in scores.items()}
        first = [(values, *seen[name][0]) for name, values in scores.items() if seen[name]]
        ratios = [error / values[ranking(values)[-gone:]].sum() for values, gone, error in first]
        usual = max(float(np.median(ratios)) if ratios else 1.0, LEAST)
        return {name: along(values, seen[name], usual) for name, values in scores.items()}

    def _seen(self, group: str, values: FloatArray, running: Reruns, before: Outputs) -> Iterator[tuple[int, float]]:
        """Yield (units gone, error at the outputs) of a group that is pruned alone."""
        order = ranking(values)
        widths = dict.fromkeys(max(round(len(values) * part), 1) for part in self.parts)
        telling = [width for width in widths if values[order[width:]].sum() > LEAST]
        for width, changed in zip(telling, self._pruned(group, order, telling), strict=True):
            if changed:
                yield len(values) - width, relative_error(before, running.outputs(changed))

    def _pruned(self, group: str, order: IntArray, widths: Sequence[int]) -> list[dict[str, Array]]:
        """Return what the model stores when one group alone is pruned to each width and its consumers are fitted."""
        sizes = {g.id: g.size for g in self.groups.groups}
        levels = []
        for width in widths:
            plan = Plan({group: tuple(sorted(order[:width].tolist()))}, sizes, self.groups.fingerprint)
            levels.append(list(cuts_of(self.graph, self.groups, kept_by(self.groups, plan), self._consumers)))
        return fitted(levels, self.graph, self.moments_of, self.ridge)

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


def along(scores: FloatArray, seen: Sequence[tuple[int, float]], usual: float) -> FloatArray:
    """Return scores in the same order whose sums are the errors seen, stretch by stretch, and never fall.

    ``scores`` has shape (units,), ``seen`` are (units gone, error), more and more units. No stretch is scaled by less
    than the one before: relative errors level off towards one, and a group that is broken already would seem cheap to
    empty. Beyond the last the scores grow as in the last stretch, or as in all, whatever is more. Without any, all are
    multiplied by ``usual``.
    """
    order = ranking(scores)[::-1]
    own, factors = np.cumsum(scores[order]), np.full(len(scores), usual)
    start, reached = 0, 0.0
    for gone, error in seen:
        stretch = own[gone - 1] - (own[start - 1] if start else 0.0)
        if stretch > 0:
            least = factors[start - 1] if start else usual * 1e-6
            factors[start:gone] = max((max(error, reached) - reached) / stretch, least)
        start, reached = gone, max(error, reached)
    if start:
        factors[start:] = max(factors[start - 1], reached / max(own[start - 1], LEAST))
    return as_scores(Removal(order, scores[order] * factors))


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
