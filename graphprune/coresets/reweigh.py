"""Weighing the units that were drawn, in the weights of what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..folding import consumers_of, scaled
from ..graph import Graph
from ..groups import Groups
from ..scores import FloatArray
from .sampling import Sample
from .sensitivity import Sensitivity

if TYPE_CHECKING:
    from ..plan import Plan


def not_reweighed(graph: Graph, groups: Groups, found: Mapping[str, Sensitivity]) -> dict[str, str]:
    """Return the groups whose drawn units keep their weights, with the reason.

    They are those of which no bound is known, so that draws follow no sensitivity, and those that some place sums over
    without stored weights of its own.
    """
    left = {name: "no bound is known" for name, one in found.items() if not one.consumers}
    for name, consumers in consumers_of(graph, groups).items():
        if name not in left and (consumers.reason or not consumers.parts):
            left[name] = consumers.reason or "no stored weights take its units"
    return {name: left[name] for name in groups if name in left}


def reweighed(graph: Graph, groups: Groups, plan: Plan, samples: Mapping[str, Sample]) -> Graph:
    """Return the graph in which consumers weigh each kept unit p by c(p) / (m pr(p)), at the plan's widths.

    Removed units keep their weight. A group of which the plan keeps other units than the first drawn (a plan that was
    not made by these draws) is left as it is: the weights would be biased.
    """
    scales: dict[str, FloatArray] = {}
    for name, drawn in samples.items():
        units = plan.keep.get(name)
        if units is None or len(units) == groups[name].size:
            continue
        weights = drawn.weights(len(units))
        kept = np.asarray(units, dtype=np.int64)
        mine = weights[kept] > 0
        if mine.all() and int((weights > 0).sum()) == len(kept):
            scales[name] = np.where(weights > 0, weights, 1.0)
    return scaled(graph, groups, scales) if scales else graph
