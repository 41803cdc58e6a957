"""Scores and a budget become a plan: one width a group, of least loss, within every limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..budget import Budget
from ..cost import METRICS, FloatArray, Metric
from ..errors import BudgetError, UsageError
from ..groups import Group, Groups
from ..plan import Plan
from ..scores import Scores
from ..uncollected import uncollected
from .allocation import Allocation, allocate
from .choices import Choices, auto_multiple, losses, permitted, ranking
from .limits import Limits
from .relaxation import lower_bound
from .search import enumerate_all, few, search, stretch, use_up

PART = 0.98
"""The part of the binding limit that should be used."""
FINER = (16, 8, 4, 2, 1)
"""Largest alignments that "auto" falls back to, one after the other."""


@dataclass(frozen=True)
class Rules:
    """Which widths a plan may have. Raises UsageError for options out of range."""

    min_width: int
    multiple: int | Literal["auto"]

    def __post_init__(self) -> None:
        """Check both."""
        if type(self.min_width) is not int or self.min_width < 0:
            raise _usage(
                "min-width",
                f"{self.min_width!r} is not a width",
                "give a whole number, such as 8; 0 lets branches vanish",
            )
        if self.multiple != "auto" and (type(self.multiple) is not int or self.multiple < 1):
            raise _usage("multiple", f"{self.multiple!r} is not a multiple", "give a whole number from 1 up, or auto")

    @property
    def steps(self) -> tuple[int, ...]:
        """Largest alignments to try, the preferred one first."""
        return FINER if self.multiple == "auto" else (self.multiple,)

    def choices(self, groups: Groups, tables: list[FloatArray], step: int) -> Choices:
        """Return the permitted widths with alignments of at most ``step``."""
        aligned = [step if self.multiple != "auto" else min(auto_multiple(g), step) for g in groups.groups]
        widths = [permitted(g, self.min_width, a) for g, a in zip(groups.groups, aligned, strict=True)]
        return Choices.of(widths, tables)


@uncollected
def solve(
    groups: Groups,
    scores: Scores,
    budget: Budget,
    *,
    min_width: int = 1,
    multiple: int | Literal["auto"] = "auto",
    seed: int = 0,
    bound: bool = True,
) -> Plan:
    """Choose the units every group keeps: least loss, as ``scores.objective`` says, within all limits of the budget.

    Every group keeps its best units by score, ties going to the lower ordinal, at least ``min_width`` of them (0 lets
    groups vanish that can) and a multiple of ``multiple``, or all. "auto" aligns by size and falls back to smaller
    multiples where the budget asks for it: everywhere to reach it, in a few groups to use 98% of it. The result does
    not depend on ``seed``, which is only noted in the plan. ``bound`` also computes a lower bound on the loss of any
    plan within the budget, of any widths from the minimum up for "auto" and else of the same multiples.

    Raises UsageError for scores that do not fit the groups and for options out of range, and BudgetError where the
    budget cannot be reached, with what can.
    """
    rules = Rules(min_width, multiple)
    values = [_scores_of(g, scores) for g in groups.groups]
    orders = [ranking(v) for v in values]
    tables = [losses(v[order], scores.objective) for v, order in zip(values, orders, strict=True)]
    asked = budget.limits(groups.costs.full)
    limits = Limits.of(groups.costs, asked)
    widths, least = groups.sizes.astype(np.float64), 0.0
    if groups.groups:
        widths, least = _optimise(groups, rules, tables, limits, asked, bound, scores.allocation)
    elif limits.rows.rows:
        raise _unreachable(groups, rules, widths, asked)
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
        costs={m: float(groups.costs.evaluate(m, kept)) for m in METRICS},
        coupling=groups.options,
    )


def _optimise(
    groups: Groups, rules: Rules, tables: list[FloatArray], limits: Limits, asked: Mapping[Metric, float], bound: bool,
    allocation: Allocation | None = None,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Return widths within the limits, shape (groups,), and a lower bound on the loss (-inf where none is wanted)."""
    unit = max(float(np.ptp(table[np.isfinite(table)])) for table in tables) or 1.0
    scaled = [table / unit for table in tables]
    for step in rules.steps:
        choices = rules.choices(groups, scaled, step)
        if limits.holds(choices.least):
            break
    else:
        raise _unreachable(groups, rules, choices.least, asked)
    if not limits.rows.rows:
        best = np.minimum.reduceat(choices.loss, choices.start)
        last = np.where(choices.loss == best[choices.owner], choices.width, -1.0)
        return np.maximum.reduceat(last, choices.start), float(best.sum()) * unit
    if allocation is None:
        widths, price = search(limits, choices)
    else:
        widths, price = allocate(allocation, groups, limits, choices, unit)
    for finer in rules.steps[rules.steps.index(step) :]:
        if limits.used(widths) >= PART:
            break
        choices = rules.choices(groups, scaled, finer)
        widths = use_up(limits, choices, widths, price, PART)
    if limits.used(widths) < PART:
        widths = stretch(limits, choices, widths, price, PART)
    if not bound:
        return widths, -np.inf
    choices = rules.choices(groups, scaled, rules.steps[-1])
    loss = _loss(choices, widths)
    if few(choices):
        return widths, min(loss, _loss(choices, enumerate_all(limits, choices))) * unit
    return widths, lower_bound(limits, choices, widths, price, loss) * unit


