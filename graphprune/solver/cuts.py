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
from .limits import Limits

KNOTS = 16
SWEEPS = 8
TINY = 1e-300
"""Readings below this are taken for zero."""
LOW = 1e-3
"""A part of the base below which a start needs no more detail."""


@dataclass(frozen=True)
class Cut:
    """``value`` summed over the chosen widths is at most ``most`` for every plan within the limits.

    ``value`` has an entry for every choice, ``weight`` tells which sum of the rows the cut is made of.
    """

    value: FloatArray
    most: float
    weight: FloatArray


@dataclass(frozen=True)
class Edges:
    """Products of two readings that the rows contain, once each: ``left`` and ``right``.

    ``term`` and ``edge`` say which terms of the rows are of which product; ``plain`` and ``bent`` are the terms of one
    reading, whose cost is exact, and of three and more, which take the tangent.
    """

    left: IntArray
    right: IntArray
    term: IntArray
    edge: IntArray
    plain: IntArray
    bent: IntArray

    @classmethod
    def of(cls, limits: Limits) -> Edges:
        """Sort the terms by the number of their readings."""
        factor, n = np.sort(limits.rows.factor, axis=1), limits.rows.n_groups
        count = (factor < n).sum(axis=1)
        term = np.flatnonzero(count == 2)
        distinct, edge = np.unique(factor[term, :2], axis=0, return_inverse=True)
        left, right = distinct.T if len(distinct) else np.zeros((2, 0), np.int64)
        return cls(left, right, term, edge.reshape(-1), np.flatnonzero(count < 2), np.flatnonzero(count > 2))


def tangent(limits: Limits, choices: Choices, base: FloatArray, weight: FloatArray, terms: IntArray) -> Cut:
    """Bound these terms of ``weight @ rows`` from below by their tangent in the logarithms at positive widths ``base``.

    A reading of zero makes a term vanish, whatever the others are: it counts as far below as the others may rise.
    """
    rows, readings, n = limits.rows, limits.readings, limits.rows.n_groups
    factor = rows.factor[terms]
    shown = np.maximum(readings.between(base), TINY)
    worth = weight[rows.row[terms]] * rows.coefficient[terms] * np.append(shown, 1.0)[factor].prod(axis=1)
    slope = _sums(factor.ravel(), np.repeat(worth, factor.shape[1]), n + 1)[:n]
    rise = np.append(np.log(np.maximum(readings.values(choices.most), TINY) / shown), 0.0)
    others = rise[factor].sum(axis=1)[:, None] - rise[factor]
    vanished = -_sums(factor.ravel(), (worth[:, None] * (1 + np.maximum(others, 0.0))).ravel(), n + 1)[:n]
    used = np.flatnonzero(slope)
    at, which, _ = _flat(choices, readings.group[used])
    reading = used[which]
    value = _shown(limits, choices, reading, at)
    zero = value < TINY
    log = np.log(np.where(zero, 1.0, value) / shown[reading])
    parts = np.where(zero, vanished[reading], slope[reading] * log)
    return Cut(_sums(at, parts, len(choices.width)), -float(worth.sum()), weight)


def plain_cost(limits: Limits, choices: Choices, weight: FloatArray, terms: IntArray) -> Cut:
    """Cost of terms of one reading or none, exactly."""
    rows, n = limits.rows, limits.rows.n_groups
    worth = weight[rows.row[terms]] * rows.coefficient[terms]
    reading = rows.factor[terms].min(axis=1)
    total = _sums(reading, worth, n + 1)
    used = np.flatnonzero(total[:n])
    at, which, _ = _flat(choices, limits.readings.group[used])
    value = _sums(at, total[used[which]] * _shown(limits, choices, used[which], at), len(choices.width))
    return Cut(value, -float(total[n]), weight)


