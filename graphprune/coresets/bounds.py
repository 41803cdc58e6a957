"""How many draws an error needs: the theorem as published, a bound with constants of its own, and distinct units.

All take the total sensitivity s = sum_p s(p), where |f(p)| <= s(p) is what unit p can contribute to any output at most.
"""

from __future__ import annotations

from math import ceil, e, inf, isfinite, log, sqrt

import numpy as np

from ..scores import FloatArray

GRID = 256
"""Numbers of draws at which the expected number of distinct units is computed; between them it is interpolated."""


def paper_sample_size(total: float, dimension: int, epsilon: float, delta: float, constant: float = 1.0) -> float:
    """Return m = C s / epsilon^2 (d log s + log 1/delta), the size of arXiv 1907.04018's main theorem.

    With it, every output is within ``epsilon`` (additive) for all inputs of norm <= beta at once, with probability at
    least 1 - ``delta``; for weights of both signs, which are two sets, within 2 epsilon. ``dimension`` is that of the
    inputs. The paper leaves the constant C open; 1 is a convention, so the number compares layers and settings and is
    no promise. log s counts as at least 1, since the paper has s large. Infinite where nothing is finite.
    """
    if not isfinite(total):
        return inf
    return float(max(1, ceil(constant * total / epsilon**2 * (dimension * log(max(total, e)) + log(1 / delta)))))


def pointwise_sample_size(total: float, outputs: int, epsilon: float, delta: float) -> float:
    """Return m = 2 s^2 / epsilon^2 log(2 outputs / delta): enough draws for one input, with proved constants.

    Each draw's term f(X)/pr(X) lies in [-s, s], so by Hoeffding's inequality and a union over ``outputs`` (count
    outputs times inputs for several inputs) all are within ``epsilon`` with probability at least 1 - ``delta``. No
    activation need be monotone or non-negative for this, and signs need no second set.
    """
    if not isfinite(total):
        return inf
    return float(max(1, ceil(2 * (total / epsilon) ** 2 * log(2 * max(outputs, 1) / delta))))


def error_after(draws: float, total: float, outputs: int, delta: float) -> float:
    """Return the epsilon that ``draws`` draws reach for one input: the inverse of ``pointwise_sample_size``."""
    return total * sqrt(2 * log(2 * max(outputs, 1) / delta) / draws) if draws > 0 else inf


def expected_distinct(probability: FloatArray, draws: float) -> float:
    """Return the expected number of distinct units among a number of draws: sum_p 1 - (1 - pr(p))^m."""
    with np.errstate(divide="ignore"):
        return float(-np.expm1(draws * np.log1p(-np.minimum(probability, 1.0))).sum()) if draws < inf else float(
            (probability > 0).sum()
        )  # fmt: skip


def draws_for_distinct(probability: FloatArray) -> FloatArray:
    """Return how many draws it takes for 0, 1, ... all drawable units to be distinct in expectation.

    Shape (drawable + 1,), from 0 to infinity; in between, expected_distinct is inverted on a logarithmic grid.
    """
    live = probability[probability > 0]
    if not len(live):
        return np.zeros(1)
    first, last = 0.5, 40.0 / live.min()
    grid = np.geomspace(first, max(last, 2 * first), GRID)
    log_missing = np.log1p(-np.minimum(live, 1 - 1e-16))
    distinct = -np.expm1(grid[:, None] * log_missing).sum(axis=1)
    inner = np.exp(np.interp(np.arange(1, len(live)), distinct, np.log(grid)))
    return np.concatenate([[0.0], np.maximum(inner, np.arange(1, len(live))), [np.inf]])


def kept_share(probability: FloatArray) -> FloatArray:
    """Return, for 0, 1, ... all units kept by sampling, which part of an output's size is signal: shape (units + 1,).

    The variance of the estimate is (sum f^2/pr - z^2) / m. Where contributions are a like part of their sensitivities
    and of either sign, z^2 is about n sum of s^2 and the variance sum s^2 n/m, with n = (sum s)^2 / sum s^2 the
    effective number of units; so noise over signal is n/m, and m/(m + n) is the signal's share, with m the draws that
    so many distinct units need in expectation. It rises from 0 to 1. Its least concave majorant is returned, so that
    its steps fall: then the order of units by step is the order in which they are drawn.
    """
    live = int((probability > 0).sum())
    share = np.ones(len(probability) + 1)
    if not live:
        return np.linspace(0.0, 1.0, len(share))
    draws = draws_for_distinct(probability)
    effective = 1.0 / float(np.square(probability).sum())
    share[: live + 1] = np.append(draws[:-1] / (draws[:-1] + effective), 1.0)
    share[: live + 1] = concave_majorant(share[: live + 1])
    return share


def concave_majorant(values: FloatArray) -> FloatArray:
    """Return the least concave sequence that is nowhere below a sequence of shape (n,)."""
    if len(values) < 3:
        return values
    from scipy.spatial import ConvexHull

    x = np.arange(len(values), dtype=np.float64)
    floor = values.min() - 1.0
    points = np.concatenate([np.stack([x, values], axis=1), [[0.0, floor], [x[-1], floor]]])
    corners = np.sort(ConvexHull(points).vertices)
    corners = corners[corners < len(values)]
    return np.asarray(np.maximum(np.interp(x, x[corners], values[corners]), values))
