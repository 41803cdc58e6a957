"""What passes share that score by moments of consumers' inputs: data or surrogates, layers, weights between groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..scoring import Needs, Prepared, choice, collect
from ..weights import Weights
from .halves import Halves

if TYPE_CHECKING:
    from ..data import Samples
    from ..graph import Graph
    from ..groups import Group, Groups
    from ..plan import Plan
    from ..scores import FloatArray, Objective, Scores
    from ..statistics.consumers import Consumer
    from ..statistics.moments import Moments
    from .before import Before
    from .elimination import Removal
    from .fit import Fit
    from .group_layers import GroupLayers, Summing
    from .layer import Layer

Update = Literal["auto", "none", "bias", "least-squares"]
Between = Literal["outputs", "energy"]
PROBING = 0.2
"""How much of the network's work on all samples goes into weighing groups against each other, about."""
FEWEST = 2
"""Samples that groups are weighed on at least."""


@dataclass(frozen=True)
class Calibrated:
    """A pass that scores by the first and second moments of what consumers are fed, on ``samples`` samples of ``data``.

    ``data`` is what ``graphprune.data.open_samples`` opens, with ``preprocess`` for images; without it surrogate
    samples are made from what the inputs look like, drawn by ``seed``, and a note says so. ``ridge`` is added to the
    diagonals of second moments, as a part of their mean. ``update`` changes the consumers' weights once a plan is
    known, by the same moments: "none", "bias" or "least-squares". "auto" leaves that to ``graphprune.repair.repair``
    where there is data, which does more: it sees the errors of what was pruned before; without data it is
    "least-squares". A score is an error, relative to the energy of a layer's outputs. By ``between="outputs"``
    those of a group are scaled to what its error was seen to do at the model's outputs, with the group alone pruned
    to ``probe`` of its units and its consumers fitted, on the last ``probes`` samples, which nothing else sees if there
    are twice as many; that is a run on them a group, from the group on. Of many groups fewer samples are looked at, so
    that all of that takes about ``PROBING`` of a run on all samples, but at least ``FEWEST``. ``between="energy"``
    takes scores as they are.

    ``statistics`` are the moments themselves, where they were taken before (``graphprune stats``): the path of a file,
    or ``Statistics``. Then the model does not run for them; groups are taken as with ``between="energy"`` unless there
    is ``data`` as well.
    """

    data: Any = field(default=None, compare=False, repr=False)
    preprocess: Any = None
    statistics: Any = field(default=None, compare=False, repr=False)
    samples: int = 256
    ridge: float = 0.01
    update: Update = "auto"
    between: Between = "outputs"
    probe: float = 0.375
    probes: int = 16
    seed: int = 0

    name: ClassVar[str]
    needs: ClassVar[Needs] = "data"
    summary: ClassVar[str]
    scale_equivariant: ClassVar[bool] = False
    objective: ClassVar[Objective] = "sum"
    without_data: ClassVar[bool] = True
    """Whether the pass makes samples of its own where there is no data."""
    narrows: ClassVar[bool] = False
    """Whether units of wide layers are ordered by few directions of their columns (``repair.narrowed``)."""

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "update", self.update, ("auto", "none", "bias", "least-squares"))
        choice(self.name, "between", self.between, ("outputs", "energy"))
        for option, below in (("ridge", np.inf), ("probe", 1.0)):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < below:
                raise self._bad(option, f"a number above 0{f' and below {below:g}' if below < np.inf else ''}")
        for option, least in (("samples", 1), ("probes", 1), ("seed", 0)):
            self._integer(option, least)

    def _integer(self, option: str, least: int) -> None:
        value = getattr(self, option)
        if type(value) is not int or value < least:
            raise self._bad(option, f"an integer from {least} up")

    def _bad(self, option: str, wanted: str) -> UsageError:
        words = f"{self.name} has no {option} {getattr(self, option)!r}"
        return UsageError("bad-option", words, where=option, hint=f"give {wanted}")

    def score(self, layers: GroupLayers, size: int) -> FloatArray | Removal:
        """Return the scores of a group of ``size`` units from its layers (at least one), shape (units,).

        A method that removes units one by one returns the order instead, with what each adds to the error.
        """
        raise NotImplementedError

    def fit(self, layer: Layer, removed: Any) -> Fit:
        """Return the weights of a layer once ``removed`` columns are gone; see ``update``."""
        from .fit import compensated, least_squares

        return compensated(layer, removed) if self.update == "bias" else least_squares(layer, removed, self.ridge)

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, losses that compare across groups; the model is not changed.

        Raises UsageError for data that does not fit, ModelError for a model that does not run on it and NaN weights.
        """
        return self._measured(graph, groups)[0]

    def prepare(self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups]) -> Prepared:
        """Return the scores, and what changes the consumers' weights once the widths are known."""
        left = self.update == "none" or (self.update == "auto" and self.data is not None)
        scores, moments, before = self._measured(graph, groups, keep=left and self.data is not None)
        if left:
            return Prepared(graph, groups, scores, before=before)
        return Prepared(graph, groups, scores, partial(self._updated, graph, groups, recouple, moments.of))

    def _updated(
        self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups],
        moments_of: Callable[[Consumer], Moments], plan: Plan,
    ) -> Graph:  # fmt: skip
        """Return the graph with the consumers of a plan fitted by the moments that scored them."""
        from ..folding import with_values
        from ..layout import kept_by
        from .apply import cuts_of, fit_all
        from .bias import with_biases

        cuts = list(cuts_of(graph, groups, kept_by(groups, plan)))
        made = with_biases(graph, [c.consumer for c in cuts])
        if made is not graph:
            groups = recouple(made)
            cuts = list(cuts_of(made, groups, kept_by(groups, replace(plan, fingerprint=groups.fingerprint))))
        values = fit_all(cuts, moments_of, self.fit).values
        return with_values(made, values) if values else graph

    def _measured(self, graph: Graph, groups: Groups, *, keep: bool = False) -> tuple[Scores, Halves, Before | None]:
        """Return the scores, the moments, and with ``keep`` what layers put out, for repair."""
        from .group_layers import Summing
        from .probing import Probe

        moments, probes, before, notes = self._taken(graph, groups, keep=keep)
        summing, weights = Summing.of(graph, groups), Weights(graph)
        raw = {g.id: self._raw(g, summing, moments, weights) for g in groups.groups}
        moments = moments.together()
        notes += (*moments.notes, *_missing(summing))
        if self.between == "outputs" and self.objective == "sum" and probes is not None:
            raw = Probe(graph, groups, moments.of, probes, self.ridge, self.probe).scaled(raw)
        scores = collect(self, weights, groups, lambda g: raw[g.id], self.objective)
        plain = (f.name for f in fields(self) if f.name not in ("data", "preprocess", "statistics"))
        options = {name: getattr(self, name) for name in plain}
        return replace(scores, options=options, notes=tuple(dict.fromkeys(notes))), moments, before

    def _taken(
        self, graph: Graph, groups: Groups, *, keep: bool
    ) -> tuple[Halves, Samples | None, Before | None, tuple[str, ...]]:
        """Return the moments, the samples that outputs are compared on, what repair may use again, and notes."""
        from ..statistics.consumers import consumers_of
        from .before import Before
        from .samples import opened

        ready = None if self.statistics is None else Halves.stored(graph, self.statistics)
        if ready is not None and self.data is None:
            return ready, None, None, ()
        data, notes = opened(graph, self.data, self.preprocess, self.samples, self.seed)
        if ready is not None:
            return ready, self._held_out(data, len(groups))[1], None, notes
        before = Before.of(graph, tuple(consumers_of(graph, groups)), data, self.seed) if keep else None
        data, probes = self._held_out(data, len(groups))
        return Halves.of_samples(graph, groups, data, self.seed, before), probes, before, notes

    def _held_out(self, data: Samples, groups: int) -> tuple[Samples, Samples]:
        """Return the samples that moments are taken of, and those that outputs are compared on: others, if enough."""
        weighs = self.between == "outputs" and self.objective == "sum"
        unit = data.fixed_batch or 1
        # A group is pruned once, and the network runs from there on: half of it on average.
        count = min(self.probes, max(round(2 * PROBING * len(data) / max(groups, 1)), FEWEST))
        count, whole = -(-count // unit) * unit, len(data) // unit * unit
        if not weighs or whole < 2 * count + 2 * unit:
            return data, data.first(count)
        # The last ones, not any: where neighbours are alike (views of a scene, frames), these are of other scenes.
        return data.first(whole - count), replace(data, order=data.order[whole - count : whole])

    def _raw(self, group: Group, summing: Summing, moments: Halves, weights: Weights) -> FloatArray:
        """Score a group by its layers; one without any by the part of its weights' energy that each unit has."""
        from .elimination import Removal
        from .group_layers import even
        from .monotone import as_scores
        from .validation import few, validated

        layers = summing.layers(group.id, moments.of)
        if not layers.layers or not even(layers.layers):
            energy = weights.table(group).sum(axis=0)
            return np.asarray(energy / max(float(energy.sum()), 1e-300))
        # Where errors are found out on the other half anyway, the order may come from a rough look at wide layers.
        judged = len(moments.halves) == 2 and few(layers.layers, 2)
        found = self._roughly(layers, group.size) if judged and self.narrows else self.score(layers, group.size)
        if not isinstance(found, Removal):
            return found
        if judged:
            factors = layers.factors
            del layers  # the matrices of all samples, before those of the halves
            first, second = (summing.layers(group.id, half.of, weighed=False).layers for half in moments.halves)
            found = validated(found, (first, second), factors, self.ridge)
        return as_scores(found)

    def _roughly(self, layers: GroupLayers, size: int) -> FloatArray | Removal:
        """Score a group by few directions of its wide layers; all of it costs what it does by all columns."""
        from .elimination import Removal
        from .narrowed import narrowed

        rough = tuple(narrowed(layers.layers))
        if all(new is old for new, old in zip(rough, layers.layers, strict=True)):
            return self.score(layers, size)
        found = self.score(replace(layers, layers=rough), size)
        seen = sum(factor * layer.energy for factor, layer in zip(layers.factors, rough, strict=True)) / len(rough)
        return replace(found, added=found.added / seen) if isinstance(found, Removal) else found


def _missing(summing: Summing) -> tuple[str, ...]:
    """Say which groups are not scored by data and why, and which in part."""
    reasons: dict[str, list[str]] = {}
    for name, consumers in summing.consumers.items():
        if not consumers:
            why = next((w.partition(": ")[2] for w in summing.missed[name]), "no stored weight sums over them")
            reasons.setdefault(why, []).append(name)
        elif any(_uneven(unit.reshape(consumer.blocks, -1)) for consumer, unit in consumers):
            reasons.setdefault("some own more columns of a layer than others", []).append(name)
    partly = {reason for name, missed in summing.missed.items() if summing.consumers[name] for reason in missed}
    notes = []
    for why, names in reasons.items():
        few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        notes.append(f"scored by the energy of their weights, since {why}: {few}")
    if partly:
        few = "; ".join(sorted(partly)[:3]) + ("; ..." if len(partly) > 3 else "")
        notes.append(f"not counted in the scores: {few}")
    return tuple(notes)


def _uneven(units: NDArray[np.integer]) -> bool:
    """Tell whether units own different numbers of a block's columns; ``units`` has shape (blocks, columns)."""
    counts = (np.unique(row[row >= 0], return_counts=True)[1] for row in units)
    return any(len(set(own.tolist())) > 1 for own in counts)