def _shown(limits: Limits, choices: Choices, reading: IntArray, at: IntArray) -> FloatArray:
    """Return what readings show at choices of their groups, any shape."""
    readings = limits.readings
    width = choices.width[at]
    return width if readings.plain else readings.table[readings.start[reading] + width.astype(np.int64)]


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
    worth, *shares = [_sums(edges.edge, w[row] * coefficient, len(edges.left)) for w in [price, *weights]]
    fixed = [plain_cost(limits, choices, w, edges.plain) for w in [price, *weights]]
    bent = [tangent(limits, choices, base, w, edges.bent) for w in [price, *weights]]
    curves = _diffuse(limits, choices, edges, worth, choices.loss + fixed[0].value + bent[0].value, base)
    total = _spread(limits, choices, edges, curves, shares)
    found = zip(weights, fixed[1:], bent[1:], total, strict=True)
    return [Cut(p.value + b.value + t, p.most + b.most + float(w @ limits.most), w) for w, p, b, t in found]


@dataclass(frozen=True)
class Curves:
    """The falling curve of every edge: ``slope[e, k]`` from the choice of rank ``knot[left, k]`` to the next knot.

    It is infinite where that step changes nothing.
    """

    knot: IntArray
    slope: FloatArray


def _diffuse(
    limits: Limits, choices: Choices, edges: Edges, worth: FloatArray, loss: FloatArray, base: FloatArray
) -> Curves:
    """Bend the curves by sweeps of max-sum diffusion on a few knots of every group.

    ``hold[side]`` is each edge's part of the losses of its two groups: (knots, edges), as all tables here, for NumPy is
    slow along short last axes. The parts are changed to make the least relaxed loss at every knot the same over all
    edges of the group, half-way for both ends at a time, so that the bound never falls.
    """
    knot = _knots(choices, base)
    place = choices.start[:, None] + knot
    groups, base_shown = limits.readings.group, np.maximum(limits.readings.between(base), TINY)
    readings, ends = (edges.left, edges.right), (groups[edges.left], groups[edges.right])
    shown = [
        np.ascontiguousarray(_shown(limits, choices, r[:, None], place[e]).T)
        for r, e in zip(readings, ends, strict=True)
    ]
    cost = worth * shown[0][:, None] * shown[1][None]
    middle = worth * base_shown[edges.left] * base_shown[edges.right]
    count = np.maximum(np.bincount(np.concatenate(ends), minlength=len(base)), 1)
    first = [middle * np.log(np.maximum(v / base_shown[r], LOW)) for v, r in zip(shown, readings, strict=True)]
    share = (loss[place].T + _gather(ends, first, len(base))) / count
    hold = [share.take(e, axis=1) - f for e, f in zip(ends, first, strict=True)]
    relaxed = np.empty_like(cost)
    for _ in range(SWEEPS):
        np.add(cost, hold[0][:, None], out=relaxed)
        relaxed += hold[1]
        least = [relaxed.min(axis=1), relaxed.min(axis=0)]
        mean = _gather(ends, least, len(base)) / count
        hold = [h + (mean.take(e, axis=1) - m) / 2 for h, e, m in zip(hold, ends, least, strict=True)]
    tight = (cost + hold[1]).min(axis=1)  # a concave function of the left power, and its slopes
    run = np.diff(shown[0], axis=0) * worth
    slope = np.divide(np.diff(tight, axis=0), run, out=np.full_like(run, np.inf), where=run > 0)
    return Curves(knot, np.ascontiguousarray(slope.T))


def _gather(ends: tuple[IntArray, IntArray], values: Sequence[FloatArray], groups: int) -> FloatArray:
    """Add up what edges say of their groups: (knots, edges) of either end to (knots, groups)."""
    knots = len(values[0])
    cell = np.arange(knots)[:, None] * groups + np.concatenate(ends)
    return _sums(cell.ravel(), np.concatenate(values, axis=1).ravel(), knots * groups).reshape(knots, groups)


def _sums(cell: IntArray, values: FloatArray, cells: int) -> FloatArray:
    """Add up values by cell, shape (cells,)."""
    return np.bincount(cell, values, minlength=cells).astype(np.float64, copy=False)


