"""Block sizes are found in timings of neighbouring widths, through noise and outliers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from graphprune.latency.profile import Steps
from graphprune.latency.steps import PERIODS, aligned, effective, find_steps, scan_widths

Curve = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def up(widths: NDArray[np.int64], block: int) -> NDArray[np.float64]:
    return np.asarray(np.ceil(widths / block) * block / 64)


def found(curve: Curve, noise: float = 0.01, outliers: float = 0.04, seed: int = 0) -> Steps:
    rng, widths = np.random.default_rng(seed), scan_widths()
    seconds = curve(widths) * (1 + noise * np.abs(rng.standard_normal(len(widths))))
    seconds[rng.random(len(widths)) < outliers] *= 1.6
    return find_steps(widths, 3e-5 * seconds)[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("period", [4, 8, 16, 32, 64])
def test_blocks_are_seen(period: int, seed: int) -> None:
    steps = found(lambda w: 0.3 + up(w, period), seed=seed)
    assert (steps.align, steps.only) == (period, 1)
    assert steps.share[period] > 0.8


@pytest.mark.parametrize("period", PERIODS)
def test_without_noise_they_are_exact(period: int) -> None:
    steps = found(lambda w: 0.3 + up(w, period), noise=0.0, outliers=0.0)
    assert steps.align == period
    assert steps.share == {period: pytest.approx(1.0)}


@pytest.mark.parametrize("seed", range(3))
def test_a_straight_line_has_none(seed: int) -> None:
    assert found(lambda w: 0.1 + w / 64, seed=seed).align <= 2


def test_blocks_and_bundles_of_blocks() -> None:
    steps = found(lambda w: 0.1 + 0.5 * up(w, 8) + 0.5 * up(w, 32))
    assert steps.align == 8
    assert steps.share[8] == pytest.approx(0.5, abs=0.1)
    assert steps.share[32] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("only", "slower"), [(4, 1.35), (4, 4.5), (8, 1.3), (2, 1.5)])
def test_a_slower_path_beside_multiples(only: int, slower: float, seed: int) -> None:
    steps = found(lambda w: (0.1 + up(w, 8)) * np.where(w % only, slower, 1.0), seed=seed)
    assert (steps.only, steps.align) == (only, 8)
    assert 0.5 * (slower - 1) < steps.penalty < 1.5 * (slower - 1)


def test_a_kernel_that_does_not_care_has_no_steps() -> None:
    assert found(lambda w: np.ones(len(w))) == Steps()


def test_one_disturbed_timing_is_no_step() -> None:
    widths = scan_widths()
    seconds = 1e-5 * widths.astype(np.float64)
    seconds[7] *= 3
    assert find_steps(widths, seconds)[0].align == 1


def test_what_is_left_unexplained_is_told() -> None:
    widths, rng = scan_widths(), np.random.default_rng(0)
    line = widths * 1e-6
    assert find_steps(widths, line)[1] < 0.01
    assert find_steps(widths, line * rng.lognormal(0.0, 0.3, len(widths)))[1] > 0.05


def test_alignment_fills_the_blocks_in_which_most_is_paid() -> None:
    assert aligned({8: 0.55, 32: 0.45}) == 8
    assert aligned({8: 0.1, 32: 0.9}) == 32
    assert aligned({1: 0.2, 16: 0.8}) == 16
    assert aligned({1: 1.0}) == 1


def test_effective_width_rises_at_the_borders_and_is_the_width_there() -> None:
    steps = Steps({8: 0.5, 32: 0.5}, align=8)
    shown = effective(steps, np.arange(97))
    assert shown[[0, 32, 64, 96]].tolist() == [0, 32, 64, 96]
    assert set(np.flatnonzero(np.diff(shown)).tolist()) == set(range(0, 96, 8))
    assert shown[33] - shown[32] == 0.5 * 8 + 0.5 * 32
