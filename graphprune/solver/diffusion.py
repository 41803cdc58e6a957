"""Falling curves for products of two readings, bent so that the relaxed losses of neighbouring groups agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cost import FloatArray, IntArray
from .choices import Choices
from .edges import TINY, Edges, shown, sums
from .limits import Limits

KNOTS = 16
SWEEPS = 8
LOW = 1e-3
"""A part of the base below which a start needs no more detail."""


@dataclass(frozen=True)
class Curves:
    """The falling curve of every edge: ``slope[e, k]`` from the choice of rank ``knot[left, k]`` to the next knot.

    It is infinite where that step changes nothing.
    """

    knot: IntArray
    slope: FloatArray


def diffuse(
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
    values = [
        np.ascontiguousarray(shown(limits, choices, r[:, None], place[e]).T)
        for r, e in zip(readings, ends, strict=True)
    ]
    cost = worth * values[0][:, None] * values[1][None]
    middle = worth * base_shown[edges.left] * base_shown[edges.right]
    count = np.maximum(np.bincount(np.concatenate(ends), minlength=len(base)), 1)
    first = [middle * np.log(np.maximum(v / base_shown[r], LOW)) for v, r in zip(values, readings, strict=True)]
    share = (loss[place].T + _gather(ends, first, len(base))) / count
    hold = [share.take(e, axis=1) - f for e, f in zip(ends, first, strict=True)]
    relaxed = np.empty_like(cost)
    for _ in range(SWEEPS):
        np.add(cost, hold[0][:, None], out=relaxed)
        relaxed += hold[1]
        least = [relaxed.min(axis=1), relaxed.min(axis=0)]
        mean = _gather(ends, least, len(base)) / count
        hold = [h + (mean.take(e, axis=1) - m) / 2 for h, e, m in zip(hold, ends, least, strict=True)]
    tight = (cost + hold[1]).min(axis=1)  # a concave function of the left reading, and its slopes
    run = np.diff(values[0], axis=0) * worth
    slope = np.divide(np.diff(tight, axis=0), run, out=np.full_like(run, np.inf), where=run > 0)
    return Curves(knot, np.ascontiguousarray(slope.T))


def _gather(ends: tuple[IntArray, IntArray], values: Sequence[FloatArray], groups: int) -> FloatArray:
    """Add up what edges say of their groups: (knots, edges) of either end to (knots, groups)."""
    knots = len(values[0])
    cell = np.arange(knots)[:, None] * groups + np.concatenate(ends)
    return sums(cell.ravel(), np.concatenate(values, axis=1).ravel(), knots * groups).reshape(knots, groups)


def _knots(choices: Choices, base: FloatArray) -> IntArray:
    """Ranks of a few choices of every group, evenly spread, the closest one moved to the base: (groups, knots)."""
    last = (choices.count - 1)[:, None]
    knot = np.rint(np.linspace(0, 1, KNOTS) * last).astype(np.int64)
    here = choices.find(base)
    near = np.abs(knot - here[:, None]).argmin(axis=1)
    inner = np.flatnonzero((near > 0) & (near < KNOTS - 1))
    knot[inner, near[inner]] = here[inner]
    return knot


def interpolate(choices: Choices, left: IntArray, curves: Curves, at: IntArray, edge: IntArray) -> FloatArray:
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