def _knots(choices: Choices, base: FloatArray) -> IntArray:
    """Ranks of a few choices of every group, evenly spread, the closest one moved to the base: (groups, knots)."""
    last = (choices.count - 1)[:, None]
    knot = np.rint(np.linspace(0, 1, KNOTS) * last).astype(np.int64)
    here = choices.find(base)
    near = np.abs(knot - here[:, None]).argmin(axis=1)
    inner = np.flatnonzero((near > 0) & (near < KNOTS - 1))
    knot[inner, near[inner]] = here[inner]
    return knot


def _spread(
    limits: Limits, choices: Choices, edges: Edges, curves: Curves, shares: Sequence[FloatArray]
) -> list[FloatArray]:
    """Add up the pairs of functions of all edges at every choice, once for each weighting of the edges.

    An edge's pair is a(x), b(y) with a(x) + b(y) <= x * y for all x and y: ``a`` is the integral of the edge's curve,
    and ``b(y)`` the least of x * y - a(x), which is where the falling curve crosses y. The choices of all edges lie
    flat, one edge after the other; an edge's curve has a value for every step from one choice of x to the next.
    """
    groups = limits.readings.group
    (x_at, x_edge, first), (y_at, y_edge, _) = (_flat(choices, groups[ends]) for ends in (edges.left, edges.right))
    x = _shown(limits, choices, edges.left[x_edge], x_at)
    y = _shown(limits, choices, edges.right[y_edge], y_at)
    last = np.append(x_edge[1:] != x_edge[:-1], True) if len(x) else np.zeros(0, np.bool_)
    curve = np.where(last, 0.0, _interpolate(choices, groups[edges.left], curves, x_at, x_edge))
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
    return [_sums(at, np.concatenate([share[x_edge] * a, share[y_edge] * b]), size) for share in shares]


def _flat(choices: Choices, group: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the choices of these groups, one group after the other, whose they are, and where each group starts."""
    count = choices.count[group]
    first = np.cumsum(count) - count
    edge = np.repeat(np.arange(len(group)), count)
    return choices.start[group][edge] + np.arange(len(edge)) - first[edge], edge, first


def _interpolate(choices: Choices, left: IntArray, curves: Curves, at: IntArray, edge: IntArray) -> FloatArray:
    """Return the falling curves of edges at the steps from choices ``at`` to the next, between the knots' slopes.

    ``left`` is the group on the left of every edge.
    """
    knot, columns = curves.knot, curves.slope.shape[1]
    wide = np.diff(knot, axis=1) > 0
    falling = np.minimum.accumulate(np.where(wide[left], curves.slope, np.inf), axis=1)
    known = np.asarray(np.isfinite(falling))
    begins = np.take_along_axis(falling, np.expand_dims(known.argmax(axis=1), 1), axis=1)
    falling = np.where(known, falling, np.where(known.any(axis=1, keepdims=True), begins, 0.0))
    # The stretches between knots, by the rank of their middle; ranks of different groups are kept well apart.
    apart = 2.0 * (choices.count.max() + 1)
    group, column = np.nonzero(wide)
    if not len(group):
        return np.zeros(len(at))
    middle = (knot[group, column] + knot[group, column + 1]) / 2 + apart * group
    owner = choices.owner
    here = np.arange(len(owner)) - choices.start[owner] + 0.5 + apart * owner
    begin = np.minimum(np.searchsorted(group, owner), len(group) - 1)
    end = np.maximum(np.searchsorted(group, owner, side="right") - 1, begin)
    after = np.searchsorted(middle, here)
    low, high = np.clip(after - 1, begin, end), np.clip(after, begin, end)
    run = middle[high] - middle[low]
    part = np.divide(here - middle[low], run, out=np.zeros_like(run), where=run > 0)
    cell = edge * columns
    left, right = falling.flat[cell + column[low][at]], falling.flat[cell + column[high][at]]
    return np.asarray(left + part[at] * (right - left))
