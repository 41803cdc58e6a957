"""Timing in turns: what is measured, in which order, and when it is enough; the clock is fed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from graphprune.latency.clock import WARM_UP, Effort, Spread, Timing, interleaved
from graphprune.latency.machine import Lap

LONG = Effort(tolerance=-1.0, least=1, most=40, seconds=1e9, turn=0.0)
"""Forty rounds, whatever comes out."""


def lap_of(seconds: Callable[[], float], ran: list[int] | None = None, name: int = 0) -> Lap:
    def lap(runs: int) -> float:
        if ran is not None:
            ran.append(name)
        return sum(seconds() for _ in range(runs))

    return lap


def steady(value: float) -> Callable[[], float]:
    return lambda: value


def test_a_spread_holds_quartiles() -> None:
    values = np.arange(1.0, 102.0)
    found = Spread.of(values)
    assert (found.median, found.low, found.high, found.runs) == (51, 26, 76, 101)
    assert found.to_dict() == {"median": 51, "low": 26, "high": 76, "runs": 101}


def test_the_interval_holds_the_true_median_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        found = Spread.of(rng.lognormal(0.0, 0.5, 41))  # the median is 1
        hits += found.least <= 1.0 <= found.most
    assert 0.93 <= hits / 600 <= 0.99


def test_contenders_take_turns_and_change_the_order() -> None:
    ran: list[int] = []
    laps = [lap_of(steady(1.0), ran, k) for k in range(3)]
    interleaved(laps, Effort(tolerance=-1.0, least=1, most=4, seconds=1e9, turn=0.0))
    assert ran == [0] * WARM_UP + [1] * WARM_UP + [2] * WARM_UP + [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0]


def test_fast_models_run_several_times_in_a_turn() -> None:
    runs: list[int] = []

    def lap(times: int) -> float:
        runs.append(times)
        return 0.001 * times

    timing = interleaved([lap], Effort(tolerance=-1.0, least=1, most=3, seconds=1e9, turn=0.0045))
    assert runs == [1] * WARM_UP + [5, 5, 5]
    assert timing.seconds == pytest.approx(np.full((3, 1), 0.001))


def test_what_slows_the_whole_machine_down_leaves_ratios_alone() -> None:
    """The machine's pace wanders by a factor of four; both contenders of a round meet about the same."""
    rng = np.random.default_rng(1)
    pace = np.exp(np.cumsum(rng.normal(0, 0.02, 1000)))
    tick: Iterator[int] = count()
    timing = interleaved([lap_of(lambda: pace[next(tick)]), lap_of(lambda: 0.6 * pace[next(tick)])], LONG)
    ratio = timing.ratio(1)
    assert ratio.median == pytest.approx(0.6, rel=0.02)
    assert np.ptp(timing.seconds[:, 0]) > 5 * (ratio.high - ratio.low)


def test_a_few_bad_rounds_do_not_count() -> None:
    tick = count()
    slow = lap_of(lambda: 50.0 if next(tick) % 5 == 4 else 2.0)
    assert interleaved([lap_of(steady(1.0)), slow], LONG).ratio(1).median == 2.0


def test_rounds_end_once_the_ratio_is_known() -> None:
    rng = np.random.default_rng(2)
    effort = Effort(tolerance=0.01, least=11, most=2000, seconds=1e9, turn=0.0)
    found = {}
    for noise in (0.001, 0.05, 0.1):
        laps = [lap_of(lambda: 1.0), lap_of(lambda noise=noise: 0.5 * rng.normal(1.0, noise))]  # type: ignore[misc]
        timing = interleaved(laps, effort)
        found[noise] = len(timing.seconds)
        assert timing.doubt <= 0.01
    assert found[0.001] == 11
    # Four times as much noise takes sixteen times as many rounds, roughly.
    assert 2 < found[0.1] / found[0.05] < 8


def test_rounds_end_when_the_time_is_up() -> None:
    rng = np.random.default_rng(3)
    laps = [lap_of(lambda: rng.uniform(0.5, 1.5)) for _ in range(2)]
    effort = Effort(tolerance=1e-6, least=5, most=10_000, seconds=60.0, turn=0.0)
    assert 30 <= interleaved(laps, effort).seconds.sum() <= 64
    slow = [lap_of(steady(100.0)), lap_of(steady(90.0))]
    assert len(interleaved(slow, effort).seconds) == 3  # three rounds are the least, however slow


def test_ratios_are_of_single_rounds() -> None:
    timing = Timing(np.array([[1.0, 2.0], [10.0, 10.0], [100.0, 300.0]]))
    assert timing.ratio(1).median == 2.0
    assert timing.ratio(0).median == 1.0
    assert timing.spread(1).median == 10.0
