"""The best prices for the Lagrangian bound: cutting planes in a box around the best so far.

Every bound that is computed gives a plane above the concave function of the prices; the maximum of the least plane, in
a box that follows the best point (Kelley's method with a trust region), is where the next is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..cost import FloatArray, IntArray
from .choices import Choices
from .dual import Priced

ENOUGH = 1e-4
"""A rise of the bound, as a part of the goal, that is not worth another turn."""
REACH = 0.25
"""The first box around the prices, as a part of the largest of them."""


@dataclass(frozen=True)
class Planes:
    """Bounds seen: at what worth of the limits, how high, with what slope (rows,), and the widths that gave them."""

    worth: list[FloatArray] = field(default_factory=list)
    height: list[float] = field(default_factory=list)
    slope: list[FloatArray] = field(default_factory=list)
    widths: list[FloatArray] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The highest."""
        return int(np.argmax(self.height))

    @property
    def bound(self) -> float:
        """The height of the highest."""
        return max(self.height, default=-np.inf)

    def add(self, bound: Priced, worth: FloatArray) -> None:
        """Compute one more."""
        height, widths = bound(worth)
        self.worth.append(worth)
        self.height.append(height)
        self.slope.append(bound.limits.cost(widths) / bound.limits.most - 1)
        self.widths.append(widths)

    def within(self, choices: Choices) -> Planes:
        """Return those whose widths are among these choices: there, they are exactly what would be computed again."""
        mine = [k for k, widths in enumerate(self.widths) if choices.hold(widths)]
        return Planes(
            [self.worth[k] for k in mine],
            [self.height[k] for k in mine],
            [self.slope[k] for k in mine],
            [self.widths[k] for k in mine],
        )

    def highest(self, rows: IntArray, low: FloatArray, high: FloatArray) -> tuple[float, FloatArray]:
        """Return the maximum of the least plane over a box of the worths of ``rows``, and where it is."""
        slope = np.array(self.slope)
        most = np.array(self.height) - (slope * np.array(self.worth)).sum(axis=1)
        found = _programme(
            np.append(np.zeros(len(rows)), -1.0), np.column_stack([-slope[:, rows], np.ones(len(slope))]), most,
            [*zip(low, high, strict=True), (None, None)],
        )  # fmt: skip
        if found is None:
            return -np.inf, self.worth[self.best][rows]
        return float(found[-1]), np.clip(found[:-1], low, high)

    def mixture(self) -> FloatArray:
        """Return weights of the bounds, shape (bounds,), that add up to 1: those whose mean cost is within the limits.

        It is the optimum of the relaxed problem where the prices are the best; misses cost more than any loss.
        """
        slope, count = np.array(self.slope), len(self.height)
        loss = np.array(self.height) - (slope * np.array(self.worth)).sum(axis=1)
        missed = np.flatnonzero((slope > 0).any(axis=0))
        found = _programme(
            np.append(loss, np.full(len(missed), MISS * (np.ptp(loss) + 1.0))),
            np.column_stack([slope[:, missed].T, -np.eye(len(missed))]), np.zeros(len(missed)),
            [(0, None)] * (count + len(missed)), np.append(np.ones(count), np.zeros(len(missed))),
        )  # fmt: skip
        return np.full(count, 1 / count) if found is None else found[:count]


MISS = 1e3
"""What missing a limit by all of it costs, in units of the largest loss."""


def _programme(
    cost: FloatArray, rows: FloatArray, most: FloatArray, bounds: list[Any], whole: FloatArray | None = None
) -> FloatArray | None:
    """Solve a small linear programme; None where the solver does not. ``whole`` are coefficients that add up to 1."""
    from scipy.optimize import linprog

    solve: Any = linprog
    equal = {} if whole is None else {"A_eq": whole[None], "b_eq": [1.0]}
    found = solve(cost, A_ub=rows, b_ub=most, bounds=bounds, method="highs", **equal)
    return None if found.x is None else np.asarray(found.x, dtype=np.float64)


def climb(bound: Priced, known: Planes, worth: FloatArray, goal: float, turns: int, late: Callable[[], bool]) -> Planes:
    """Raise the bound from what limits are ``worth``, (rows,), until it is at the ``goal``, or no further.

    At most ``turns`` bounds are computed besides those that are ``known``, and no more once it is ``late``; but one is
    there at least.
    """
    planes = known.within(bound.choices)
    rows = np.flatnonzero(worth > 1e-6 * worth.max(initial=0.0))
    reach = REACH * (worth.max(initial=0.0) or 1.0)
    for turn in range(turns):
        before = planes.bound
        if turn or not any(np.array_equal(worth, seen) for seen in planes.worth):
            planes.add(bound, worth)
        if planes.bound >= goal or turn == turns - 1 or late():
            break
        rows = np.union1d(rows, np.flatnonzero(planes.slope[planes.best] > 0))
        centre = planes.worth[planes.best][rows]
        reach = reach if planes.bound > before else reach / 2
        expected, there = planes.highest(rows, np.maximum(centre - reach, 0.0), centre + reach)
        if expected - planes.bound <= ENOUGH * abs(goal):
            break
        if planes.bound > before and (np.abs(there - centre) > 0.99 * reach).any():
            reach *= 2
        worth = np.zeros_like(worth)
        worth[rows] = there
    return planes
