"""Timing on a machine that does other things as well: contenders take turns, and medians of many rounds are compared.

In every round each contender runs once, so that what slows the machine down slows all of them, and the ratios of one
round are ratios under the same conditions. A median does not care how far off the worst rounds are. Rounds go on until
the ratios are known well enough, or the time is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .machine import Lap

FloatArray = NDArray[np.float64]
SIGMAS = 1.96
"""Of a normal distribution, on both sides of 95% of it."""
WARM_UP = 3
MOST_RUNS = 2000


@dataclass(frozen=True)
class Effort:
    """How much timing is enough.

    Rounds end when the 95% interval of every ratio to the first contender (of one alone: of its own median) is within
    ``tolerance`` of the median on both sides, but not before ``least`` rounds, and at the latest after ``most`` rounds
    or ``seconds`` of running. A turn takes ``turn`` seconds at least: a model that is faster runs several times in it.
    """

    tolerance: float = 0.01
    least: int = 11
    most: int = 500
    seconds: float = 10.0
    turn: float = 0.005


@dataclass(frozen=True)
class Spread:
    """The median of so many values, its quartiles ``low`` and ``high``, and the 95% interval of the median.

    The interval lies between two order statistics, whatever the distribution of the values; it is that of independent
    values, and too narrow where what disturbs the machine lasts for many rounds.
    """

    median: float
    low: float
    high: float
    runs: int
    least: float
    most: float

    @classmethod
    def of(cls, values: FloatArray) -> Spread:
        """Summarise values, shape (runs,)."""
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        n = len(values)
        reach = SIGMAS * sqrt(n) / 2
        ends = np.sort(values)[[max(int(n / 2 - reach), 0), min(ceil(n / 2 + reach), n - 1)]]
        return cls(float(median), float(low), float(high), n, float(ends[0]), float(ends[1]))

    @property
    def doubt(self) -> float:
        """How far the interval reaches from the median, as a part of it, on the side where it reaches further."""
        return max(self.most - self.median, self.median - self.least) / self.median if self.median else 0.0

    def times(self, factor: float) -> Spread:
        """Return the spread of all values times a positive number."""
        low, high, least, most = (v * factor for v in (self.low, self.high, self.least, self.most))
        return Spread(self.median * factor, low, high, self.runs, least, most)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a report."""
        return {"median": self.median, "low": self.low, "high": self.high, "runs": self.runs}


@dataclass(frozen=True)
class Timing:
    """Seconds of one run of every contender in every round, shape (rounds, contenders)."""

    seconds: FloatArray

    def spread(self, k: int = 0) -> Spread:
        """Seconds of contender ``k``."""
        return Spread.of(self.seconds[:, k])

    def ratio(self, k: int, to: int = 0) -> Spread:
        """How long ``k`` takes, as a part of what contender ``to`` takes in the same round."""
        return Spread.of(self.seconds[:, k] / self.seconds[:, to])

    @property
    def doubt(self) -> float:
        """The largest doubt among the ratios to the first contender, or that of one alone."""
        count = self.seconds.shape[1]
        return max((self.ratio(k).doubt for k in range(1, count)), default=self.spread().doubt)


def interleaved(laps: Sequence[Lap], effort: Effort | None = None) -> Timing:
    """Time contenders in turns; see Effort for how long.

    Every contender warms up first. The order turns round after every round, so that none always runs after the same.
    """
    effort = effort or Effort()
    assert laps
    runs = [_runs_a_turn(lap, effort.turn) for lap in laps]
    rounds: list[list[float]] = []
    spent = 0.0
    while len(rounds) < effort.most:
        order = range(len(laps)) if len(rounds) % 2 == 0 else range(len(laps) - 1, -1, -1)
        taken = {k: laps[k](runs[k]) for k in order}
        spent += sum(taken.values())
        rounds.append([taken[k] / runs[k] for k in range(len(laps))])
        enough = len(rounds) >= effort.least
        # What is known is looked at now and then only: looking at all rounds after every one takes time itself.
        if enough and (spent >= effort.seconds or (_looks(len(rounds)) and _doubt(rounds) <= effort.tolerance)):
            break
        if spent >= 2 * effort.seconds and len(rounds) >= 3:
            break
    return Timing(np.array(rounds, np.float64))


def _looks(count: int) -> bool:
    return count % max(count // 8, 1) == 0


def _doubt(rounds: list[list[float]]) -> float:
    return Timing(np.array(rounds, np.float64)).doubt


def _runs_a_turn(lap: Lap, turn: float) -> int:
    """Warm up, and return how many runs fill a turn."""
    fastest = min(lap(1) for _ in range(WARM_UP))
    return min(max(ceil(turn / max(fastest, 1e-9)), 1), MOST_RUNS)
