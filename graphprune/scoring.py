"""What a scoring pass is, and what all of them share: checked options, dead units at zero, group-wise normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from .errors import ModelError, UsageError
from .scores import FloatArray, Objective, Scores
from .uncollected import uncollected

if TYPE_CHECKING:
    from .graph import Graph
    from .groups import Group, Groups
    from .plan import Plan
    from .repair.before import Before
    from .weights import Weights

Needs = Literal["nothing", "data", "labels", "training"]
Normalize = Literal["none", "mean", "max", "lamp"]


class ScoringPass(Protocol):
    """A frozen dataclass whose fields are its options, called with a graph and its groups.

    ``name`` is the method's, ``needs`` what a user must bring, ``summary`` one line for ``graphprune passes``.
    ``scale_equivariant`` promises that multiplying every parameter by one positive number keeps the order of the units
    of every group. The call returns one finite, non-negative float64 array of shape (units,) for every group.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    summary: ClassVar[str]
    scale_equivariant: ClassVar[bool]

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Score every unit of every group."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What a pass makes of a model before widths are chosen.

    ``graph`` is pruned in place of the graph that was given: its model may be trained, or have its normalisations
    folded. ``groups`` are its groups, with the ids and units of those given. ``finish`` makes of it, once a plan is
    known, the graph to be rewritten: what the kept units weigh for their consumers may depend on how many they are.
    That graph has the same groups once more. ``before`` is what the pass kept of its run over the samples, if anything:
    repair of that graph on these samples then need not run it again.
    """

    graph: Graph
    groups: Groups
    scores: Scores
    finish: Callable[[Plan], Graph] | None = None
    before: Before | None = None


@runtime_checkable
class PreparingPass(ScoringPass, Protocol):
    """A pass that changes the model as well: ``prepare`` is called in place of the pass itself.

    The call gives the scores alone. ``chooses``, where a class has it and it is true, promises ``Scores.chosen``: such
    a method needs no budget.
    """

    def prepare(self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups]) -> Prepared:
        """Return the changed model with its scores; ``recouple`` couples a graph with the options of the run."""
        ...


@uncollected
def collect(
    method: ScoringPass,
    weights: Weights,
    groups: Groups,
    score: Callable[[Group], FloatArray],
    objective: Objective = "retained",
) -> Scores:
    """Score every group with ``score`` and return what a pass returns.

    The one rule that holds for all passes is applied here: a unit that owns weights, all of them zero, scores exactly
    0. Removing it costs nothing, whatever the method would say of it (random draws a number, and its distance from the
    other filters is not zero). Raises ModelError where a score is infinite or not a number.
    """
    values = {}
    for group in groups.values():
        raw = np.asarray(score(group), dtype=np.float64)
        assert raw.shape == (group.size,), (method.name, group.id, raw.shape)
        if not np.isfinite(raw).all():
            raise ModelError(
                "scores-not-finite",
                f"{method.name} finds no number for some units",
                where=group.id,
                hint="protect the layer with --keep, or take another method",
            )
        values[group.id] = np.where(weights.dead(group), 0.0, raw)
    options: dict[str, Any] = {}
    if is_dataclass(method):
        options = {f.name: getattr(method, f.name) for f in fields(method)}
    return Scores(values, method=method.name, objective=objective, options=options)


def choice(method: str, option: str, value: object, choices: Sequence[object]) -> None:
    """Raise UsageError unless the value of an option is one of its choices (True is not 1)."""
    if any(value == c and type(value) is type(c) for c in choices):
        return
    raise UsageError(
        "bad-option",
        f"{method} has no {option} {value!r}",
        where=option,
        hint=f"choose one of {', '.join(map(repr, choices))}",
    )


def relative(values: FloatArray) -> FloatArray:
    """Divide by the mean along the last axis, so that scores of groups or members of any size compare; 0 stays 0."""
    mean = values.mean(axis=-1, keepdims=True)
    shares: FloatArray = np.divide(values, mean, out=np.zeros_like(values), where=mean > 0)
    return shares


def energy_share(values: FloatArray) -> FloatArray:
    """Return every value's share of the sum of all values no smaller than it: LAMP's score (arXiv 2010.07611, sec. 3).

    Takes non-negative values of shape (units,). Equal values get equal shares; a largest value that is unique gets 1.
    """
    ascending = np.sort(values)
    tail = np.cumsum(ascending[::-1])[::-1]
    rest = tail[np.searchsorted(ascending, values, side="left")] if values.size else values
    return np.divide(values, rest, out=np.zeros_like(values), where=rest > 0)


def normalized(values: FloatArray, how: Normalize) -> FloatArray:
    """Make the scores of one group, shape (units,), comparable across groups: over its mean or maximum, or by LAMP.

    A z-score is not offered: a negative score would pay the solver for removing a unit.
    """
    if how == "mean":
        return relative(values)
    if how == "max":
        top = values.max(initial=0.0)
        return values / top if top > 0 else values
    return energy_share(values) if how == "lamp" else values
