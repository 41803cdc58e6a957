"""Plans that were timed: whether they are within a limit on latency, and what to plan for next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

from ..latency.clock import Spread, Timing

if TYPE_CHECKING:
    from .fitting import Fitted

TRIES = 8
"""Plans that are timed, at most."""
MARGIN, MOST_MARGIN = 0.015, 0.08
"""How far below the limit a plan should be: so much, and what its timing is in doubt, but no more than the second."""
SLACK = 0.03
"""A part of the limit that may stay unused without another try."""
RAISES = 2
"""Tries to use more of the limit, once a plan is within it."""
SLOPES = (0.4, 2.5)
"""Bounds on how much the time changes, in logarithms, for a change of the planned time."""


@dataclass(frozen=True)
class Try:
    """A plan that was made and timed: the part of the original's time that the cost model gives it, and what it used.

    ``used`` is its part of the limit.
    """

    fitted: Fitted
    part: float
    used: Spread
    timing: Timing

    @property
    def margin(self) -> float:
        """How far below the limit its median should be."""
        return min(MARGIN + self.used.doubt, MOST_MARGIN)

    @property
    def within(self) -> bool:
        """Whether it is within the limit by its margin."""
        return self.used.median <= 1 - self.margin

    @property
    def close(self) -> bool:
        """Whether it leaves little of the limit unused, or nothing was removed at all."""
        plan = self.fitted.plan
        return self.used.median >= 1 - self.margin - SLACK or plan.widths == dict(plan.sizes)

    @property
    def far(self) -> bool:
        """Whether it leaves much of the limit unused."""
        return not self.close and self.used.median < 1 - self.margin - 2 * SLACK


def next_part(points: Sequence[tuple[float, float]], goal: float) -> float:
    """Return the planned part at which ``goal`` of the limit should be used, given (planned part, used) so far.

    Logarithms are taken as straight between two points: those on both sides of the goal, or the two nearest. From one
    point the time is taken to follow the plan.
    """
    ordered = sorted(points, key=lambda p: abs(log(p[1] / goal)))
    over = [p for p in ordered if p[1] > goal]
    under = [p for p in ordered if p[1] <= goal]
    near, far = ordered[0], (ordered[1] if len(ordered) > 1 else None)
    if over and under:
        near, far = (under[0], over[0]) if ordered[0] is under[0] else (over[0], under[0])
    slope = 1.0
    if far is not None and abs(log(near[0] / far[0])) > 1e-3:
        slope = log(near[1] / far[1]) / log(near[0] / far[0])
        slope = min(max(slope, SLOPES[0]), SLOPES[1])
    return near[0] * exp(log(goal / near[1]) / slope)
