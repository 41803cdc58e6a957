"""Repair after any method: the weights that are left, fitted layer by layer to what the model gave before.

Consumers are taken in the order of the graph. What each is fed by the pruned network, whose earlier consumers are
repaired already, is set against what it gave in the original one: so every fit sees, and mends, the errors of those
before it (He et al. 2017, ThiNet; methods.md 6.7 to 6.9). Layers that lose nothing are fitted as well where they stand
behind such errors. The original and the pruned network run once each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..coupling import couple_like
from ..errors import UsageError
from ..folding import with_values
from ..graph import Array, Graph
from ..groups import Groups
from ..layout import kept_by
from ..scoring import choice
from ..statistics.consumers import consumers_of, unseen
from ..statistics.moments import Cross
from ..statistics.settings import Settings
from .apply import NOTHING_LEFT, Cut, Fitter, Outcome, cuts_of, fit_all, masked, not_fitted, record
from .before import Before, rows_for
from .behind import behind, inside
from .bias import with_biases
from .fit import compensated, least_squares
from .halves import LEAST
from .layer import Layer, Targets
from .places import Place, pairs_of
from .restored import restoring
from .ridges import best_ridge
from .samples import check_rows, opened
from .shrunk import shrunk

if TYPE_CHECKING:
    from ..data import Samples
    from ..plan import Plan
    from ..scores import FloatArray
    from ..statistics.sequential import Pair
    from ..statistics.targets import Targets as Outputs

How = Literal["least-squares", "bias", "obs"]
JUDGES = 128
"""Outputs of a layer by which its ridge is chosen at most."""


@dataclass(frozen=True)
class Repaired:
    """A model whose kept units' weights make up for the removed ones, and what a user should know of it.

    ``graph`` has the same units; columns of removed units are as they were, so that rewriting it with the plan is what
    was repaired. ``before`` and ``after`` tell for every weight that was fitted what part of its output's energy is
    missed, on the samples it was fitted to: fed by the repaired network, with the old weight and with the new one.
    ``left`` says why weights are as they were.
    """

    graph: Graph
    notes: tuple[str, ...]
    before: dict[str, float]
    after: dict[str, float]
    left: dict[str, str] = field(default_factory=dict)


def repair(
    graph: Graph, groups: Groups, plan: Plan, samples: Any = None, *, how: How = "least-squares", ridge: float = 1e-2,
    seed: int = 0, count: int = 256, original: Graph | None = None, before: Before | None = None,
) -> Repaired:  # fmt: skip
    """Fit the consumers of a plan's units to what the model gave before, on samples without labels.

    ``samples`` are samples, or what ``graphprune.data.open_samples`` opens, or None for made ones; the first ``count``
    are taken. ``how="least-squares"`` fits weights and biases, with at least ``ridge`` times the mean second moment
    towards the old ones (as much as makes fits to half of the samples hold on the other half), and scales outputs that
    others read to their old variance; layers that lose nothing are fitted where they read errors. "bias": only biases.
    "obs" fits weights by the moments of the unpruned model alone, which is optimal brain surgeon, and runs the model
    once instead of twice. ``original`` is the model that is to be approached, where ``graph`` was changed since (its
    units reweighed, say): it must have the same nodes. ``seed`` chooses the rows that are looked at. ``before`` is what
    a method kept of its run of this graph on these samples, which is then not run again.

    Raises UsageError for samples and options that do not fit, PlanError for another model's plan, ModelError for a
    model that does not run on the samples.
    """
    choice("repair", "how", how, ("least-squares", "bias", "obs"))
    if not ridge > 0:
        raise UsageError("bad-option", f"repair has no ridge {ridge!r}", where="ridge", hint="give a number above 0")
    cuts = list(cuts_of(graph, groups, kept_by(groups, plan)))
    base = with_biases(graph, [c.consumer for c in cuts])
    if base is not graph:
        groups = couple_like(groups, base)
        cuts = list(cuts_of(base, groups, kept_by(groups, replace(plan, fingerprint=groups.fingerprint))))
    data, notes = opened(graph, samples, None, count, seed)
    if not cuts:
        return Repaired(graph, (*notes, _nothing(graph, groups, plan)), {}, {})
    if before is not None and not (original is None and before.is_of(graph, data, seed)):
        before = None
    settings = Settings(seed=seed, rows=_rows(cuts), single=True) if before is None else before.settings
    if how == "obs":
        outcome = _at_once(base, groups, cuts, data, settings, partial(least_squares, ridge=ridge))
    elif how == "bias":
        outcome = _in_stages(base, cuts, data, settings, None, original, groups, plan, before)
    else:
        outcome = _in_stages(base, cuts, data, settings, ridge, original, groups, plan, before)
    made = with_values(base, outcome.values) if outcome.values else graph
    return Repaired(made, (*notes, *_notes(outcome, len(data))), outcome.before, outcome.after, outcome.left)


def _nothing(graph: Graph, groups: Groups, plan: Plan) -> str:
    """Say why no weight can be fitted: none loses columns, or none of those that do is one to be fitted."""
    lost = {name for name, units in plan.keep.items() if len(units) < groups[name].size}
    reasons = dict.fromkeys(one.reason for one in unseen(graph, groups) if lost.intersection(one.groups))
    return (
        f"nothing can be repaired: {'; '.join(reasons)}"
        if reasons
        else "nothing is to be repaired: no weight loses columns"
    )


def _rows(cuts: Sequence[Cut]) -> int:
    """Return how many rows of each consumer are looked at: many, where what they are to give takes little room."""
    return rows_for([c.consumer for c in cuts])


def _at_once(
    graph: Graph, groups: Groups, cuts: Sequence[Cut], data: Samples, settings: Settings, fitter: Fitter
) -> Outcome:
    from ..statistics.collect import collect

    consumers = [c.consumer for c in cuts if not c.consumer.refusal]
    return fit_all(cuts, collect(graph, groups, data, settings, consumers=consumers).of, fitter)


def _in_stages(
    graph: Graph, cuts: Sequence[Cut], data: Samples, settings: Settings, ridge: float | None, original: Graph | None,
    groups: Groups, plan: Plan, before: Before | None = None,
) -> Outcome:  # fmt: skip
    """Fit consumers one after the other: weights with at least this ridge, or only biases where it is None."""
    from ..statistics.sequential import sequential

    outcome = Outcome()
    outcome.left.update({c.consumer.parameter: c.consumer.refusal for c in cuts if c.consumer.refusal})
    outcome.left.update({c.consumer.parameter: NOTHING_LEFT for c in cuts if c.removed.all()})
    enough = ridge is not None and len(data) >= LEAST * (data.fixed_batch or 1)
    every = list(consumers_of(graph, groups)) if enough else []
    more, inner = list(behind(graph, every, cuts)), inside(graph, every)
    fitted = [c for c in (*cuts, *more) if c.consumer.parameter not in outcome.left]
    if not fitted:
        return outcome
    running = shrunk(graph, groups, plan, fitted)
    pairs = None if running is None else pairs_of(running, groups, original)
    values: dict[str, Array] = {}
    if running is None or pairs is None:
        running, values = [Place.masked(c) for c in fitted], masked(cuts, graph)
        pairs = pairs_of(running, groups, original)
    assert pairs is not None
    kept = before is not None and before.serves(pairs)
    targets = before.targets if kept and before else _targets(pairs, data, settings)
    places = {place.consumer.node: place for place in running}
    for stage in sequential(pairs, data, settings, targets, values, 2 if enough else 1):
        for pair in stage.pairs:
            place, cross = places[pair.pruned.node], stage.cross(pair)
            check_rows(cross.x.rows, len(data))
            reason = not_fitted(place.cut, cross.x, place.consumer.blocks)
            if reason:
                outcome.left[place.cut.consumer.parameter] = reason
                continue
            fitter = _fitter(place, stage.parts(pair), ridge)
            if place.cut.consumer.node in inner and place.cut.removed.any():
                fitter = restoring(fitter)
            made = record(outcome, place, list(_layers(place, cross, targets.variance(pair.dense))), fitter)
            if made:
                stage.set(made)
    return outcome


def _targets(pairs: Sequence[Pair], data: Samples, settings: Settings) -> Outputs:
    """Run the original for what its consumers put out."""
    from ..statistics.collect import targets_of

    skips = {p.dense.node: p.skip for p in pairs if p.skip is not None}
    return targets_of([p.dense for p in pairs], data, settings, skips)


def _fitter(place: Place, parts: Sequence[Cross], least: float | None) -> Fitter:
    """Return how a consumer is fitted; the ridge is the one that holds across two parts of the samples."""
    if least is None:
        return compensated
    if len(parts) < 2:
        return partial(least_squares, ridge=least)
    first, second = ([_thinned(layer) for layer in _layers(place, part)] for part in parts)
    return partial(least_squares, ridge=best_ridge(first, second, list(place.removed), least), validate=False)


def _thinned(layer: Layer) -> Layer:
    """Return a layer with at most ``JUDGES`` of its outputs, evenly spread: a ridge holds for all or for none."""
    targets, every = layer.targets, len(layer.weights)
    if every <= JUDGES or targets is None:
        return layer
    some = np.arange(JUDGES) * every // JUDGES
    fewer = Targets(targets.cross[some], targets.mean[some], targets.second[some])
    return replace(layer, weights=layer.weights[some], targets=fewer)


def _layers(place: Place, cross: Cross, own: FloatArray | None = None) -> Iterator[Layer]:
    """Yield the blocks of a consumer, of the columns that are looked at, with targets of the original network.

    ``own`` is the variance of what it gave there, shape (all its outputs,), where that is not the targets'.
    """
    mean, second = cross.mean, cross.second
    energy = cross.variance + np.square(mean)
    if own is not None and place.outputs is not None:
        own = own[place.outputs]
    alone = (cross.variance if own is None else own).reshape(mean.shape)
    for b, weights in enumerate(place.weights()):
        wanted = Targets(second[b], mean[b], energy[b], alone[b])
        yield Layer.of(weights, cross.x.block(b), centred=place.consumer.bias is not None, targets=wanted)


def _notes(outcome: Outcome, samples: int) -> tuple[str, ...]:
    """Say what was fitted, and what was not and why."""
    notes = []
    if outcome.after:
        worst = max(outcome.after.values())
        words = (
            f"{len(outcome.after)} weights were fitted on {samples} samples; the worst misses {worst:.0%} of its output"
        )
        notes.append(words)
    reasons: dict[str, list[str]] = {}
    for name, reason in outcome.left.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        notes.append(f"{len(names)} weights were not repaired, since {reason}: {few}")
    return tuple(notes)
