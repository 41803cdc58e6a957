"""From a model to one that is ready to be cut: gates trained, their means folded into the weights, units scored.

What VIBNet and SBP share. The widths are chosen afterwards, by the method's threshold or by a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..finetune.report import Score, in_words
from ..folding import scaled
from ..graph import Graph
from ..groups import Group, Groups
from ..plan import Plan
from ..scores import BoolArray, FloatArray, Scores
from ..scoring import Prepared, ScoringPass, collect
from ..weights import Weights
from .gate import Gate
from .inputs import INPUTS, input_details, with_input_scales
from .options import GateTraining
from .statistics import has_batch_norms, recalibrated
from .training import Method as Method
from .training import Trained, train_gates
from .watch import histogram, spread
from .watch import keep as keep
from .write_back import written_back

Recouple = Callable[[Graph], Groups]


def prepared_by_gates(
    asked: ScoringPass, options: GateTraining, method: Method, graph: Graph, groups: Groups, recouple: Recouple
) -> Prepared:
    """Train gates on a graph's model, fold their means into what consumes the units, and score the units.

    Batch normalisations get their statistics without noise, and again for the units that a plan keeps. Raises what
    ``training.train_gates`` and ``folding.scaled`` raise.
    """
    trained = train_gates(graph, groups, options, method, asked.name)
    tuned = written_back(graph, trained.model.module)
    means = {name: expected(gate) for name, gate in trained.model.gates.items()}
    kept = {name: keep(values, options.threshold, options.min_keep) for name, values in trained.log_ratios().items()}
    if INPUTS in means:
        tuned = with_input_scales(tuned, means.pop(INPUTS) * kept[INPUTS])
    folded = scaled(tuned, recouple(tuned), means)
    scores = scored(asked, options, method, trained, graph, groups, kept)
    if not has_batch_norms(folded):
        return Prepared(folded, recouple(folded), scores)

    def finish(plan: Plan) -> Graph:
        masks = {g.id: np.isin(np.arange(g.size), plan.keep[g.id]) for g in groups.groups}
        return _recalibrated(folded, recouple(folded), trained, options, masks)

    ready = _recalibrated(folded, recouple(folded), trained, options, None)
    return Prepared(ready, recouple(ready), scores, finish)


def _recalibrated(
    graph: Graph, groups: Groups, trained: Trained, options: GateTraining, kept: Mapping[str, BoolArray] | None
) -> Graph:
    return recalibrated(
        graph, groups, trained.samples, kept=kept, batch_size=options.batch_size, device=options.device,
        seed=options.seed,
    )  # fmt: skip


def expected(gate: Gate) -> FloatArray:
    """Return what multiplies a gate's kept units, shape (units,)."""
    values: FloatArray = gate.expected().cpu().numpy().astype(np.float64)
    return values


def scored(
    asked: ScoringPass, options: GateTraining, method: Method, trained: Trained, graph: Graph, groups: Groups,
    kept: Mapping[str, BoolArray],
) -> Scores:  # fmt: skip
    """Return the scores: what training paid for each unit, in the units of its loss.

    A unit of a group with weight w that carries I nats costs kl * w * I of the objective. Where training has come to
    rest, no unit is worth more to the loss than it costs, to first order, or less: so what it costs is what it is
    worth, and that compares across groups. Units without a gate score above all others: nothing is known of them.
    """
    gates, weights = trained.model.gates, trained.model.weights
    worth = {name: trained.kl * weights[name] * method.worth(gate) for name, gate in gates.items()}
    top = max((float(v.max()) for name, v in worth.items() if name != INPUTS), default=0.0)

    def score(group: Group) -> FloatArray:
        return worth[group.id] if group.id in worth else np.full(group.size, 2.0 * top + 1.0)

    scores = collect(asked, Weights(graph), groups, score, "sum")
    chosen = {g.id: kept.get(g.id, np.ones(g.size, dtype=np.bool_)) for g in groups.groups}
    return replace(scores, chosen=chosen, details=details(trained, options, graph, kept), notes=notes(trained, graph))


def details(
    trained: Trained, options: GateTraining, graph: Graph, kept: Mapping[str, BoolArray]
) -> dict[str, Any]:  # fmt: skip
    """Return what a report says of the training, as plain data."""
    ratios = trained.log_ratios()
    report, model = trained.report, trained.model
    epochs = [
        {"epoch": e.epoch, "loss": e.loss, "held_out": None if e.held_out is None else vars(e.held_out), **noted}
        for e, noted in zip(report.history, trained.noted, strict=True)
    ]
    found: dict[str, Any] = {
        "loss": report.loss,
        "samples": dict(report.samples),
        "kl": trained.kl,
        "weights": model.gating.to_dict(options.positions),
        "threshold": options.threshold,
        "log_ratios": {n: {**spread(v, options.threshold), **histogram(v)} for n, v in ratios.items() if n != INPUTS},
        "without_gates": dict(model.gating.left),
        "before": None if report.before is None else vars(report.before),
        "epochs": epochs,
    }
    if INPUTS in ratios:
        found["inputs"] = input_details(graph, ratios[INPUTS], kept[INPUTS])
    return found


def notes(trained: Trained, graph: Graph) -> tuple[str, ...]:
    """Return what a user should know."""
    report, last = trained.report, trained.report.after
    counts = report.samples
    told = [f"weights and gates were trained for {len(report.history)} epochs on {counts['trained']} samples"]
    if last is not None:
        cut = Score(**trained.noted[-1]["cut"])
        told.append(
            f"on {counts['held out']} other samples: {in_words(last)} with all units, {in_words(cut)} with those above "
            "the threshold"
        )
    if trained.model.gating.left:
        told.append(f"groups without gates, kept whole unless a budget asks: {', '.join(trained.model.gating.left)}")
    if INPUTS in trained.model.gates:
        told.append(f"{graph.inputs[0]!r} has as many features as before: those without use have weights of zero")
    return (*told, *report.warnings)
