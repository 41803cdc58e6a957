"""Passes that score by moments: against layers built from explicit rows, and by what removal does to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from graphprune.passes import Flap, Magnitude, Obs, Obspa, Osscar, Thinet, Wanda
from models import mlp, residual_cnn
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_models import Net

from graphprune.coupling import couple, couple_like
from graphprune.errors import UsageError
from graphprune.frontends.onnx.trace import trace
from graphprune.plan import Plan
from graphprune.repair.calibrated import Calibrated
from graphprune.repair.columnwise import saliencies
from graphprune.repair.elimination import Removal, eliminate
from graphprune.repair.greedy import interactions, smallest_first
from graphprune.repair.layer import Layer
from graphprune.repair.monotone import as_scores
from graphprune.repair.swapping import search
from graphprune.repair.validation import validated
from graphprune.runtime import session
from graphprune.scores import FloatArray, Scores
from graphprune.verification.watching import with_outputs

ALL = (Flap, Obs, Obspa, Osscar, Thinet, Wanda)
Batch = NDArray[Any]


def images(count: int, seed: int = 0) -> Batch:
    stream = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((6, 192))
    return (stream.standard_normal((count, 6)) @ mixing).reshape(count, 3, 8, 8).astype(np.float32)


def seen(model: onnx.ModelProto, x: Batch, *names: str) -> list[FloatArray]:
    return [np.asarray(v, np.float64) for v in session(with_outputs(model, names)).run(list(names), {"x": x})]


def windows(maps: FloatArray) -> FloatArray:
    """All 3 x 3 windows of maps padded by one, shape (rows, channels * 9)."""
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return views.transpose(0, 2, 3, 1, 4, 5).reshape(-1, maps.shape[1] * 9)


def explicit(model: onnx.ModelProto, x: Batch, width: int) -> dict[str, list[Layer]]:
    """The layers that sum over each group of ``residual_cnn``, from rows laid out here."""
    stem, inner, pooled = seen(model, x, "stem.relu", "block.relu", "pooled")
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    kernels = np.repeat(np.arange(width), 9)

    def layer(weight: str, rows: FloatArray, unit: Any) -> Layer:
        matrix = weights[weight].reshape(len(weights[weight]), -1)
        return Layer(matrix, rows.T @ rows / len(rows), rows.mean(axis=0), unit, width, rows=len(rows))

    stream = [layer("block.first.weight", windows(stem), kernels)]
    stream.append(layer("fc.weight", pooled[:, :, 0, 0], np.arange(width)))
    return {"stream": stream, "inner": [layer("block.second.weight", windows(inner), kernels)]}


def expected(method: Calibrated, layers: list[Layer], halves: tuple[list[Layer], list[Layer]]) -> FloatArray:
    factors = [1 / layer.energy for layer in layers]
    if isinstance(method, Wanda):
        parts = []
        for layer in layers:
            norms = np.sqrt(np.diag(layer.second)) * np.abs(layer.weights).mean(axis=0)
            parts.append(np.bincount(layer.unit, norms) / np.bincount(layer.unit, norms).mean())
        return np.asarray(sum(parts))
    if isinstance(method, Flap):
        variances = [np.diag(la.gram) * np.square(la.weights).sum(axis=0) / la.energy for la in layers]
        return np.asarray(sum(np.bincount(la.unit, v) for la, v in zip(layers, variances, strict=True)))
    if isinstance(method, Obspa):
        return np.asarray(sum(f * saliencies(la, 0.01) for la, f in zip(layers, factors, strict=True)))
    if isinstance(method, Thinet):
        return as_scores(smallest_first(np.asarray(sum(interactions(la) / la.energy for la in layers))))
    if isinstance(method, Osscar):
        return as_scores(validated(search(layers, factors, 0.01, 8, 16), halves, factors, 0.01))
    return as_scores(validated(eliminate(layers, factors, 0.01), halves, factors, 0.01))


@pytest.mark.parametrize("kind", ALL)
def test_groups_are_scored_by_all_that_sums_over_them(kind: type[Calibrated]) -> None:
    width = 6
    model, x = residual_cnn(width, batch="n"), images(60)
    graph = trace(model)
    groups = couple(graph)
    scores = kind(data=x, between="energy")(graph, groups)
    stream, inner = groups
    layers, *halves = (explicit(model, part, width) for part in (x, x[:30], x[30:]))
    for name, own in ((stream, "stream"), (inner, "inner")):
        wanted = expected(kind(), layers[own], (halves[0][own], halves[1][own]))
        assert np.allclose(scores[name], wanted, rtol=1e-3), name


@pytest.mark.parametrize("kind", [Obs, Osscar, Thinet])
def test_sums_of_scores_are_errors_where_increments_rise(kind: type[Calibrated]) -> None:
    x = images(60)
    model = residual_cnn(8, batch="n")
    graph = trace(model)
    groups = couple(graph)
    scores = kind(data=x, between="energy")(graph, groups)
    (layer,) = explicit(model, x, 8)["inner"]
    name = list(groups)[1]
    order = np.argsort(scores[name], kind="stable")
    if kind is Thinet:
        q = interactions(layer) / layer.energy
        exact = [q[np.ix_(order[:k], order[:k])].sum() for k in range(9)]
    else:
        removals = [eliminate([layer], [1 / layer.energy], 0.01, among=order[:k]) for k in range(9)]
        exact = [r.added.sum() for r in removals]
    sums = np.concatenate([[0.0], np.cumsum(scores[name][order])])
    assert (sums <= np.array(exact) * (1 + 1e-3) + 1e-9).all()
    assert sums[-1] == pytest.approx(exact[-1], rel=1e-3)


def test_scores_keep_the_order_of_removal_and_the_sums() -> None:
    removal = Removal(np.array([3, 1, 4, 0, 2]), np.array([0.0, 2.0, 1.0, 4.0, 3.0]))
    scores = as_scores(removal)
    assert np.argsort(scores, kind="stable").tolist() == removal.order.tolist()
    assert np.allclose(scores[removal.order], [0.0, 1.5, 1.5, 3.5, 3.5])
    assert scores[3] == 0
    assert len(set(scores.tolist())) == 5


@pytest.mark.parametrize("kind", ALL)
def test_units_without_weights_are_free(kind: type[Calibrated]) -> None:
    model = mlp(12, batch="n")
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "b1", "w2"):
            array = numpy_helper.to_array(tensor).copy()
            np.moveaxis(array, 1 if tensor.name == "w2" else 0, 0)[5] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    graph = trace(model)
    scores = kind(data=np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32))(graph, couple(graph))
    first = scores[next(iter(scores))]
    assert first[5] == 0
    assert (np.delete(first, 5) > 0).all()


def missed(model: onnx.ModelProto, small: onnx.ModelProto, x: Batch) -> float:
    (wanted,), (found,) = (session(m).run(None, {"x": x}) for m in (model, small))
    return float(np.square(found - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("update", ["bias", "least-squares"])
def test_updates_lower_the_error_on_other_samples(kind: type[Calibrated], update: Any) -> None:
    from graphprune.backends.onnx.rewrite import rewrite
    from graphprune.budget import Budget
    from graphprune.solver.solve import solve

    model = residual_cnn(12, batch="n")
    graph = trace(model)
    groups = couple(graph)
    prepared = kind(data=images(120), update=update).prepare(graph, groups, partial(couple_like, groups))
    plan = solve(groups, prepared.scores, Budget(macs=0.5), multiple=1)
    assert prepared.finish is not None
    changed = prepared.finish(plan)
    own = couple_like(groups, changed)
    errors = [
        missed(model, rewrite(g, replace(plan, fingerprint=c.fingerprint), c), images(60, seed=1))
        for g, c in ((graph, groups), (changed, own))
    ]
    assert errors[1] < errors[0]


def test_without_data_samples_are_made_and_that_is_said() -> None:
    graph = trace(residual_cnn(6, batch="n"))
    scores = Obs(samples=16)(graph, couple(graph))
    assert any("sample" in note for note in scores.notes)
    assert scores.options is not None
    assert "data" not in scores.options


def two_branches(gain: float) -> onnx.ModelProto:
    """Two alike branches of one hidden layer each; what the second gives is multiplied by ``gain``."""
    net = Net()
    x = net.input("n", 16, name="x")
    hidden, out = net.random(12, 16), net.random(12, 5)
    branches = []
    for _ in range(2):
        h = net.op("Relu", net.op("Gemm", x, net.stored(hidden), net.stored(np.full(12, 0.1, np.float32)), transB=1))
        branches.append(net.op("Gemm", h, net.stored(out.copy()), net.stored(np.zeros(5, np.float32))))
    return net.model(net.op("Add", branches[0], net.op("Mul", branches[1], net.scalar(gain))))


def test_groups_are_weighed_by_what_their_errors_do_to_the_outputs() -> None:
    graph = trace(two_branches(0.1))
    groups = couple(graph)
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    energy, outputs = (Obs(data=x, between=b, probes=64)(graph, groups) for b in ("energy", "outputs"))  # type: ignore[arg-type]
    first, second = groups
    assert np.allclose(energy[first], energy[second], rtol=1e-3)
    assert np.allclose(outputs[second] / outputs[first], 0.01, rtol=0.05)


def test_groups_that_no_weight_sums_over_are_scored_by_their_weights() -> None:
    net = Net()
    x = net.input("n", 5, 12, name="x")
    q, k, v = (
        net.transpose(net.reshape(net.linear(x, 12, 12, name=n), 0, 5, 3, 4), 0, 2, 1, 3) for n in ("q", "k", "v")
    )
    mixed = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", mixed, v), 0, 2, 1, 3), 0, 5, 12)
    graph = trace(net.model(net.linear(y, 12, 6, name="o")))
    groups = couple(graph)
    scores: Mapping[str, FloatArray] = Obs(
        data=np.random.default_rng(0).standard_normal((60, 5, 12)).astype(np.float32),
        between="energy",
    )(graph, groups)
    assert isinstance(scores, Scores)
    assert any("energy of their weights, since what it multiplies is computed" in note for note in scores.notes)
    assert sum(abs(values.sum() - 1) < 1e-6 for values in scores.values()) >= 1


@pytest.mark.parametrize(
    "options",
    [{"ridge": 0}, {"samples": 0}, {"update": "some"}, {"between": "x"}, {"probe": 1.0}, {"seed": -1}, {"ridge": True}],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    for kind in ALL:
        with pytest.raises(UsageError, match=f"{kind.name} has no {next(iter(options))}"):
            kind(**options)


def test_own_options() -> None:
    with pytest.raises(UsageError, match="flap has no metric"):
        Flap(metric="x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="osscar has no levels"):
        Osscar(levels=0)
    graph = trace(residual_cnn(6, batch="n"))
    groups = couple(graph)
    by_metric = [Flap(data=images(40), metric=m)(graph, groups) for m in ("WIFV", "IFV", "WIFN")]  # type: ignore[arg-type]
    assert len({tuple(np.argsort(s[next(iter(s))]).tolist()) for s in by_metric}) > 1


def test_magnitude_and_repair() -> None:
    """Repair follows any method: here one that has seen no data."""
    from graphprune.backends.onnx.rewrite import rewrite
    from graphprune.budget import Budget
    from graphprune.repair import repair
    from graphprune.solver.solve import solve

    model = residual_cnn(12, batch="n")
    graph = trace(model)
    groups = couple(graph)
    plan = Plan.from_json(solve(groups, Magnitude()(graph, groups), Budget(macs=0.5), multiple=1).to_json())
    made = repair(graph, groups, plan, images(120))
    own = couple_like(groups, made.graph)
    small = rewrite(made.graph, replace(plan, fingerprint=own.fingerprint), own)
    other = images(60, seed=1)
    assert missed(model, small, other) < 0.5 * missed(model, rewrite(graph, plan, groups), other)


@pytest.mark.parametrize("count", [4, 5, 9, 24, 43])
def test_a_batch_that_the_model_fixes(count: int) -> None:
    """Groups are weighed on whole batches, though a few samples would do."""
    net = Net(seed=2)
    h = net.op("Relu", net.linear(net.input(4, 6, name="x"), 6, 12))
    model = net.model(net.linear(net.op("Relu", net.linear(h, 12, 8)), 8, 3))
    x = np.random.default_rng(1).standard_normal((count, 6)).astype(np.float32)
    graph = trace(model)
    scores = Obs(data=x, probes=3)(graph, couple(graph))
    assert all(np.isfinite(values).all() and (values > 0).any() for values in scores.arrays.values())
    assert len([note for note in scores.notes if "are left out" in note]) == (count % 4 > 0)
