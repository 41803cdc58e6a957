"""Cuts: inequalities that add up over the groups and hold for every plan within the limits.

Costs are sums of products of readings. A product, exp(sum of the logs), is convex in the logarithms and lies above its
tangent (Boyd, Kim, Vandenberghe, Hassibi, "A tutorial on geometric programming", 2007).
A product x*y of two is at least a(x) + b(y) whenever a' follows a falling curve y(x) and b' its inverse x(y) (Young's
inequality; the duals of optimal transport between two widths). Every falling curve gives such a pair; the curves are
bent by max-sum diffusion (Werner, "A linear programming approach to max-sum problem", PAMI 2007), so that the relaxed
losses of neighbouring groups agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cost import FloatArray, IntArray
from .choices import Choices
from .diffusion import Curves, diffuse, interpolate
from .edges import TINY, Edges, flat, shown, sums
from .limits import Limits


@dataclass(frozen=True)
class Cut:
    """``value`` summed over the chosen widths is at most ``most`` for every plan within the limits.

    ``value`` has an entry for every choice, ``weight`` tells which sum of the rows the cut is made of.
    """

    value: FloatArray
    most: float
    weight: FloatArray


def tangent(limits: Limits, choices: Choices, base: FloatArray, weight: FloatArray, terms: IntArray) -> Cut:
    """Bound these terms of ``weight @ rows`` from below by their tangent in the logarithms at positive widths ``base``.

    A reading of zero makes a term vanish, whatever the others are: it counts as far below as the others may rise.
    """
    rows, readings, n = limits.rows, limits.readings, limits.rows.n_groups
    factor = rows.factor[terms]
    here = np.maximum(readings.between(base), TINY)
    worth = weight[rows.row[terms]] * rows.coefficient[terms] * np.append(here, 1.0)[factor].prod(axis=1)
    slope = sums(factor.ravel(), np.repeat(worth, factor.shape[1]), n + 1)[:n]
    rise = np.append(np.log(np.maximum(readings.values(choices.most), TINY) / here), 0.0)
    others = rise[factor].sum(axis=1)[:, None] - rise[factor]
    vanished = -sums(factor.ravel(), (worth[:, None] * (1 + np.maximum(others, 0.0))).ravel(), n + 1)[:n]
    used = np.flatnonzero(slope)
    at, which, _ = flat(choices, readings.group[used])
    reading = used[which]
    value = shown(limits, choices, reading, at)
    zero = value < TINY
    log = np.log(np.where(zero, 1.0, value) / here[reading])
    parts = np.where(zero, vanished[reading], slope[reading] * log)
    return Cut(sums(at, parts, len(choices.width)), -float(worth.sum()), weight)


def plain_cost(limits: Limits, choices: Choices, weight: FloatArray, terms: IntArray) -> Cut:
    """Cost of terms of one reading or none, exactly."""
    rows, n = limits.rows, limits.rows.n_groups
    worth = weight[rows.row[terms]] * rows.coefficient[terms]
    reading = rows.factor[terms].min(axis=1)
    total = sums(reading, worth, n + 1)
    used = np.flatnonzero(total[:n])
    at, which, _ = flat(choices, limits.readings.group[used])
    value = sums(at, total[used[which]] * shown(limits, choices, used[which], at), len(choices.width))
    return Cut(value, -float(total[n]), weight)


def tangents(limits: Limits, choices: Choices, base: FloatArray, weights: Sequence[FloatArray]) -> list[Cut]:
    """Return the tangent of every weighted sum of the rows."""
    terms = np.arange(len(limits.rows.coefficient))
    found = [tangent(limits, choices, base, weight, terms) for weight in weights]
    return [Cut(c.value, c.most + float(c.weight @ limits.most), c.weight) for c in found]


def transports(
    limits: Limits, choices: Choices, base: FloatArray, price: FloatArray, weights: Sequence[FloatArray]
) -> list[Cut]:
    """Return cuts of weighted sums of the rows, all bent for the sum at ``price``, whose multiplier should then be one.

    Rows that weigh anything must have a price.
    """
    edges = Edges.of(limits)
    row, coefficient = limits.rows.row[edges.term], limits.rows.coefficient[edges.term]
    worth, *shares = [sums(edges.edge, w[row] * coefficient, len(edges.left)) for w in [price, *weights]]
    fixed = [plain_cost(limits, choices, w, edges.plain) for w in [price, *weights]]
    bent = [tangent(limits, choices, base, w, edges.bent) for w in [price, *weights]]
    curves = diffuse(limits, choices, edges, worth, choices.loss + fixed[0].value + bent[0].value, base)
    total = _spread(limits, choices, edges, curves, shares)
    found = zip(weights, fixed[1:], bent[1:], total, strict=True)
    return [Cut(p.value + b.value + t, p.most + b.most + float(w @ limits.most), w) for w, p, b, t in found]


def _spread(
    limits: Limits, choices: Choices, edges: Edges, curves: Curves, shares: Sequence[FloatArray]
) -> list[FloatArray]:
    """Add up the pairs of functions of all edges at every choice, once for each weighting of the edges.

    An edge's pair is a(x), b(y) with a(x) + b(y) <= x * y for all x and y: ``a`` is the integral of the edge's curve,
    and ``b(y)`` the least of x * y - a(x), which is where the falling curve crosses y. The choices of all edges lie
    flat, one edge after the other; an edge's curve has a value for every step from one choice of x to the next.
    """
    groups = limits.readings.group
    (x_at, x_edge, first), (y_at, y_edge, _) = (flat(choices, groups[ends]) for ends in (edges.left, edges.right))
    x = shown(limits, choices, edges.left[x_edge], x_at)
    y = shown(limits, choices, edges.right[y_edge], y_at)
    last = np.append(x_edge[1:] != x_edge[:-1], True) if len(x) else np.zeros(0, np.bool_)
    curve = np.where(last, 0.0, interpolate(choices, groups[edges.left], curves, x_at, x_edge))
    step = curve * np.where(last, 0.0, np.append(x[1:], 0.0) - x)
    total = np.cumsum(step) - step
    a = total - total[first[x_edge]]
    # One search for all edges: the values of an edge are scaled to a band of their own.
    most = np.maximum.reduceat(y, np.flatnonzero(np.append(True, y_edge[1:] != y_edge[:-1]))) if len(y) else y
    most = np.where(most > 0, most, 1.0)
    band = np.where(last, 0.5, -np.minimum(curve / most[x_edge], 1.25)) + 2.0 * x_edge
    cross = np.searchsorted(band, 2.0 * y_edge - y / most[y_edge])
    b = x[cross] * y - a[cross]
    at, size = np.concatenate([x_at, y_at]), len(choices.width)
    return [sums(at, np.concatenate([share[x_edge] * a, share[y_edge] * b]), size) for share in shares]
