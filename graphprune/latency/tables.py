"""A node's seconds along one of its variables, at every size, from a few that were timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..cost import FloatArray, IntArray
from .profile import Steps
from .steps import effective

DISTURBED, DIFFERENT = 1.05, 1.15


def isotonic(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the non-decreasing values that are closest in (weighted) squares, by pooling neighbours that fall."""
    totals: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values, np.ones(len(values)) if weights is None else weights, strict=True):
        totals.append(float(value * weight))
        masses.append(float(weight))
        counts.append(1)
        while len(totals) > 1 and totals[-2] * masses[-1] >= totals[-1] * masses[-2]:
            total, mass, count = totals.pop(), masses.pop(), counts.pop()
            totals[-1] += total
            masses[-1] += mass
            counts[-1] += count
    means = np.array(totals) / np.array(masses)
    return np.repeat(means, counts)


def table_of(full: int, steps: Steps, sizes: Sequence[int], seconds: Sequence[float]) -> FloatArray:
    """Return seconds at every size from 0 to ``full``, shape (full + 1,), never falling.

    Between the sizes that were timed (ascending) it follows the kernel's steps; below them it goes on in a line, or
    in proportion where that is more.
    """
    steps = refined(steps, sizes, seconds)
    every = effective(steps, np.arange(full + 1))
    knots = effective(steps, np.asarray(sizes, np.int64))
    timed = np.asarray(seconds, np.float64)
    # No size takes longer than a larger one: what disturbed a timing by more than this is left out.
    timed = np.minimum(timed, DISTURBED * np.minimum.accumulate(timed[::-1])[::-1])
    # Errors are relative: a small number is known better than a large one.
    values = isotonic(timed, 1 / timed**2)
    keep = np.append(np.diff(knots) > 0, True)
    knots, values = knots[keep], values[keep]
    table = np.interp(every, knots, values)
    low = every < knots[0]
    # A kernel has a start, so that half of the size takes half of the time at least.
    table[low] = values[0] * every[low] / knots[0]
    if len(knots) > 1:
        slope = (values[1] - values[0]) / (knots[1] - knots[0])
        table[low] = np.maximum(table[low], values[0] - slope * (knots[0] - every[low]))
    return np.asarray(np.maximum.accumulate(table))


def refined(steps: Steps, sizes: Sequence[int], seconds: Sequence[float]) -> Steps:
    """Return steps that agree with timings: blocks in which sizes do not cost the same are halved, the largest first.

    A scan may be wrong, and a node may differ from that of its class that was scanned.
    """
    at, timed, share = np.asarray(sizes, np.int64), np.asarray(seconds, np.float64), dict(steps.share)
    while (largest := max(share)) > 1:
        same = np.diff(effective(replace(steps, share=share), at)) == 0
        if not (timed[1:] > DIFFERENT * timed[:-1])[same].any():
            break
        share[largest // 2] = share.get(largest // 2, 0.0) + share.pop(largest)
    return replace(steps, share=share)


def misses(steps: Steps, sizes: Sequence[int], seconds: Sequence[float]) -> FloatArray:
    """Return how far every inner point is from the line between its neighbours, relative; the ends miss by nothing."""
    steps = refined(steps, sizes, seconds)
    at, values = effective(steps, np.asarray(sizes, np.int64)), np.asarray(seconds, np.float64)
    found = np.zeros(len(values))
    if len(values) > 2:
        span = at[2:] - at[:-2]
        part = np.where(span > 0, (at[1:-1] - at[:-2]) / np.where(span > 0, span, 1), 0.5)
        found[1:-1] = np.abs((values[:-2] + part * (values[2:] - values[:-2])) / values[1:-1] - 1)
    return found


def aligned_up(size: float, full: int, align: int) -> int:
    """Return the first whole multiple from a size on, or the full size where that is less."""
    return int(min(max(-(-size // align), 1) * align, full))


def all_multiples(full: int, align: int) -> IntArray:
    """Return the multiples up to the full size, and that."""
    return np.unique(np.append(np.arange(align, full, align), full))
