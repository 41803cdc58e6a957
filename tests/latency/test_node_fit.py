"""A node's seconds at all sizes from those that were timed, against a known truth."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.latency.fit import fit
from graphprune.latency.profile import Steps
from graphprune.latency.sampling import Point, first_points

EIGHT, EVEN = Steps({8: 1.0}, align=8), Steps()


def up(size: int, block: int) -> int:
    return -(-size // block) * block


def conv(a: int, b: int) -> float:
    return 2.0 + 0.05 * up(a, 8) + 0.1 * up(b, 8) + 0.02 * up(a, 8) * up(b, 8)


def timed(full: Point, steps: tuple[Steps, ...], noise: float, seed: int) -> dict[Point, float]:
    rng = np.random.default_rng(seed)
    return {p: conv(*p) * (1 + noise * abs(rng.standard_normal())) for p in first_points(full, steps)}


@pytest.mark.parametrize(("noise", "most", "half"), [(0.0, 0.001, 0.001), (0.03, 0.2, 0.05)])
@pytest.mark.parametrize("full", [(256, 64), (24, 144), (200, 300)])
def test_close_to_the_truth_everywhere(full: Point, noise: float, most: float, half: float) -> None:
    for seed in range(3):
        surface = fit(full, (EIGHT, EIGHT), timed(full, (EIGHT, EIGHT), noise, seed))
        rng = np.random.default_rng(seed)
        points = [
            (int(rng.integers(full[0] // 8, full[0] + 1)), int(rng.integers(full[1] // 8, full[1] + 1)))
            for _ in range(100)
        ]
        errors = np.array([abs(surface(p) / conv(*p) - 1) for p in points])
        assert errors.max() < most and np.median(errors) < half


def test_rising_in_every_variable_and_never_negative() -> None:
    surface = fit((96, 80), (EIGHT, EVEN), timed((96, 80), (EIGHT, EVEN), 0.2, 1))
    values = np.array([[surface((a, b)) for b in range(81)] for a in range(97)])
    assert (np.diff(values, axis=0) >= -1e-12).all() and (np.diff(values, axis=1) >= -1e-12).all()
    assert values.min() >= 0
    assert (surface.weight >= 0).all()
    assert all(g[0] == 0 and g[-1] == pytest.approx(1) and (np.diff(g) >= 0).all() for g in surface.gauges)


def test_full_sizes_fit_best() -> None:
    points = timed((128, 128), (EIGHT, EIGHT), 0.05, 3)
    assert fit((128, 128), (EIGHT, EIGHT), points)((128, 128)) == pytest.approx(points[128, 128], rel=0.03)


def test_three_variables() -> None:
    full = (12, 64, 40)
    truth = {p: 1.0 + 0.5 * p[0] * p[1] + 0.2 * p[0] * p[1] * p[2] for p in first_points(full, (EVEN,) * 3)}
    surface = fit(full, (EVEN,) * 3, truth)
    assert surface((6, 16, 10)) == pytest.approx(1 + 0.5 * 6 * 16 + 0.2 * 6 * 16 * 10, rel=0.02)


def test_a_size_that_does_not_matter() -> None:
    surface = fit((64,), (EVEN,), {(8,): 5.0, (32,): 5.0, (64,): 5.0})
    assert surface((8,)) == pytest.approx(5.0, rel=0.01)
