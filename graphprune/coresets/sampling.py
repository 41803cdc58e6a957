"""Drawing units in proportion to their sensitivities, with replacement, until k distinct ones are there.

**What is drawn.** Draws X_1, X_2, ... are independent, unit p with probability pr(p) = s(p) / sum s. Let m be the
number of draws before the first draw that brings the (k+1)-th distinct unit, and c(p) how often p is among those m. The
layer's output z = sum_p f(p), where f(p) is what unit p contributes, is estimated by

    z' = sum_p c(p) f(p) / (m pr(p)) = 1/m sum_{t <= m} f(X_t) / pr(X_t).

**Why it is unbiased**, although m is random. The event "m draws come before the (k+1)-th distinct unit, which is q"
says that X_1..X_m hold exactly k distinct units, q not among them, and X_{m+1} = q. It says nothing of the order of
X_1..X_m, and draws are independent and alike; so given m, q and the multiset of the first m draws, every order of them
is equally likely, and X_1 is any of them with chance 1/m. Hence E[f(X_1)/pr(X_1) | m, q, multiset] is the mean over
the multiset, which is z', and by the law of total expectation E[z'] = E[f(X_1)/pr(X_1)] = sum_p f(p) = z. (The
reference stops at the k-th distinct unit and counts it. That draw is always new, so the order does matter there, and
the estimate is biased.) With k = all units of positive probability the (k+1)-th never comes, m is infinite, and
c(p)/(m pr(p)) is 1: nothing is removed and nothing reweighed.

**How it is drawn.** Let the draws arrive as a Poisson process of rate one. Then unit p arrives as a process of its own,
independent of the others, of rate pr(p): first at T(p) = E/pr(p) with E exponential, and after that as often as a
Poisson number says. So the k units kept are the k smallest T, which is successive sampling without replacement; the
draws stop at the (k+1)-th smallest, tau; and c(p) = 1 + Poisson(pr(p) (tau - T(p))). Nothing is drawn a million times
to find a unit of tiny probability. The order T does not depend on k: what is kept of k units is kept of k + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..groups import IntArray
from ..scores import FloatArray

MANY = 1e12
"""An expected number of repeats from which on the number itself is taken: its noise is below a part in a million."""


@dataclass(frozen=True)
class Sample:
    """One sequence of draws. ``arrival[p]`` is when unit p is first drawn, infinite where it never is: shape (units,).

    ``probability`` is pr, shape (units,), which sums to one unless all are zero.
    """

    probability: FloatArray
    arrival: FloatArray
    seed: tuple[int, ...]

    @property
    def order(self) -> IntArray:
        """All units by first appearance; those that are never drawn come last, by ordinal. Shape (units,)."""
        return np.argsort(self.arrival, kind="stable").astype(np.int64)

    @property
    def drawable(self) -> int:
        """Number of units that can be drawn."""
        return int((self.probability > 0).sum())

    def counts(self, kept: int) -> IntArray:
        """Return how often each of the first ``kept`` units is drawn before another one comes, shape (units,).

        Zeros where all drawable units are kept: then the draws never end.
        """
        if kept >= self.drawable or kept < 1:
            return np.zeros(len(self.arrival), np.int64)
        stop = np.sort(self.arrival)[kept]
        inside = self.arrival < stop
        expected = np.where(inside, self.probability * (stop - np.where(inside, self.arrival, stop)), 0.0)
        stream = np.random.default_rng([*self.seed, kept])
        repeats = np.where(expected < MANY, stream.poisson(np.minimum(expected, MANY)), np.minimum(expected, 1e18))
        return np.where(inside, 1 + repeats.astype(np.int64), 0)

    def weights(self, kept: int) -> FloatArray:
        """Return c(p) / (m pr(p)) for the first ``kept`` units and 0 for the others, shape (units,).

        All ones where every drawable unit is kept.
        """
        if kept >= self.drawable:
            return np.ones(len(self.arrival))
        counts = self.counts(kept).astype(np.float64)
        drawn = counts > 0
        share = np.where(drawn, self.probability, 1.0)
        return np.where(drawn, counts / (max(counts.sum(), 1.0) * share), 0.0)


def sample(sensitivity: FloatArray, seed: tuple[int, ...]) -> Sample:
    """Draw the order in which units first appear, from non-negative sensitivities of shape (units,).

    ``seed`` are non-negative integers. Each unit has its own number of the stream, so that a small change of one
    sensitivity changes that unit's arrival only.
    """
    total = sensitivity.sum()
    probability = sensitivity / total if total > 0 else np.zeros(len(sensitivity))
    waiting = np.random.default_rng([*seed, 0]).standard_exponential(len(sensitivity))
    with np.errstate(divide="ignore", over="ignore"):
        arrival = np.where(probability > 0, waiting / probability, np.inf)
    return Sample(probability, arrival, seed)
