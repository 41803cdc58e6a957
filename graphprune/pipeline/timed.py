"""Pruning to a budget of latency: plan by a cost model, time what comes out, correct the model, plan again.

A cost model adds up nodes that were measured alone, and is some per cent off for a whole model. How far off is seen on
a pruned model, timed in turns with the original; the limit that the solver gets is moved by that until what comes out
is within the budget, a little below it: by as much as the timing itself is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..budget import Budget
from ..errors import BudgetError
from ..report.latency import duration
from .tries import MARGIN, MOST_MARGIN, RAISES, SLACK, TRIES, Try, next_part
from .watch import Watch, least_widths, with_latency

if TYPE_CHECKING:
    from ..scoring import Prepared
    from .fitting import Apply, Fitted
    from .opening import Opened
    from .settings import Settings

Progress = Callable[[str], None]
LAST = 2.0
"""How much longer the model that is given is timed, against a plan on the way."""


def fit_timed(
    prepared: Prepared, opened: Opened, settings: Settings, watch: Watch, progress: Progress, apply: Apply,
) -> Fitted:  # fmt: skip
    """Solve, rewrite and time until what comes out is within the budget, in latency and in what is counted.

    Weights are repaired once, at the end: how fast a model is does not depend on their values. Raises BudgetError where
    the budget is out of reach, with what is reachable, and what ``fitting.fit_prepared`` raises.
    """
    if settings.multiple == "auto" and watch.alignment is not None:
        settings = replace(settings, multiple=watch.alignment)
    run = _Run(prepared, with_latency(opened, watch.latency), settings, watch, progress, apply)
    if watch.loose:
        return run.planned(watch.limit(run.budget) / watch.full)
    if watch.profile is not None:
        return run.promised()
    return run.measured()


@dataclass(frozen=True)
class _Run:
    """What all tries have in common."""

    prepared: Prepared
    opened: Opened
    settings: Settings
    watch: Watch
    progress: Progress
    apply: Apply

    @property
    def budget(self) -> Budget:
        """The budget that was asked for."""
        assert self.settings.budget is not None
        return self.settings.budget

    def planned(self, part: float) -> Fitted:
        """Solve for a part of the original's time, by the cost model, and all that is counted; rewrite, repair."""
        from . import fitting

        asked = replace(self.budget, latency=f"{part * self.watch.full!r}s")
        return fitting.fit_counted(self.prepared, self.opened, self.settings, asked, self.progress, self.apply)

    def part_of(self, fitted: Fitted) -> float:
        """Return the part of the original's time that the cost model gives a plan."""
        groups = self.opened.groups
        widths = [len(fitted.plan.keep[g.id]) for g in groups.groups]
        return float(self.watch.latency(np.array(widths, np.int64))) / self.watch.full

    def promised(self) -> Fitted:
        """Keep the budget by a profile that was taken elsewhere; what is timed here is for information."""
        fitted = self.planned(self.watch.limit(self.budget) / self.watch.full)
        after = self.part_of(fitted) * self.watch.full
        assert self.watch.profile is not None
        said = {"before": self.watch.full, "after": after, "ratio": after / self.watch.full}
        said_by = {**said, "machine": dict(self.watch.profile.machine)}
        self.progress("time")
        small = _model_of(fitted)
        timing = self.watch.timed(small)
        told = self.watch.told(self.budget, timing, small, profile=said_by, predicted=after)
        return replace(fitted, timed=told)

    def measured(self) -> Fitted:
        """Plan and time until a plan is within the budget and stays so when it is timed again."""
        tries: list[Try] = []
        light = replace(self, settings=_unrepaired(self.settings))
        part = self.watch.limit(self.budget) / self.watch.full * (1 - 2 * MARGIN)
        while len(tries) < TRIES:
            tries.append(light.tried(part, len(tries) + 1))
            done = self.chosen(tries)
            if done is not None:
                return done
            if len(tries) < TRIES:
                part = light.next_part(tries)
        while any(t.within for t in tries):  # what is timed again and is over its limit is out
            done = self.chosen(tries)
            if done is not None:
                return done
        raise self.missed(tries)

    def tried(self, part: float, number: int) -> Try:
        """Plan for a part of the time, and time what comes out; where the part is out of reach, for the smallest."""
        try:
            fitted = self.planned(part)
        except BudgetError:
            least = self.least_part()
            if part >= least:
                raise
            fitted = self.planned(least)
        self.progress(f"time plan {number}")
        timing = self.watch.timed(_model_of(fitted))
        return Try(fitted, self.part_of(fitted), self.watch.used(self.budget, timing), timing)

    def least_part(self) -> float:
        """Return the smallest part of the original's time that any plan has, by the cost model."""
        widths = np.array(least_widths(self.opened.groups, self.settings), np.int64)
        return float(self.watch.latency(widths)) / self.watch.full * (1 + 1e-9)

    def chosen(self, tries: list[Try]) -> Fitted | None:
        """Give the best of the plans that are within the budget, if it is time to; it is timed again first.

        One that is over its limit then, or far below, has its try changed for what was timed.
        """
        within = [t for t in tries if t.within]
        if not within:
            return None
        best = max(within, key=lambda t: t.part)
        raised = len(tries) - 1 - min(k for k, t in enumerate(tries) if t.within)
        if not (best.close or raised >= RAISES or len(tries) == TRIES or self.narrow(tries, best)):
            return None
        fitted = self.finished(best)
        self.progress("time the result")
        effort = self.watch.effort
        longer = replace(effort, seconds=effort.seconds * LAST, tolerance=effort.tolerance / LAST)
        timing = self.watch.timed(_model_of(fitted), longer)
        again = replace(best, used=self.watch.used(self.budget, timing), timing=timing)
        over = again.used.median > 1 - again.margin / 2
        if over or (again.far and len(tries) <= TRIES // 2):
            tries[tries.index(best)] = again
            return None
        predicted = best.part * self.watch.before.median
        told = self.watch.told(self.budget, timing, _model_of(fitted), tries=len(tries), predicted=predicted)
        return replace(fitted, timed=told)

    def narrow(self, tries: Sequence[Try], best: Try) -> bool:
        """Tell whether a plan that is over the limit is hardly larger than the best that is within it."""
        over = [t.part for t in tries if not t.within and t.part >= best.part]
        return bool(over) and min(over) <= best.part * (1 + SLACK / 2)

    def finished(self, best: Try) -> Fitted:
        """Return what a plan gives with its weights repaired."""
        from . import fitting

        if _unrepaired(self.settings) is self.settings:
            return best.fitted
        plan, opened = best.fitted.plan, self.opened
        return fitting.applied(self.prepared, opened, plan, self.settings, self.progress, self.apply)

    def next_part(self, tries: Sequence[Try]) -> float:
        """Return the part to plan for next; raises BudgetError where the smallest plan there is was over the limit."""
        goal = 1 - tries[-1].margin - SLACK / 3
        part = next_part([(t.part, t.used.median) for t in tries], goal)
        fastest = min(tries, key=lambda t: t.part)
        if not fastest.within and fastest.part <= self.least_part() * (1 + 1e-6):
            raise self.missed(tries)
        seen = [t.part for t in tries]
        while any(abs(part - p) < 0.002 * p for p in seen):  # the solver would give the same plan again
            part *= 0.99
        return part

    def missed(self, tries: Sequence[Try]) -> BudgetError:
        """Say what was asked, what the fastest plan takes, and what to ask for."""
        best = min(tries, key=lambda t: t.used.median)
        before, after, ratio = best.timing.spread(0), best.timing.spread(1), best.timing.ratio(1)
        limit = self.watch.limit(self.budget)
        words = (
            f"latency at most {duration(limit)} is out of reach: the fastest of {len(tries)} plans takes "
            f"{duration(after.median)}, {ratio.median:.3f} of the original's {duration(before.median)}"
        )
        enough = min(np.ceil(100 * ratio.high * (1 + MOST_MARGIN)) / 100, 1.0)
        groups, multiple = self.opened.groups, self.settings.multiple
        open_ways = {
            f"a higher budget, such as latency={enough:g}": True,
            "a smaller --multiple": isinstance(multiple, int) and multiple > 1,
            "--allow-inexact, which prunes across normalisation too": not groups.allow_inexact,
            "fewer --keep patterns": bool(groups.keep),
            "more kinds by --prune": bool(groups.prune),
        }
        hint = "try " + ", or ".join(way for way, is_open in open_ways.items() if is_open)
        return BudgetError("budget-unreachable", words, where="--budget", hint=hint)


def check_followed(fitted: Fitted, opened: Opened, settings: Settings, watch: Watch, progress: Progress) -> Fitted:
    """Time what a given plan makes; raises BudgetError where it is over a limit on latency."""
    progress("time")
    small = _model_of(fitted)
    timing = watch.timed(small)
    told = watch.told(settings.budget, timing, small)
    budget = settings.budget
    if budget is not None and watch.used(budget, timing).median > 1:
        assert told.limit is not None
        words = (
            f"latency is {duration(told.after.median)}, {told.ratio.median:.3f} of the original's, over its limit of "
            f"{duration(told.limit)}"
        )
        hint = "raise the budget, or let it be solved again without --plan"
        raise BudgetError("plan-over-budget", words, where="--plan", hint=hint)
    return replace(fitted, timed=told)


def _model_of(fitted: Fitted) -> Any:
    return getattr(fitted.model, "module", fitted.model)


def _unrepaired(settings: Settings) -> Settings:
    """Return settings without repair; the same ones where there is none to do."""
    calibration = settings.calibration
    if calibration.repair == "none" or calibration.data is None:
        return settings
    return replace(settings, calibration=replace(calibration, repair="none"))
