"""Layers made of moments, their energies, and how many rows scores and repair look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matrices import system
from onnx_models import Net

import graphprune as gp
from graphprune.data import open_samples, specs_of_model
from graphprune.repair import before as kept_before
from graphprune.repair import nested
from graphprune.repair.before import FEWEST, MOST, Before, rows_for
from graphprune.repair.fit import least_squares
from graphprune.repair.group_layers import Summing
from graphprune.repair.halves import Halves
from graphprune.repair.layer import Layer
from graphprune.statistics import consumers_of
from graphprune.statistics.moments import Moments
from graphprune.statistics.windows import Rows


def moments_of(x: Any, dtype: Any = np.float64) -> Moments:
    mean = x.mean(axis=0)
    return Moments(len(x), mean, ((x - mean).T @ (x - mean)).astype(dtype)[None])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("centred", [True, False])
def test_a_layer_of_moments_is_that_of_its_rows(centred: bool, dtype: Any) -> None:
    made = system(5, 2, 4, rows=60, centred=centred, seed=1)
    x, plain = made.data, made.layer
    layer = Layer.of(plain.weights, moments_of(x, dtype), centred=centred, unit=plain.unit, units=5)
    wanted = x - x.mean(axis=0) if centred else x
    assert layer.rows == 60
    assert layer.gram == pytest.approx(wanted.T @ wanted / 60, rel=1e-4, abs=1e-5)
    assert layer.variance == pytest.approx(x.var(axis=0), rel=1e-5)
    assert layer.power == pytest.approx(np.square(x).mean(axis=0), rel=1e-5)
    assert layer.energy == pytest.approx(np.square(wanted @ plain.weights.T).sum() / 60, rel=1e-5)
    assert layer.power == pytest.approx(plain.power, rel=1e-5)
    assert layer.variance == pytest.approx(plain.variance, rel=1e-5)


def test_moments_in_float32_add_up_in_float32() -> None:
    x = np.random.default_rng(0).standard_normal((70, 6)) + 2
    both = moments_of(x[:20], np.float32) + moments_of(x[20:], np.float32)
    assert both.scatter.dtype == np.float32
    assert both.scatter == pytest.approx(moments_of(x).scatter, rel=1e-5)
    assert both.mean == pytest.approx(x.mean(axis=0))


def chain(width: int = 6) -> Any:
    net = Net(seed=2)
    h = net.op("Relu", net.gemm(net.input("n", 5, name="x"), 5, width, "first"))
    return net.model(net.gemm(h, width, 3, "out"))


@pytest.mark.parametrize("noise", [0.0, 1e-14])
def test_constant_inputs_are_no_reason_for_a_large_factor(noise: float) -> None:
    """What varies of constant inputs is rounding; without a floor one over its energy would decide for the group."""
    graph = gp.trace(chain())
    groups = gp.couple(graph)
    (group,) = groups.groups
    constant = Moments(100, np.full(6, 3.0), noise * 100 * np.eye(6)[None])
    made = Summing.of(graph, groups).layers(group.id, lambda consumer: constant)
    (layer,) = made.layers
    assert made.factors[0] == pytest.approx(1e12 / np.square(layer.weights @ layer.mean).sum(), rel=1e-3)


def test_rows_are_read_once_where_repair_takes_about_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = gp.trace(chain())
    groups = gp.couple(graph)
    consumers = tuple(consumers_of(graph, groups))
    assert rows_for(consumers) == MOST
    outputs = sum(c.outputs for c in consumers)
    for rows, wanted in ((1.5 * FEWEST, FEWEST), (2.5 * FEWEST, 2.5 * FEWEST)):
        monkeypatch.setattr(kept_before, "TARGETS", int(4 * outputs * rows))
        assert rows_for(consumers) == pytest.approx(wanted, rel=1e-3)
        x = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
        samples = open_samples({"x": x}, specs_of_model(graph.source.model))
        kept = Before.of(graph, consumers, samples, 0)
        reads = []
        inner = Rows.read

        def read(self: Rows, *given: Any, _inner: Any = inner, _reads: list[Any] = reads, **named: Any) -> Any:
            _reads.append(given[3])
            return _inner(self, *given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Rows, "read", read)
            Halves.of_samples(graph, groups, samples.first(45), 0, kept)
        assert len(set(reads)) == (1 if wanted == FEWEST else 2)


def test_moments_in_float32_are_fitted_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    made = system(12, 1, 4, rows=80, seed=6)
    single = moments_of(made.data, np.float32)
    double = Moments(80, single.mean, single.scatter.astype(np.float64))
    gone = np.arange(12) < 4
    for wide in (4, 1000):
        monkeypatch.setattr(nested, "WIDE", wide)
        one, other = (
            least_squares(Layer.of(made.layer.weights, m, centred=True), gone, 1e-4) for m in (single, double)
        )
        assert one.weights == pytest.approx(other.weights, rel=1e-4, abs=1e-4)
        assert one.after == pytest.approx(other.after, rel=1e-4)
