"""Few sizes are timed where time is a line between known steps, more where it is not, none twice for nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphprune.latency.fit import fit
from graphprune.latency.profile import Steps
from graphprune.latency.sampling import MOST_KNOTS, ROUNDS, Point, first_points, further_points, line

EIGHT = Steps({8: 1.0}, align=8)


def sampled(full: Point, steps: tuple[Steps, ...], truth: Callable[..., float]) -> dict[Point, float]:
    points = {p: truth(*p) for p in first_points(full, steps)}
    for _ in range(ROUNDS):
        wanted, _ = further_points(full, steps, points)
        points.update({p: truth(*p) for p in wanted})
    return points


def test_a_line_needs_no_more_than_the_first_points() -> None:
    points = sampled((256,), (Steps(),), lambda a: 1 + a)
    assert len(points) == 5
    points = sampled((256, 512), (EIGHT, EIGHT), lambda a, b: 1 + a * b)
    assert len(points) == 14


def test_known_blocks_need_no_more_either() -> None:
    assert len(sampled((250,), (EIGHT,), lambda a: 1 + -(-a // 8))) == 5


def test_sizes_are_whole_blocks_and_the_full_size_is_among_them() -> None:
    for a, b in first_points((100, 60), (EIGHT, Steps())):
        assert a == 100 or a % 8 == 0
        assert 0 < b <= 60
    assert (100, 60) in first_points((100, 60), (EIGHT, Steps()))
    assert first_points((5,), (EIGHT,)) == [(5,)]


def test_more_where_the_line_misses() -> None:
    def kink(a: int) -> float:
        return 1 + a / 64 + (3.0 if a > 300 else 0.0)

    points = sampled((512,), (EIGHT,), kink)
    sizes, seconds = line((512,), 0, points)
    assert 5 < len(sizes) <= MOST_KNOTS + 2
    gap = np.diff(sizes)[int(np.argmax(np.diff(seconds)))]
    assert gap <= 32
    surface = fit((512,), (EIGHT,), points)
    every = np.arange(64, 513, 8)
    far = np.abs(np.array([surface((a,)) / kink(a) - 1 for a in every]))
    assert np.median(far) < 0.01 and (far > 0.1).mean() < 0.06


def test_what_looks_like_a_step_is_timed_again() -> None:
    points = {p: float(p[0]) for p in first_points((64,), (EIGHT,))}
    points[32,] = 60.0
    wanted, doubted = further_points((64,), (EIGHT,), points)
    assert (32,) in doubted
    assert all(p not in points for p in wanted)
    points[32,] = 32.0
    assert further_points((64,), (EIGHT,), points) == ([], [])
