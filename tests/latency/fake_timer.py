"""Seconds of nodes that are known functions of their sizes, with one-sided noise: nothing is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from graphprune.latency.fragments import Job, shape_of

Truth = Callable[[Job], float]


class FakeTimer:
    """Answers with the truth times noise that only ever slows down; remembers what it was asked."""

    def __init__(self, truth: Truth, noise: float = 0.0, outliers: float = 0.0, seed: int = 0) -> None:
        self.truth, self.noise, self.outliers = truth, noise, outliers
        self.rng = np.random.default_rng(seed)
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    def __call__(self, jobs: Sequence[Job]) -> NDArray[np.float64]:
        self.asked += [(job.template.key, job.values) for job in jobs]
        slower = 1 + self.noise * np.abs(self.rng.standard_normal(len(jobs)))
        slower[self.rng.random(len(jobs)) < self.outliers] *= 1.7
        return np.array([self.truth(job) for job in jobs]) * slower


def shapes(job: Job) -> list[tuple[int, ...]]:
    """The shapes of a job's inputs."""
    return [shape_of(o.axes, job.values) for o in job.template.operands if o is not None]


def up(size: int, block: int) -> int:
    return -(-size // block) * block


def blocked(job: Job) -> float:
    """Convolutions in blocks of 8 on both sides, matrix products without blocks, everything else by its elements."""
    x, *rest = shapes(job)
    if rest and len(x) == 4 and len(rest[0]) == 4:
        out, inner, *window = rest[0]
        work = prod(x[2:]) * prod(window)
        return 1e-6 + work * 1e-9 * (3 * up(out, 8) + (up(inner, 8) if inner > 3 else inner) * up(out, 8))
    if rest and len(rest[0]) == 2:
        return 2e-6 + 1e-9 * prod(rest[0])
    return 1e-6 + 1e-9 * sum(map(prod, [x, *rest]))
