"""Curves of groups: scaled to what was seen at the outputs, rising, in the same order; and what few samples hide."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphprune.passes import Obs
from matrices import elsewhere
from onnx import TensorProto
from onnx_models import Net

from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import trace
from graphprune.repair.layer import Layer, Targets
from graphprune.repair.probing import Probe, compared, relative_error
from graphprune.repair.ridges import STEPS, best_ridge
from graphprune.repair.samples import opened
from graphprune.statistics import collect


def removed(scores: np.ndarray, count: int) -> float:
    """The error without so many of the cheapest units."""
    return float(np.sort(scores)[:count].sum())


def branches() -> tuple[onnx.ModelProto, np.ndarray]:
    """Two branches that are added up, the second one a hundredth of the first; and samples."""
    net = Net(seed=3)
    x = net.input("n", 12, name="x")
    first, second = (net.op("Relu", net.gemm(x, 12, 16, name)) for name in ("a", "b"))
    small = net.op("Mul", net.gemm(second, 16, 6, "b.out"), net.stored(np.float32(0.01), "little"))
    model = net.model(net.op("Add", net.gemm(first, 16, 6, "a.out"), small))
    return model, np.random.default_rng(1).standard_normal((600, 12)).astype(np.float32)


def test_sums_are_the_errors_seen_at_the_outputs() -> None:
    """Each group alone, without the units that go and with its consumer fitted, computed anew in float64."""
    model, x = branches()
    graph = trace(model)
    groups = couple(graph)
    samples = opened(graph, {"x": x}, None, len(x), 0)[0]
    moments = collect(graph, groups, samples)
    scores = {g.id: np.random.default_rng(k).random(g.size) + 0.5 for k, g in enumerate(groups.groups)}
    made = Probe(graph, groups, moments.of, samples, 1e-9, 0.375).scaled(scores)
    stored = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    bias = {name: stored[f"{name}.bias"] for name in ("a", "b", "a.out", "b.out")}
    h = {name: np.maximum(x @ stored[f"{name}.weight"].T + bias[name], 0) for name in ("a", "b")}
    y = {n: h[n] @ stored[f"{n}.out.weight"].T + bias[f"{n}.out"] for n in ("a", "b")}
    whole = y["a"] + 0.01 * y["b"]
    spread = np.square(whole - whole.mean(axis=0)).sum()
    for group, values in scores.items():
        name = "a" if any(m.tensor.startswith("a.") for m in groups[group].members) else "b"
        left = np.sort(np.argsort(-values, kind="stable")[:6])
        seen = np.hstack([h[name][:, left], np.ones((len(x), 1))])
        missed = y[name] - seen @ np.linalg.lstsq(seen, y[name], rcond=None)[0]
        error = np.square(missed * (1.0 if name == "a" else 0.01)).sum() / spread
        assert (np.argsort(made[group]) == np.argsort(values)).all()
        assert removed(made[group], 10) == pytest.approx(error, rel=1e-3)


def test_what_cannot_be_told_from_zero_is_scaled_as_others_are() -> None:
    model, x = branches()
    graph = trace(model)
    groups = couple(graph)
    samples = opened(graph, {"x": x}, None, len(x), 0)[0]
    first, second = (g.id for g in groups.groups)
    scores = {first: np.arange(1.0, 17.0), second: np.zeros(16)}
    made = Probe(graph, groups, collect(graph, groups, samples).of, samples, 0.01, 0.375).scaled(scores)
    assert (made[second] == 0).all()
    scores[second] = np.where(np.arange(16) < 12, 0.0, 1.0)  # those that go are worth nothing
    made = Probe(graph, groups, collect(graph, groups, samples).of, samples, 0.01, 0.375).scaled(scores)
    assert made[second][12:] == pytest.approx(made[first][0])


def test_a_wide_layer_of_few_samples_costs_what_other_samples_show() -> None:
    """A dense layer of 96 columns on 40 rows: the fit hides what leaving out most of them does."""
    net = Net(seed=3)
    h = net.op("Relu", net.gemm(net.input("n", 24, name="x"), 24, 96, "wide"))
    model = net.model(net.gemm(h, 96, 4, "out"))
    graph = trace(model)
    groups = couple(graph)
    x = np.random.default_rng(1).standard_normal((56, 24)).astype(np.float32)
    plain, seen = (
        next(iter(Obs(data={"x": x}, samples=56, between=between)(graph, groups).arrays.values()))  # type: ignore[arg-type]
        for between in ("energy", "outputs")
    )
    assert 0.1 < removed(seen, 60) < 1.5
    assert removed(seen, 60) / removed(seen, 24) == pytest.approx(removed(plain, 60) / removed(plain, 24), rel=5)
    assert (np.diff(np.sort(seen)) >= 0).all()


def halves(noise: float, rows: int = 60) -> list[Layer]:
    """Two halves of regressors with targets that the old weights miss by a rotation, and by noise."""
    stream = np.random.default_rng(2)
    weights, change = stream.standard_normal((3, 20)), 0.5 * stream.standard_normal((3, 20))
    found = []
    for _ in range(2):
        x = stream.standard_normal((rows, 20))
        y = x @ (weights + change).T + noise * stream.standard_normal((rows, 3))
        targets = Targets(y.T @ x / rows, y.mean(axis=0), np.square(y).mean(axis=0))
        found.append(Layer(weights, x.T @ x / rows, x.mean(axis=0), np.full(20, -1), 0, True, targets))
    return found


def test_the_ridge_is_small_where_fits_hold_and_large_where_they_are_noise() -> None:
    none = [np.zeros(20, np.bool_)]
    low, high = ([[layer] for layer in halves(noise)] for noise in (0.01, 20.0))
    assert best_ridge(*low, none, 1e-2) == 1e-2
    assert best_ridge(*high, none, 1e-2) == 1e-2 * STEPS[-1]


def test_the_error_elsewhere_is_that_on_the_rows_themselves() -> None:
    stream = np.random.default_rng(4)
    x, y = stream.standard_normal((50, 6)) + 1, stream.standard_normal((50, 2)) - 2
    weights, shift = stream.standard_normal((2, 6)), stream.standard_normal(2)
    targets = Targets(y.T @ x / 50, y.mean(axis=0), np.square(y).mean(axis=0))
    for centred in (True, False):
        own = shift if centred else np.zeros(2)
        layer = Layer(stream.standard_normal((2, 6)), x.T @ x / 50, x.mean(axis=0), np.full(6, -1), 0, centred, targets)
        assert elsewhere(layer, weights, own) == pytest.approx(np.square(y - x @ weights.T - own).sum() / 50)


def test_relative_errors_are_about_the_mean_over_samples() -> None:
    old, new = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[1.0, 6.0], [3.0, 5.0]])
    assert relative_error([[old]], [[new]]) == pytest.approx(1 / 2)


def test_errors_are_told_by_what_whole_numbers_are_made_of() -> None:
    net = Net(seed=1)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 9))
    logits = net.gemm(h, 9, 4, name="logits")
    best = net.op("ArgMax", net.op("Softmax", logits, name="soft"), axis=1, keepdims=0, name="best")
    assert compared(trace(net.model(best, best=TensorProto.INT64))) == ["soft"]
    assert compared(trace(net.model(logits, best, best=TensorProto.INT64))) == ["logits"]


def test_places_where_the_original_is_infinite_do_not_count() -> None:
    stream = np.random.default_rng(0)
    a, b = stream.standard_normal((2, 20, 5))
    wanted = np.square(a - b).sum() / np.square(a - a.mean(axis=0)).sum()
    assert relative_error([[a]], [[b]]) == pytest.approx(wanted)
    assert relative_error([np.split(a, 20)], [np.split(b, 20)]) == pytest.approx(wanted)  # a model of batch 1
    assert relative_error([[np.array(3.0), np.array(4.0)]], [[np.array(3.0), np.array(5.0)]]) == pytest.approx(1 / 25)
    masks = np.full((20, 2), -np.inf)
    for other in (masks, np.zeros((20, 2))):
        found = relative_error([[np.hstack([a, masks])]], [[np.hstack([b, other])]])
        assert found == pytest.approx(wanted)
    lost = np.where(stream.random(b.shape) < 0.5, -np.inf, a)
    assert 0.3 < relative_error([[a]], [[lost]]) < 0.7
