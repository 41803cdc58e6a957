"""Timing contenders against each other: in turns, so that a noisy machine is as noisy for all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

Times = dict[str, list[float]]


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes, starting with a collected heap."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int, limit: float = 120.0) -> Times:
    """Call every contender once a round; no new round begins after ``limit`` seconds."""
    times: Times = {name: [] for name in contenders}
    start = time.perf_counter()
    for _ in range(rounds):
        for name, work in contenders.items():
            times[name].append(seconds(work))
        if time.perf_counter() - start > limit:
            break
    return times


def ratio(times: Times, over: str, under: str) -> str:
    """Return median over median, with the smallest and the largest ratio of a single round."""
    rounds = [a / b for a, b in zip(times[over], times[under], strict=True)]
    return f"{median(times[over]) / median(times[under]):7.2f}  ({min(rounds):.2f} to {max(rounds):.2f})"


def stopwatch(stages: Times) -> Callable[[str], None]:
    """Return a progress function that adds every stage's seconds to ``stages``; one more call ends the last one."""
    last: list[tuple[str, float]] = []

    def step(stage: str) -> None:
        now = time.perf_counter()
        if last:
            name, start = last.pop()
            stages.setdefault(name, []).append(now - start)
        last.append((stage, now))

    return step
