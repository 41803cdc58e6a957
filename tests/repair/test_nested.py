"""Fits at many widths from one factorisation, in double and in single precision, against solving each by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matrices import system
from onnx_models import Net

import graphprune as gp
from graphprune.layout import kept_by
from graphprune.repair import nested
from graphprune.repair.apply import cuts_of
from graphprune.repair.elimination import eliminate
from graphprune.repair.layer import Layer
from graphprune.repair.nested import Nested, missed, sketched
from graphprune.repair.nested_cuts import fitted
from graphprune.scores import FloatArray
from graphprune.statistics import collect

RIDGE = 0.01


def solved(layer: Layer, gone: np.ndarray) -> FloatArray:
    """The weights that miss least under the damped moments of all columns."""
    damped, left = layer.damped(RIDGE), ~np.isin(layer.unit, gone)
    made = np.zeros_like(layer.weights)
    made[:, left] = np.linalg.solve(damped[np.ix_(left, left)], (layer.weights @ damped)[:, left].T).T
    return made


@pytest.mark.parametrize("wide", [8, 10_000])
@pytest.mark.parametrize(("size", "always"), [(1, 0), (3, 5)])
def test_every_width(wide: int, size: int, always: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "WIDE", wide)
    layer = system(7, size, 4, rows=60, always=always, seed=3).layer
    order = np.random.default_rng(0).permutation(7)
    made = Nested(layer, order, RIDGE)
    counts = list(range(8 if always else 7))
    for gone, weights in zip(counts, made.fits(counts), strict=True):
        assert np.allclose(weights, solved(layer, order[:gone]), atol=1e-8 if wide > 100 else 2e-3)
    for gone in counts[1:]:
        (alone,) = made.fits([gone])
        assert np.allclose(alone, solved(layer, order[:gone]), atol=1e-8 if wide > 100 else 2e-3)


@pytest.mark.parametrize("centred", [True, False])
def test_what_is_missed_on_other_rows(centred: bool) -> None:
    made = system(6, 2, 3, rows=50, centred=centred, seed=5)
    halves = [
        replace(made.layer, second=x.T @ x / 25, mean=x.mean(axis=0), rows=25) for x in (made.data[:25], made.data[25:])
    ]
    order = np.arange(6)
    first = Nested(halves[0], order, RIDGE)
    weights = solved(halves[0], order[:4])
    shift = halves[0].shift(weights) if centred else 0.0
    rest = made.data[25:] @ (made.layer.weights - weights).T - shift
    (change,) = first.changes(first.in_order(made.layer.weights), [4])
    assert missed(first.in_place(change), halves[1], halves[0].mean) == pytest.approx(np.square(rest).sum() / 25)


def test_few_combinations_of_outputs_have_their_energy() -> None:
    weights = np.random.default_rng(1).standard_normal((2000, 30)) * np.linspace(0.1, 2, 30)
    gram = np.cov(np.random.default_rng(2).standard_normal((30, 90)))
    energy = [float(np.einsum("oi,oi->", w @ gram, w)) for w in (weights, sketched(weights))]
    assert len(sketched(weights)) == nested.SKETCH
    assert energy[1] == pytest.approx(energy[0], rel=0.1)
    assert np.array_equal(sketched(weights[:5]), weights[:5])


@pytest.mark.parametrize(("units", "size", "always"), [(40, 1, 0), (24, 3, 4)])
def test_elimination_in_single_precision(units: int, size: int, always: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = system(units, size, 6, rows=300, always=always, seed=8).layer
    exact = eliminate([layer], [1.0], RIDGE)
    monkeypatch.setattr(nested, "WIDE", 8)
    rough = eliminate([layer], [1.0], RIDGE)
    assert np.cumsum(rough.added) == pytest.approx(np.cumsum(exact.added), rel=1e-4)
    careful = eliminate([layer], [1.0], 1e-4)
    monkeypatch.setattr(nested, "WIDE", 10_000)
    assert careful.added == pytest.approx(eliminate([layer], [1.0], 1e-4).added, rel=1e-9)


def test_consumers_at_several_widths() -> None:
    """Weights, biases and zeros of a convolution and a dense layer, at two widths of the group that they read."""
    net = Net(seed=1)
    h = net.op("Relu", net.conv(net.input("n", 3, 9, 9, name="x"), 3, 10, 3, name="wide"))
    model = net.model(net.conv(h, 10, 4, 3, name="out"))
    graph = gp.trace(model)
    groups = gp.couple(graph)
    x = np.random.default_rng(0).standard_normal((40, 3, 9, 9)).astype(np.float32)
    found = collect(graph, groups, {"x": x})
    (group,) = groups.groups
    keeps = [(0, 2, 3, 5, 7, 9), (2, 5, 9)]
    plans = [gp.Plan({group.id: keep}, {group.id: 10}, groups.fingerprint) for keep in keeps]
    levels = [list(cuts_of(graph, groups, kept_by(groups, plan))) for plan in plans]
    made = fitted(levels, graph, found.of, RIDGE)
    (cut,) = levels[0]
    moments = found.of(cut.consumer)
    unit = np.repeat(np.arange(10), 9)
    layer = Layer(cut.consumer.matrix(), moments.second[0], moments.mean, unit, 10, True, rows=moments.rows)
    for values, keep in zip(made, keeps, strict=True):
        wanted = solved(layer, np.setdiff1d(np.arange(10), keep))
        assert np.allclose(values["out.weight"].reshape(4, -1), wanted, atol=1e-5)
        old = np.asarray(graph.parameter("out.bias"), np.float64)
        assert np.allclose(values["out.bias"], old + layer.shift(wanted), atol=1e-5)
