"""Which sizes of a node to time: few at first, more where the line between two of them misses what lies between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from .cache import Points
from .profile import Steps
from .tables import aligned_up, misses

FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
INSIDE = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.5), (0.5, 0.25), (0.125, 0.125))
"""Where two variables are both cut."""
TOLERANCE = 0.06
"""What a line may miss before the stretches beside it are halved."""
MOST_KNOTS = 14
FINE, CHOICE = 8, 4
"""Blocks larger than the first are halved where a size has fewer than so many of them."""
ROUNDS = 4
Point = tuple[int, ...]


def first_points(full: Point, steps: Sequence[Steps]) -> list[Point]:
    """Return the sizes to time at first: a line along each variable with the others full, and some with several cut."""

    def at(v: int, fraction: float) -> int:
        return aligned_up(fraction * full[v], full[v], _grain(full[v], steps[v]))

    points = [(*full[:v], at(v, f), *full[v + 1 :]) for v in range(len(full)) for f in FRACTIONS]
    for one, other in combinations(range(len(full)), 2):
        for f, g in INSIDE:
            changed = {one: at(one, f), other: at(other, g)}
            points.append(tuple(changed.get(v, n) for v, n in enumerate(full)))
    if len(full) > 2:
        points += [tuple(at(v, f) for v in range(len(full))) for f in (0.25, 0.5, 0.75)]
    return list(dict.fromkeys(points))


def _grain(full: int, steps: Steps) -> int:
    """Return what sizes to time are multiples of: whole blocks, but a choice of them."""
    grain = steps.align
    while grain > FINE and full < CHOICE * grain:
        grain //= 2
    return grain


def line(full: Point, v: int, points: Mapping[Point, float]) -> tuple[list[int], list[float]]:
    """Return the sizes of variable ``v``, ascending, that were timed with all others full, and their seconds."""
    found = sorted((p[v], s) for p, s in points.items() if p[:v] == full[:v] and p[v + 1 :] == full[v + 1 :])
    return [size for size, _ in found], [seconds for _, seconds in found]


def further_points(full: Point, steps: Sequence[Steps], points: Points) -> tuple[list[Point], list[Point]]:
    """Return the sizes to time next: half-way on both sides of each that the line between its neighbours misses.

    The second list are sizes to time once more, as what looks like a step may have been something else's work: each
    that is missed, and its neighbours.
    """
    wanted: list[Point] = []
    doubted: list[Point] = []
    for v in range(len(full)):
        sizes, seconds = line(full, v, points)
        if len(sizes) < 3:
            continue
        align = _grain(full[v], steps[v])
        for k in np.flatnonzero(misses(steps[v], sizes, seconds) > TOLERANCE).tolist():
            at = sizes[k - 1 : k + 2]
            doubted += [(*full[:v], size, *full[v + 1 :]) for size in at]
            middles = [(low, aligned_up((low + high - align) / 2, full[v], align), high) for low, high in pairwise(at)]
            if len(sizes) < MOST_KNOTS:
                wanted += [(*full[:v], m, *full[v + 1 :]) for low, m, high in middles if low < m < high]
    return [p for p in dict.fromkeys(wanted) if p not in points], list(dict.fromkeys(doubted))
