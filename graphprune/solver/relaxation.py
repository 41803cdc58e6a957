"""How good any plan within the limits could be: a linear programme over mixtures of widths, and a certificate.

The programme lets every group take a mixture of its choices and replaces the limits by cuts, which add up over the
groups. It is stated by its dual, as only the multipliers of the cuts are used: for any of them, the least of loss plus
priced cuts, taken over all choices of every group by itself, is a lower bound (weak duality). So the bound holds
although the programme sees some of the choices only, and whatever its tolerance. Only this file and ``geometric`` know
cvxpy.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ..cost import FloatArray
from .choices import Choices
from .cuts import Cut, tangents, transports
from .limits import Limits

TURNS = 2
"""How often cuts are added."""
CLOSE_ENOUGH = 0.02
"""A gap that is not worth another turn."""
HEAVY = 6
"""At most so many rows get cuts of their own; more are covered by a cut of their weighted sum."""
GOOD_ENOUGH = 0.05
"""A gap for which the programme, which takes as long as all else here, is not set up."""
SETTLED = 0.1
"""A change of the prices that is not worth another turn."""
SAFETY = 1e-9
"""What is taken off the bound for rounding, relative to the sums it is made of."""


Quick = tuple[float, list[Cut]]
"""A lower bound, and the cuts that give it."""


def quick_bound(limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray, loss: float) -> Quick:
    """Return a lower bound on the loss of all choices within the limits without the programme, and its cuts.

    ``widths`` are the best found, of this ``loss``, and ``price`` the worth of a unit of every row there: the cuts are
    made to fit them. Their multipliers follow from the price but for a factor.
    """
    best = float(np.minimum.reduceat(choices.loss, choices.start).sum())
    cuts: list[Cut] = []
    if price.any():
        weights, multiplier = _weights(limits, price)
        base = np.maximum(widths, 0.5)
        for family in (tangents(limits, choices, base, weights), transports(limits, choices, base, price, weights)):
            best = max(best, _scaled_certificate(choices, family, multiplier))
            cuts += family
    return min(best, loss), cuts


def lower_bound(
    limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray, loss: float, quick: Quick
) -> float:
    """Return a higher lower bound where that of the first cuts, ``quick``, leaves a large gap.

    The multipliers are then those of the programme, and the cuts are made once more to fit its prices. The other
    arguments are those of ``quick_bound``.
    """
    best, cuts = quick
    if loss - best <= GOOD_ENOUGH * abs(loss) or not cuts:
        return best
    for turn in range(TURNS):
        if turn > 0:
            if loss - best <= CLOSE_ENOUGH * abs(loss) or not price.any():
                break
            bound, more = quick_bound(limits, choices, widths, price, loss)
            best, cuts = max(best, bound), cuts + more
        multiplier = _solve(choices, cuts, widths)
        best = max(best, certificate(choices, cuts, multiplier))
        before, price = price, np.array([c.weight for c in cuts]).T @ multiplier
        if np.abs(price - before) @ limits.most <= SETTLED * (before @ limits.most):
            break
    return min(best, loss)


def _scaled_certificate(choices: Choices, cuts: Sequence[Cut], multiplier: FloatArray) -> float:
    """Return the best bound that a multiple of these multipliers gives: a concave function of the scale."""
    value, most = multiplier @ np.array([c.value for c in cuts]), multiplier @ np.array([c.most for c in cuts])
    centre, reach, scale = 0.0, 1.0, 1.0
    for _ in range(3):
        tried = np.exp(centre + np.linspace(-reach, reach, 9))
        least = np.minimum.reduceat(choices.loss + tried[:, None] * value, choices.start, axis=1).sum(axis=1)
        scale = float(tried[(least - tried * most).argmax()])
        centre, reach = np.log(scale), reach / 4
    return certificate(choices, cuts, multiplier * scale)


def certificate(choices: Choices, cuts: Sequence[Cut], multiplier: FloatArray) -> float:
    """Return the lower bound that these multipliers (cuts,), none negative, give over all choices."""
    priced = choices.loss + multiplier @ np.array([c.value for c in cuts])
    most = np.array([c.most for c in cuts])
    least = np.minimum.reduceat(priced, choices.start)
    rounding = SAFETY * float(np.abs(least).sum() + np.abs(multiplier * most).sum())
    return float(least.sum() - multiplier @ most) - rounding


def _weights(limits: Limits, price: FloatArray) -> tuple[list[FloatArray], FloatArray]:
    """Weigh the rows for cuts: each row of a price by itself, or their sum where there are too many.

    Returns also the multipliers with which the weighted rows add up to the price.
    """
    worth = price * limits.most
    rows = np.flatnonzero(worth > 1e-6 * worth.max())
    if len(rows) > HEAVY:
        return [price / worth.sum()], np.array([worth.sum()])
    return [np.where(np.arange(len(price)) == r, 1 / limits.most, 0.0) for r in rows], worth[rows]


def _columns(choices: Choices, widths: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the choices the programme sees: some over the whole range, and those around the widths."""
    last = (choices.count - 1)[:, None]
    even = np.rint(np.linspace(0, 1, 3) * last)
    near = choices.find(widths)[:, None] + np.array([-3, -1, 0, 1, 3])
    rank = np.clip(np.concatenate([even, near], axis=1), 0, last).astype(np.int64)
    return np.unique(choices.start[:, None] + rank)


def _solve(choices: Choices, cuts: Sequence[Cut], widths: FloatArray) -> FloatArray:
    """Return the multipliers of the cuts at the optimum of the programme; zeros where the solver finds none."""
    import cvxpy as cp
    from scipy.sparse import csr_array

    column, groups = _columns(choices, widths), len(choices.start)
    prices = np.zeros((len(column) + len(cuts), groups + len(cuts)))
    prices[np.arange(len(column)), choices.owner[column]] = 1.0
    prices[: len(column), groups:] = -np.array([c.value[column] for c in cuts]).T
    prices[len(column) :, groups:] = -np.eye(len(cuts))
    gains = np.append(np.ones(groups), [-c.most for c in cuts])
    dual = cp.Variable(len(gains))  # the least priced loss of every group, then the multipliers
    most = np.append(choices.loss[column], np.zeros(len(cuts)))
    programme = cp.Problem(cp.Maximize(gains @ dual), [csr_array(prices) @ dual <= most])
    with warnings.catch_warnings(), suppress(cp.SolverError):
        warnings.simplefilter("ignore")  # an inaccurate solution certifies a weaker bound, but a bound
        programme.solve(solver=cp.HIGHS, ignore_dpp=True)
    found = np.zeros(len(cuts)) if dual.value is None else np.asarray(dual.value, dtype=np.float64)[groups:]
    return np.maximum(np.nan_to_num(found), 0.0)
