"""How much errors of groups matter to a model's outputs: each group is pruned alone, and the outputs are compared.

Errors of layers do not add up by themselves: a tenth of a layer's energy may be noise to the next, or all that counts.
So each group's error, relative to its layers' outputs, is multiplied by what it was seen to do at the model's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..coresets.observe import fetch
from ..graph import Array, Graph
from ..groups import Groups
from ..layout import kept_by
from ..plan import Plan
from ..scores import FloatArray
from ..solver.choices import ranking
from ..statistics.running import network
from .apply import Fitter, cuts_of, fit_all, masked

if TYPE_CHECKING:
    from ..data import Samples
    from ..statistics.consumers import Consumer
    from ..statistics.moments import Moments

LEAST = 1e-9


@dataclass(frozen=True)
class Probe:
    """Prunes one group at a time to a part of its units, ``part``, and looks at what the model gives then."""

    graph: Graph
    groups: Groups
    moments_of: Callable[[Consumer], Moments]
    samples: Samples
    fitter: Fitter
    part: float

    def factors(self, scores: Mapping[str, FloatArray]) -> dict[str, float]:
        """Return what the scores of every group are to be multiplied by, so that they tell the error at the outputs.

        ``scores`` add up to errors, shape (units,) a group. A group whose error cannot be told from zero, or that has
        no weights to remove columns of, gets the median of the others. Raises ModelError for a model that does not run.
        """
        before = self._outputs({})
        found: dict[str, float] = {}
        for name, values in scores.items():
            order = ranking(values)
            width = max(round(len(values) * self.part), 1)
            predicted = float(values[order[width:]].sum())
            changed = self._pruned(name, order[:width].tolist()) if predicted > LEAST else {}
            if changed:
                found[name] = relative_error(before, self._outputs(changed)) / predicted
        usual = float(np.median(list(found.values()))) if found else 1.0
        return {name: max(found.get(name, usual), usual * 1e-6, LEAST) for name in scores}

    def _pruned(self, group: str, keep: list[int]) -> dict[str, Array]:
        """Return what the model stores when one group alone is pruned and its consumers are fitted."""
        sizes = {g.id: g.size for g in self.groups.groups}
        plan = Plan({group: tuple(sorted(keep))}, sizes, self.groups.fingerprint)
        cuts = list(cuts_of(self.graph, self.groups, kept_by(self.groups, plan)))
        values = fit_all(cuts, self.moments_of, self.fitter).values
        return {**values, **masked(cuts, self.graph, values)}

    def _outputs(self, values: Mapping[str, Array]) -> list[list[Array]]:
        """Return the outputs that are numbers, batch by batch."""
        model = network(self.graph)
        model.set(values)
        names = [n for n in self.graph.outputs if self.graph.tensors[n].dtype.startswith("float")]
        return list(fetch(model, names, self.samples).values())


def relative_error(before: Sequence[Sequence[Array]], after: Sequence[Sequence[Array]]) -> float:
    """Return the energy of what outputs differ by over their own about the mean over samples, the mean over outputs.

    Outputs are given batch by batch. Where all samples give the same, the energy itself counts.
    """
    parts = []
    for old, new in zip(before, after, strict=True):
        was, now = (np.concatenate([np.ravel(b) for b in batches]).astype(np.float64) for batches in (old, new))
        centred = [np.ravel(b - b.mean(axis=0, keepdims=True)) for b in (np.asarray(o, np.float64) for o in old)]
        energy = float(np.square(np.concatenate(centred)).sum()) or float(np.square(was).sum()) or 1.0
        parts.append(float(np.square(now - was).sum()) / energy)
    return float(np.mean(parts)) if parts else 0.0
