"""Tables over sizes: the closest rising values, and nothing invented between them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from graphprune.latency.profile import Steps
from graphprune.latency.tables import aligned_up, isotonic, misses, refined, table_of


@pytest.mark.parametrize("seed", range(8))
def test_isotonic_is_the_closest_rising_sequence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.standard_normal(9) + np.arange(9) * 0.3, rng.uniform(0.2, 2.0, 9)
    # The same as a bounded least squares problem: a first value and steps that are not negative.
    sums, root = np.tril(np.ones((9, 9))), np.sqrt(weights)
    bounds = (np.r_[-np.inf, np.zeros(8)], np.full(9, np.inf))
    best = sums @ lsq_linear(sums * root[:, None], values * root, bounds, tol=1e-14).x
    assert isotonic(values, weights) == pytest.approx(best, abs=1e-5)


def test_a_rising_sequence_stays() -> None:
    assert isotonic(np.array([1.0, 2.0, 2.0, 5.0])).tolist() == [1, 2, 2, 5]


def test_table_follows_the_blocks_between_what_was_timed() -> None:
    table = table_of(32, Steps({8: 1.0}, align=8), [8, 16, 32], [1.0, 2.0, 4.0])
    assert table[[8, 16, 24, 32]].tolist() == [1, 2, 3, 4]
    assert table[9] == table[16] and table[17] == table[24] and table[1] == table[8]
    assert table[0] == 0


def test_table_of_an_even_kernel_is_a_line_that_goes_on_below() -> None:
    table = table_of(20, Steps(), [10, 20], [3.0, 5.0])
    assert table == pytest.approx(1 + 0.2 * np.arange(21))


def test_table_never_falls_and_forgets_a_disturbed_timing() -> None:
    table = table_of(40, Steps(), [10, 20, 30, 40], [1.0, 9.0, 3.0, 4.0])
    assert (np.diff(table) >= 0).all()
    assert table[20] == pytest.approx(3.0, rel=0.06)
    assert table[40] == pytest.approx(4.0)


def test_a_single_timing_is_taken_for_proportional() -> None:
    assert table_of(8, Steps(), [8], [4.0]) == pytest.approx(np.arange(9) / 2)


def test_misses_are_relative_and_know_the_steps() -> None:
    assert misses(Steps(), [8, 16, 24], [1.0, 2.0, 3.0]).tolist() == [0, 0, 0]
    assert misses(Steps(), [8, 16, 24], [1.0, 4.0, 3.0])[1] == pytest.approx(0.5)
    blocks = Steps({16: 1.0}, align=16)
    assert misses(blocks, [16, 32, 48], [1.0, 2.0, 3.0]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "full", "align", "is_"),
    [(3, 20, 8, 8), (9, 20, 8, 16), (17, 20, 8, 20), (0, 5, 8, 5)],
)
def test_aligned_up(size: float, full: int, align: int, is_: int) -> None:
    assert aligned_up(size, full, align) == is_


def test_steps_that_timings_contradict_are_halved() -> None:
    wrong = Steps({32: 1.0}, align=32)
    assert refined(wrong, [8, 16, 24, 32], [1.0, 2.0, 3.0, 4.0]).share == {8: 1.0}
    assert refined(wrong, [32, 64], [1.0, 2.0]).share == {32: 1.0}
    assert refined(wrong, [8, 32], [1.0, 1.1]).share == {32: 1.0}
    both = Steps({8: 0.5, 32: 0.5}, align=8)
    assert refined(both, [8, 16, 24, 32], [1.0, 1.2, 1.4, 1.6]).share == both.share
    table = table_of(32, wrong, [8, 16, 24, 32], [1.0, 2.0, 3.0, 4.0])
    assert table[[8, 9, 16, 32]].tolist() == [1, 2, 2, 4]
