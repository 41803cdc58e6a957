"""A machine whose seconds are a known function of a model's multiply-accumulates, with noise: nothing is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphprune as gp
from graphprune.cost import Latency, Polynomial
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.latency.machine import Lap, Machine
from graphprune.latency.profile import Profile

Truth = Callable[[float], float]
"""Seconds of a model with this part of the original's multiply-accumulates."""


@dataclass
class FakeClock:
    """What a test says of the machine, and what was asked of it: ``loads`` lists the parts of the models loaded."""

    full: float
    truth: Truth
    noise: float = 0.0
    seed: int = 0
    loads: list[float] = field(default_factory=list)

    def seconds(self, model: Any) -> float:
        """The true seconds of a model."""
        part = macs(model) / self.full
        return self.truth(part)

    def lap(self, model: Any) -> Lap:
        self.loads.append(macs(model) / self.full)
        seconds, rng = self.seconds(model), np.random.default_rng((self.seed, len(self.loads)))
        return lambda runs: float(sum(seconds * rng.lognormal(0.0, self.noise) for _ in range(runs)))


def macs(model: Any) -> float:
    model = onnx.load(model) if isinstance(model, Path) else model
    return float(gp.count(gp.trace(model))["macs"])


def in_proportion(groups: Groups, scale: float = 1.0) -> Latency:
    """A cost model that takes time to follow the multiply-accumulates."""
    rows = groups.costs.macs
    assert rows.rows == 1
    seconds = Polynomial(rows.coefficient * scale, rows.factor, rows.row, 1, rows.n_groups)
    tables = tuple(np.arange(size + 1, dtype=np.float64) for size in groups.sizes)
    return Latency(seconds, np.arange(len(groups.sizes)), tables)


def profile(machine: Mapping[str, str] | None = None) -> Profile:
    return Profile(machine or {"cpu": "elsewhere"}, 1, 1.0, 0.0, (), {}, {}, {})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeClock]:
    """Put a fake clock and a simple cost model in the place of the real ones."""

    def install(model: Any, truth: Truth, noise: float = 0.0, seed: int = 0) -> FakeClock:
        clock = FakeClock(macs(model), truth, noise, seed)
        monkeypatch.setattr(Machine, "lap", lambda self, model, feeds: clock.lap(model))
        monkeypatch.setattr("graphprune.latency.profile.measure_profile", lambda *a, **k: profile())
        monkeypatch.setattr("graphprune.latency.model.latency_of", latency_of)
        monkeypatch.setattr("graphprune.latency.model.alignment", lambda *a: {})
        return clock

    def latency_of(graph: Graph, groups: Groups, profile: Profile) -> Latency:
        return in_proportion(groups, 1e-9)

    return install
