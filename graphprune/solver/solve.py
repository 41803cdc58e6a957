"""Scores and a budget become a plan: one width a group, of least loss, within every limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from ..budget import Budget
from ..cost import FloatArray, Metric
from ..errors import UsageError
from ..groups import Group, Groups
from ..plan import Plan
from ..scores import Scores
from ..uncollected import uncollected
from .allocation import Allocation, allocate
from .branching import Effort
from .choices import Choices, losses, ranking
from .limits import Limits
from .proof import effort_of, loss_of, proved
from .rules import Multiple, Rules
from .search import closer, search, stretch, use_up
from .unreachable import unreachable

PART = 0.98
"""The part of the binding limit that should be used."""


@uncollected
def solve(
    groups: Groups,
    scores: Scores,
    budget: Budget | float | str,
    *,
    min_width: int = 1,
    multiple: Multiple = "auto",
    seed: int = 0,
    bound: bool = True,
    time_limit: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Choose the units every group keeps: least loss, as ``scores.objective`` says, within all limits of the budget.

    The budget may be what ``Budget.parse`` reads: 0.5 of the MACs, or ``"macs=0.5,params=0.6"``.

    Every group keeps its best units by score, ties going to the lower ordinal, at least ``min_width`` of them (0 lets
    groups vanish that can) and a multiple of ``multiple``, or all. "auto" aligns by size, a mapping by group id (and by
    size where it names none); both fall back to smaller multiples where the budget asks for it: everywhere to reach it,
    in a few groups to use 98% of it. A limit on latency needs ``groups.costs.latency``. The result does not depend on
    ``seed``, which is only noted in the plan. ``bound`` also computes a lower bound on the loss of any plan within the
    budget, of the same alignments (of the smallest, where they gave way). Where it leaves more than 2%, some work
    goes into better widths and a better bound, the same on every machine; ``time_limit``, in seconds of ``clock``, goes
    on with that until they meet or the time is over. Widths from a method's own problem (``scores.allocation``) stay.

    Raises UsageError for scores that do not fit the groups, for options out of range and for a limit on a latency that
    was not measured, and BudgetError where the budget cannot be reached, with what can.
    """
    budget = budget if isinstance(budget, Budget) else Budget.parse(budget)
    rules, effort = Rules(min_width, multiple), effort_of(time_limit, clock)
    values = [_scores_of(g, scores) for g in groups.groups]
    orders = [ranking(v) for v in values]
    tables = [
        losses(v[order], scores.objective, may_vanish=min_width == 0) for v, order in zip(values, orders, strict=True)
    ]
    if "latency" in budget.to_dict():
        groups.costs.measured(groups.sizes)
    asked = budget.limits(groups.costs.full)
    limits = Limits.of(groups.costs, asked)
    widths, least = groups.sizes.astype(np.float64), 0.0
    if groups.groups:
        widths, least = _optimise(groups, rules, tables, limits, asked, effort if bound else None, scores.allocation)
    elif limits.rows.rows:
        raise unreachable(groups, rules, widths, asked)
    kept = widths.astype(np.int64)
    loss = float(sum(table[w] for table, w in zip(tables, kept, strict=True)))
    least = min(least, loss)
    return Plan(
        keep={g.id: tuple(np.sort(o[:w]).tolist()) for g, o, w in zip(groups.groups, orders, kept, strict=True)},
        sizes={g.id: g.size for g in groups.groups},
        fingerprint=groups.fingerprint,
        method=scores.method,
        seed=seed,
        budget={str(m): v for m, v in budget.to_dict().items()},
        objective=loss,
        bound=least if bound else None,
        gap=(loss - least) / max(abs(loss), 1e-12) if bound else None,
        costs={m: float(groups.costs.evaluate(m, kept)) for m in groups.costs.metrics},
        coupling=groups.options,
    )


def _optimise(
    groups: Groups, rules: Rules, tables: list[FloatArray], limits: Limits, asked: Mapping[Metric, float],
    effort: Effort | None, allocation: Allocation | None = None,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Return widths within the limits, shape (groups,), and a lower bound on the loss (-inf without an effort for it).

    The bound holds for all widths of the alignments that the widths returned have.
    """
    unit = max(float(np.ptp(table[np.isfinite(table)])) for table in tables) or 1.0
    scaled = [table / unit for table in tables]
    for step in rules.steps:
        choices = rules.choices(groups, scaled, step)
        if limits.holds(choices.least):
            break
    else:
        raise unreachable(groups, rules, choices.least, asked)
    if not limits.rows.rows:
        best = np.minimum.reduceat(choices.loss, choices.start)
        last = np.where(choices.loss == best[choices.owner], choices.width, -1.0)
        return np.maximum.reduceat(last, choices.start), float(best.sum()) * unit
    worthwhile, least = limits.worthwhile(choices), -np.inf
    if allocation is None:
        widths, price = search(limits, worthwhile)
    else:
        widths, price = allocate(allocation, groups, limits, worthwhile, unit)
    if effort is not None:
        widths, least = proved(limits, worthwhile, widths, price, effort, improve=allocation is None)
    if limits.used(widths) < PART:
        coarse, steps = choices, rules.steps[rules.steps.index(step) :]
        widths, choices = _used_up(groups, rules, scaled, limits, steps, widths, price)
        if effort is not None and not coarse.hold(widths):
            _, least = proved(limits, choices, widths, price, effort, improve=False)
    return widths, least * unit


def _used_up(
    groups: Groups, rules: Rules, tables: list[FloatArray], limits: Limits, steps: tuple[int, ...], widths: FloatArray,
    price: FloatArray,
) -> tuple[FloatArray, Choices]:  # fmt: skip
    """Raise widths until a limit is used well, with the largest alignments that allow it; returns also the choices."""
    aligned = np.array([[rules.alignment(g, s) for s in steps] for g in groups.groups])
    above = np.minimum((widths[:, None] // aligned + 1) * aligned, groups.sizes[:, None])
    open_steps = ((above > widths[:, None]) & limits.fits(widths, above)).any(axis=0)
    for step in (s for s, is_open in zip(steps, open_steps, strict=True) if is_open):
        choices = rules.choices(groups, tables, step)
        widths = use_up(limits, choices, widths, price, PART)
        if limits.used(widths) >= PART:
            return widths, choices
    choices = rules.choices(groups, tables, steps[-1])
    if limits.readings.stepped:  # steps of kernels leave more over, and may
        return widths, choices
    widths = stretch(limits, choices, widths, price, PART)
    loss = loss_of(choices, widths)
    for step in steps if limits.used(widths) < PART else ():
        found = closer(limits, finer := rules.choices(groups, tables, step), loss, PART)
        if found is not None:
            return found, finer
    return widths, choices


def _scores_of(group: Group, scores: Scores) -> FloatArray:
    """Return the scores of a group; raises UsageError unless there is a finite one for every unit."""
    hint = f"{scores.method} must give {group.size} finite scores for this group"
    if group.id not in scores:
        raise UsageError("scores-missing", f"{scores.method} has no scores for it", where=group.id, hint=hint)
    values = np.asarray(scores[group.id])
    if values.shape != (group.size,) or values.dtype.kind not in "fiu":
        words = f"{scores.method} gives {values.dtype} scores of shape {values.shape} for {group.size} units"
        raise UsageError("scores-shape", words, where=group.id, hint=hint)
    if not np.isfinite(values).all():
        words = f"{scores.method} gives {int((~np.isfinite(values)).sum())} scores that are not finite numbers"
        raise UsageError("scores-not-finite", words, where=group.id, hint=hint)
    return values.astype(np.float64)
