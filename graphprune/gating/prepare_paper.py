"""As ``prepare``, with gates before the bias: means go into the filters, what removed units leave into biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..errors import ModelError
from ..folding import constants_left, scaled, scaled_at_producers, with_constants
from ..folding.operators import arguments
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from ..groups import Groups
from ..interpret.gates import insert_gates
from ..plan import Plan
from ..scores import BoolArray, FloatArray
from ..scoring import Prepared, ScoringPass
from ..sites import sites_of
from .inputs import INPUTS, with_input_scales
from .options import GateTraining
from .paper import Placement, placed
from .prepare import Recouple, expected, keep, scored
from .training import Method, train_gates
from .write_back import written_back

PADDED = "its sums see zero padding beside what a removed unit leaves, and a torch module's bias is the same everywhere"


@dataclass(frozen=True)
class Learned:
    """A trained model without its gates; ``means`` are E[theta] by group that has a gate, shape (units,)."""

    graph: Graph
    groups: Groups
    placement: Placement
    means: Mapping[str, FloatArray]

    def folded(self, kept: Mapping[str, BoolArray] | None = None) -> Graph:
        """Return the model with the means in its weights, where some units are kept, what the others leave in biases.

        It computes what the gated model computes in evaluation with the same units kept.
        """
        means = {n: m for n, m in self.means.items() if n in self.placement.at_weights}
        masks = {} if kept is None else {n: kept[n] for n in means if not kept[n].all()}
        means = {n: m * masks.get(n, 1.0) for n, m in means.items()}
        graph = scaled_at_producers(self.graph, self.groups, means)
        constants = constants_left(graph, self.groups, {n: ~mask for n, mask in masks.items()})
        return with_constants(graph, constants)


def prepared_at_weights(
    asked: ScoringPass, options: GateTraining, method: Method, graph: Graph, groups: Groups, recouple: Recouple
) -> Prepared:
    """Train gates before the bias, fold their means into the weights that make the units, and score the units.

    Batch normalisations keep their statistics throughout. Groups that this placement cannot serve have their gates at
    the consumers; the report says why. Raises what ``training.train_gates`` and the functions of ``folding`` raise.
    """
    placement = servable(graph, groups)
    options = replace(options, batch_norm="freeze")
    method = replace(method, insert=partial(insert_gates, where=placement.sites))
    trained = train_gates(graph, groups, options, method, asked.name)
    tuned = written_back(graph, trained.model.module)
    means = {name: expected(gate) for name, gate in trained.model.gates.items()}
    kept = {name: keep(values, options.threshold, options.min_keep) for name, values in trained.log_ratios().items()}
    if INPUTS in means:
        tuned = with_input_scales(tuned, means.pop(INPUTS) * kept[INPUTS])
    tuned = scaled(tuned, recouple(tuned), {n: m for n, m in means.items() if n in placement.left})
    learned = Learned(tuned, recouple(tuned), placement, means)

    def finish(plan: Plan) -> Graph:
        return learned.folded({g.id: np.isin(np.arange(g.size), plan.keep[g.id]) for g in groups.groups})

    ready = learned.folded()
    scores = scored(asked, options, method, trained, graph, groups, kept)
    told = {**scores.details, "at_consumers": dict(placement.left)}
    return Prepared(ready, recouple(ready), replace(scores, details=told), finish)


def servable(graph: Graph, groups: Groups) -> Placement:
    """Return where gates stand so that what is left of any unit can be folded; tried on the model as it is."""
    placement = placed(graph, groups)
    reasons = dict(placement.left)
    if not isinstance(graph.source, OnnxSource):
        reasons |= dict.fromkeys(_padded(graph, groups), PADDED) | reasons
    names = [name for name in groups if name not in reasons]
    if _refusal(graph, groups, names):
        reasons |= {name: why for name in names if (why := _refusal(graph, groups, [name]))}
    return placed(graph, groups, reasons)


def _refusal(graph: Graph, groups: Groups, names: Sequence[str]) -> str:
    """Return why some groups cannot lose any unit before the bias, nothing if they can."""
    masks = {name: np.ones(groups[name].size, dtype=np.bool_) for name in names}
    try:
        bare = scaled_at_producers(graph, groups, {name: np.zeros(len(mask)) for name, mask in masks.items()})
        with_constants(bare, constants_left(bare, groups, masks))
    except ModelError as error:
        return error.message
    return ""


def _padded(graph: Graph, groups: Groups) -> Iterator[str]:
    """Yield the groups that a padded convolution sums over."""
    for site in sites_of(graph, groups, "consumers"):
        node = graph.nodes[site.node]
        if node.family == "contraction" and "spatial" in node.attrs:
            padding = arguments(graph, site.node).get("padding", 0)
            if padding == "same" or (not isinstance(padding, str) and np.any(padding)):
                yield from (f.group for f in site.factors)
