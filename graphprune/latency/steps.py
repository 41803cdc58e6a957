"""The steps of blocked kernels, found in timings of neighbouring widths.

A kernel that works in blocks of p charges for whole blocks: its time is a staircase. Some have two staircases, one in
the other (blocks, and bundles of blocks); some have a slower path for widths that do not fill blocks. What is fitted is
a sum of all of these with non-negative weights, one after the other, as long as each explains what is left clearly
better than noise would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cost import FloatArray, IntArray
from .profile import Steps

PERIODS = (1, 2, 4, 8, 16, 32, 64)
PATHS = (2, 4, 8, 16, 32)
BASE = 64
"""A multiple of every period: scans lie around it."""
OFFSETS = (
    -24, -16, -8, -4, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 16, 17, 20, 24, 25, 28, 32, 33, 36, 40, 41, 42, 44, 48, 49, 52,
    56, 57, 60, 64, 65, 68, 72, 80,
)  # fmt: skip
"""What is added to the base: either side of every border of every period, once or more."""
MOST_FEATURES = 5
ENOUGH = 0.15
"""A further feature has to explain this part of the squares that are left."""
NOISE = 0.01
"""Relative errors below this are not explained any further."""
TRUSTED = 0.75
"""Part of the timings that are taken to be undisturbed."""
WITHIN = 0.25
"""Widths are aligned to blocks inside which at most this part of the slope is paid."""
LEAST_PENALTY = 0.04


def scan_widths() -> IntArray:
    """Return the widths of a scan, ascending, shape (count,)."""
    return np.array(OFFSETS, np.int64) + BASE


def blocks(widths: IntArray, period: int) -> FloatArray:
    """Return widths rounded up to whole blocks."""
    return np.asarray(-(-np.asarray(widths) // period) * period, np.float64)


def effective(steps: Steps, widths: IntArray) -> FloatArray:
    """Return what widths count for where every step is paid at its beginning; at full blocks that is the width."""
    charged = sum((s * blocks(widths, p) for p, s in steps.share.items()), np.zeros(np.shape(widths)))
    return np.asarray(charged)


def find_steps(widths: IntArray, seconds: FloatArray) -> tuple[Steps, float]:
    """Find the steps in the seconds of neighbouring widths, both of shape (count,), and what they leave unexplained.

    That is a root of mean squares of relative errors. Large ones count less: a disturbed timing is no step.
    """
    scaled = seconds / np.median(seconds)
    features = {("block", p): blocks(widths, p) / BASE for p in PERIODS}
    trials = {1: _selected(features, scaled, None)}
    for p in PATHS:
        path = ("slow", p)
        trials[p] = _selected({**features, path: (widths % p != 0) * widths / BASE}, scaled, path)
    count = len(widths)
    # As in Schwarz's criterion, a weight more has to pay for itself; a slow path, which forbids widths, twice over.
    price = {p: count * np.log(left) + np.log(count) * (len(w) + (p > 1)) for p, (w, left) in trials.items()}
    slow = min(price, key=lambda p: price[p])
    weights, left = trials[slow]
    level = float(np.median(scaled[widths % slow == 0]))
    penalty = weights.get(("slow", slow), 0.0) * float(np.median(widths)) / BASE / level
    only = slow if penalty >= LEAST_PENALTY else 1
    penalty = penalty if only > 1 else 0.0
    share = {p: weights.get(("block", p), 0.0) for p in PERIODS}
    total = sum(share.values())
    # What a width costs has to be seen among the errors: a kernel that takes the same at all widths has no steps.
    if total * (widths[-1] - widths[0]) / BASE < 2 * NOISE:
        return Steps({1: 1.0}, only, penalty, only), float(np.sqrt(left))
    share = {p: s / total for p, s in share.items() if s > 0.02 * total}
    share = {p: s / sum(share.values()) for p, s in share.items()}
    return Steps(share, only, penalty, max(aligned(share), only)), float(np.sqrt(left))


def aligned(share: Mapping[int, float]) -> int:
    """Return the largest block inside which little of the slope is paid."""
    return max(p for p in PERIODS if sum(s for q, s in share.items() if q < p) <= WITHIN)


def _selected(
    features: Mapping[tuple[str, int], FloatArray], seconds: FloatArray, given: tuple[str, int] | None
) -> tuple[dict[tuple[str, int], float], float]:
    """Choose features one by one, the one that explains most first; return their weights, and what they leave."""
    chosen: list[tuple[str, int]] = [] if given is None else [given]
    weights, left = _fitted(features, chosen, seconds)
    while len(chosen) < MOST_FEATURES and left > NOISE**2:
        trials = {name: _fitted(features, [*chosen, name], seconds) for name in features if name not in chosen}
        best = min(trials, key=lambda name: trials[name][1])
        if trials[best][1] > (1 - ENOUGH) * left:
            break
        chosen.append(best)
        weights, left = trials[best]
        chosen = [name for name in chosen if weights.get(name, 0.0) > 0]
    return weights, max(left, NOISE**2 / 4)


def _fitted(
    features: Mapping[tuple[str, int], FloatArray], chosen: Sequence[tuple[str, int]], seconds: FloatArray
) -> tuple[dict[tuple[str, int], float], float]:
    """Fit a constant and features, all non-negative; return the weights, and the mean of the squares, outliers clipped.

    Large errors count in proportion, not in square: the fit is repeated with smaller weights for them.
    """
    from scipy.optimize import nnls

    design = np.stack([np.ones(len(seconds)), *(features[name] for name in chosen)], axis=1)
    trust = 1 / seconds
    for _ in range(4):
        found, _ = nnls(design * trust[:, None], seconds * trust)
        error = np.abs(design @ found / seconds - 1)
        limit = max(1.5 * float(np.quantile(error, TRUSTED)), NOISE / 2)
        trust = np.sqrt(np.minimum(1.0, limit / np.maximum(error, 1e-12))) / seconds
    squares = float(np.mean(np.minimum(error, 3 * limit) ** 2))
    return {name: float(w) for name, w in zip(chosen, found[1:], strict=True)}, squares