def _loss(choices: Choices, widths: FloatArray) -> float:
    return float(choices.loss[choices.start + choices.find(widths)].sum())


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


def _usage(option: str, message: str, hint: str) -> UsageError:
    return UsageError(f"bad-{option}", message, where=f"--{option}", hint=hint)


def _unreachable(groups: Groups, rules: Rules, least: FloatArray, asked: Mapping[Metric, float]) -> BudgetError:
    """Say for every metric what was asked and what the smallest permitted widths cost, and how to get lower."""
    full = groups.costs.full
    words, enough = [], []
    for metric, limit in asked.items():
        low = float(groups.costs.evaluate(metric, least))
        verdict = "within" if low <= limit else "out of reach"
        words.append(
            f"{metric} at most {_amount(metric, limit)} ({_part(limit, full[metric])} of the original): {verdict}, "
            f"the smallest reachable is {_amount(metric, low)} ({_part(low, full[metric])})"
        )
        if low > limit:
            enough.append(f"{metric}={np.ceil(1000 * low / full[metric]) / 1000:g}")
    start = "the budget is out of reach" if groups.groups else "nothing can be pruned: there are no groups"
    return BudgetError(
        "budget-unreachable", f"{start}; {'; '.join(words)}", where="--budget", hint=_advice(groups, rules, enough)
    )


def _advice(groups: Groups, rules: Rules, enough: list[str]) -> str:
    """Say what makes a budget reachable, the options that are already open left out."""
    ways = [f"a higher budget, such as {','.join(enough)}"]
    if rules.min_width > 1:
        ways.append("a smaller --min-width")
    if rules.multiple != "auto" and rules.multiple > 1:
        ways.append("a smaller --multiple")
    if not groups.allow_inexact:
        ways.append("--allow-inexact, which prunes across normalisation too")
    if groups.keep:
        ways.append("fewer --keep patterns")
    if groups.prune:
        ways.append("more kinds by --prune")
    return "try " + ", or ".join(ways)


def _part(value: float, full: float) -> str:
    return f"{value / full:.3g}" if full else "all"


def _amount(metric: Metric, value: float) -> str:
    """Write a cost with a unit that ``--budget`` reads."""
    units = ("", "K", "M", "G") if metric in ("macs", "params") else ("B", "KB", "MB", "GB")
    power = min(int(np.log10(max(value, 1.0)) // 3), 3)
    return f"{value / 1000**power:.4g}{units[power]}"
