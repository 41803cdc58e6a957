"""Repair of whole models: against layer-by-layer fits on explicit data, and on data held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from models import mlp, residual_cnn
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_models import Net

from graphprune.coupling import couple, couple_like
from graphprune.errors import UsageError
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.plan import Plan
from graphprune.repair import Repaired, repair
from graphprune.runtime import session
from graphprune.scores import FloatArray

Inputs = NDArray[Any]
STRONG = 0.5
"""A ridge above what few rows ask for, so that tests need not know how much that is."""


def opened(model: onnx.ModelProto) -> tuple[Graph, Groups]:
    graph = trace(model)
    return graph, couple(graph)


def smooth(count: int, *shape: int, seed: int = 0) -> Inputs:
    """Inputs that live near a few directions, so that units can stand for each other."""
    stream = np.random.default_rng(seed)
    few, mixing = (
        stream.standard_normal((count, 6)),
        np.random.default_rng(99).standard_normal((6, int(np.prod(shape)))),
    )
    noise = 0.1 * stream.standard_normal((count, int(np.prod(shape))))
    return (few @ mixing + noise).reshape(count, *shape).astype(np.float32)


def plan_of(groups: Groups, part: float = 0.5, seed: int = 0) -> Plan:
    """Keep a random part of every group."""
    stream = np.random.default_rng(seed)
    keep = {
        g.id: tuple(sorted(stream.choice(g.size, max(int(g.size * part), 1), replace=False).tolist()))
        for g in groups.groups
    }
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def pruned(graph: Graph, groups: Groups, plan: Plan) -> onnx.ModelProto:
    from graphprune.backends.onnx.rewrite import rewrite

    own = couple_like(groups, graph)
    return rewrite(graph, replace(plan, fingerprint=own.fingerprint), own)


def run(model: onnx.ModelProto, x: Inputs) -> FloatArray:
    (y,) = session(model).run(None, {model.graph.input[0].name: x})
    return np.asarray(y, np.float64)


def missed(model: onnx.ModelProto, small: onnx.ModelProto, x: Inputs) -> float:
    """The part of the outputs' energy, about the mean, that a pruned model misses."""
    wanted = run(model, x)
    return float(np.square(run(small, x) - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


def stored(model: onnx.ModelProto, name: str) -> FloatArray:
    return np.asarray(next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name), np.float64)


def held_out(model: onnx.ModelProto, how: Any, *shape: int, part: float = 0.5) -> tuple[float, float, Repaired]:
    """The error on samples not fitted to, without and with repair."""
    graph, groups = opened(model)
    plan = plan_of(groups, part)
    made = repair(graph, groups, plan, smooth(300, *shape), how=how)
    other = smooth(100, *shape, seed=1)
    before, after = (missed(model, pruned(g, groups, plan), other) for g in (graph, made.graph))
    return before, after, made


def ridge_fit(x: FloatArray, y: FloatArray, old: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ridge regression towards old weights with a free intercept, as rows: STRONG * mean variance as a penalty."""
    centred = x - x.mean(axis=0)
    weight = np.sqrt(STRONG * np.square(centred).mean(axis=0).mean() * len(x))
    rows = np.vstack([centred, weight * np.eye(x.shape[1])])
    wanted = np.vstack([y - y.mean(axis=0), weight * old.T])
    best = np.linalg.lstsq(rows, wanted, rcond=None)[0].T
    return best, y.mean(axis=0) - best @ x.mean(axis=0)


def as_varied(x: FloatArray, fit: FloatArray, shift: FloatArray, old: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights and shift with which every output has the mean of the fit and the standard deviation of ``old``."""
    given = x @ fit.T
    factors = np.clip(old.std(axis=0) / given.std(axis=0), 0.25, 4)
    return fit * factors[:, None], shift + given.mean(axis=0) * (1 - factors)


def test_layers_are_fitted_one_after_the_other_to_the_original() -> None:
    model = mlp(12, batch="n")
    graph, groups = opened(model)
    plan = plan_of(groups)
    x = smooth(200, 16)
    made = repair(graph, groups, plan, x, ridge=STRONG)
    small = pruned(made.graph, groups, plan)
    first, second = (np.array(plan.keep[name]) for name in plan.keep)
    w1, b1, w2, b2, w3, b3 = (stored(model, n) for n in ("w1", "b1", "w2", "b2", "w3", "b3"))
    dense1 = np.maximum(x @ w1.T + b1, 0)
    dense2 = np.maximum(dense1 @ w2.T + b2, 0)
    fit2, shift2 = ridge_fit(dense1[:, first], dense1 @ w2.T + b2, w2[:, first])
    fit2, shift2 = as_varied(dense1[:, first], fit2, shift2, dense1 @ w2.T)
    fed = np.maximum(dense1[:, first] @ fit2.T + shift2, 0)[:, second]
    fit3, shift3 = ridge_fit(fed, dense2 @ w3.T + b3, w3[:, second])
    assert np.allclose(stored(small, "w2"), fit2[second], atol=1e-4)
    assert np.allclose(stored(small, "b2"), shift2[second], atol=1e-4)
    assert np.allclose(stored(small, "w3"), fit3, atol=1e-4)
    assert np.allclose(stored(small, "b3"), shift3, atol=1e-4)
    spread = np.square(dense2 @ w3.T - (dense2 @ w3.T).mean(axis=0)).sum()
    assert made.after["w3"] == pytest.approx(np.square(run(small, x) - run(model, x)).sum() / spread, rel=1e-3)
    assert all(made.after[name] <= made.before[name] for name in made.after)


def test_biases_alone_make_means_right() -> None:
    model = mlp(12, batch="n")
    graph, groups = opened(model)
    plan = plan_of(groups)
    x = smooth(200, 16)
    small = pruned(repair(graph, groups, plan, x, how="bias").graph, groups, plan)
    assert np.allclose(run(small, x).mean(axis=0), run(model, x).mean(axis=0), atol=1e-4)
    assert np.array_equal(stored(small, "w3"), stored(model, "w3")[:, list(plan.keep.values())[1]])


@pytest.mark.parametrize("how", ["least-squares", "bias", "obs"])
def test_errors_fall_on_samples_not_fitted_to(how: str) -> None:
    before, after, _ = held_out(mlp(24, batch="n"), how, 16)
    assert after < 0.8 * before
    before, after, made = held_out(residual_cnn(12, batch="n"), how, 3, 8, 8)
    assert after < 0.8 * before
    assert not made.left


def test_convolutions_get_biases_where_they_had_none() -> None:
    model = residual_cnn(12, batch="n")
    graph, groups = opened(model)
    plan = plan_of(groups)
    made = repair(graph, groups, plan, smooth(64, 3, 8, 8))
    convolutions = [n for n in made.graph.nodes if n.op == "Conv"]
    fed_by_units = [n for n in convolutions if n.name != "stem"]
    assert all(len(n.inputs) == 3 for n in fed_by_units)
    assert all(len(n.inputs) == 2 for n in convolutions if n not in fed_by_units)
    assert [g.id for g in couple_like(groups, made.graph).groups] == [g.id for g in groups.groups]
    assert all(len(n.input) == 2 for n in model.graph.node if n.op_type == "Conv")


def test_removed_columns_do_not_matter() -> None:
    """Repaired and rewritten is what was repaired: the removed columns' values are not read."""
    model = residual_cnn(12, batch="n")
    graph, groups = opened(model)
    plan = plan_of(groups)
    made = repair(graph, groups, plan, smooth(64, 3, 8, 8))
    gone = sorted(set(range(12)) - set(next(iter(plan.keep.values()))))
    small = pruned(made.graph, groups, plan)
    group = next(iter(couple_like(groups, made.graph).groups))
    values = {}
    for member in group.members:
        if member.role == "consumer":
            array = made.graph.parameter(member.tensor).copy()
            np.moveaxis(array, member.axis, 0)[member.index[np.isin(member.unit, gone)]] = 7.0
            values[member.tensor] = array
    from graphprune.folding import with_values

    assert values
    other = pruned(with_values(made.graph, values), groups, plan)
    x = smooth(20, 3, 8, 8, seed=3)
    assert np.array_equal(run(small, x), run(other, x))


def grouped() -> onnx.ModelProto:
    net = Net()
    x = net.input("n", 3, 8, 8, name="x")
    h = net.op("Relu", net.op("Conv", x, net.weight(8, 3, 3, 3), net.vector(8), pads=[1] * 4))
    h = net.op("Relu", net.op("Conv", h, net.weight(8, 4, 3, 3, name="in_two"), net.vector(8), group=2, pads=[1] * 4))
    h = net.op("Relu", net.op("Conv", h, net.weight(8, 1, 3, 3), net.vector(8), group=8, pads=[1] * 4))
    h = net.reshape(net.op("MaxPool", h, kernel_shape=[4, 4], strides=[4, 4]), 0, -1)
    return net.model(net.op("Gemm", h, net.weight(5, 32, name="flat"), net.vector(5), transB=1))


def test_grouped_and_depthwise_convolutions_and_flattened_maps() -> None:
    before, after, made = held_out(grouped(), "least-squares", 3, 8, 8)
    assert after < 0.8 * before
    assert {"in_two", "flat"} <= set(made.after)


def heads() -> onnx.ModelProto:
    net = Net()
    x = net.input("n", 5, 12, name="x")
    q, k, v = (
        net.transpose(net.reshape(net.linear(x, 12, 12, name=n), 0, 5, 3, 4), 0, 2, 1, 3) for n in ("q", "k", "v")
    )
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), 0, 5, 12)
    return net.model(net.linear(y, 12, 6, name="o"))


def test_attention() -> None:
    before, after, made = held_out(heads(), "least-squares", 5, 12)
    assert after < before
    assert len(made.after) == 1


def test_shared_weights_are_left_with_the_reason() -> None:
    net = Net()
    x = net.input("n", 8, name="x")
    shared, out = net.weight(8, 8, name="shared"), net.weight(8, 3, name="out")
    a = net.op("Relu", net.op("MatMul", x, net.weight(8, 8)))
    b = net.op("Relu", net.op("MatMul", a, shared))
    c = net.op("Relu", net.op("MatMul", b, shared))
    model = net.model(net.op("Add", net.op("MatMul", c, out), net.vector(3, name="bias")))
    graph, groups = opened(model)
    made = repair(graph, groups, plan_of(groups), smooth(100, 8))
    assert "shared" in made.left["shared"]
    assert any("shared with another" in note for note in made.notes)
    assert np.array_equal(made.graph.parameter("shared"), graph.parameter("shared"))


def test_quantised_weights_are_left_with_the_reason() -> None:
    net = Net()
    x = net.input("n", 8, name="x")
    h = net.op("Relu", net.op("Gemm", x, net.weight(12, 8), net.vector(12), transB=1))
    codes = net.stored(net.rng.integers(-100, 100, (12, 12)).astype(np.int8), "codes")
    weight = net.op("DequantizeLinear", codes, net.scalar(0.01), net.stored(np.array(0, np.int8)))
    h = net.op("Relu", net.op("MatMul", h, weight))
    model = net.model(net.op("Gemm", h, net.weight(4, 12, name="last"), net.vector(4), transB=1))
    graph, groups = opened(model)
    made = repair(graph, groups, plan_of(groups), smooth(100, 8))
    assert "quantised" in made.left["codes"]
    assert "last" in made.after


def test_fewer_samples_than_columns_do_no_harm() -> None:
    model = mlp(64, batch="n")
    graph, groups = opened(model)
    plan = plan_of(groups, 0.75)
    made = repair(graph, groups, plan, smooth(8, 16))
    other = smooth(200, 16, seed=1)
    assert missed(model, pruned(made.graph, groups, plan), other) < missed(model, pruned(graph, groups, plan), other)


def test_same_in_same_out() -> None:
    graph, groups = opened(residual_cnn(8, batch="n"))
    plan = plan_of(groups)
    one, two = (repair(graph, groups, plan, smooth(40, 3, 8, 8), seed=3) for _ in range(2))
    assert one.after == two.after
    assert all(np.array_equal(one.graph.parameter(t.name), two.graph.parameter(t.name)) for t in one.graph.parameters)


def test_what_was_changed_since_is_brought_back_to_the_original() -> None:
    from graphprune.folding import with_values

    model = mlp(24, batch="n")
    graph, groups = opened(model)
    plan = plan_of(groups)
    changed = with_values(graph, {"w2": graph.parameter("w2") * np.float32(0.3)})
    x, other = smooth(300, 16), smooth(100, 16, seed=1)
    made = repair(changed, couple_like(groups, changed), plan, x, original=graph)
    plain = repair(changed, couple_like(groups, changed), plan, x)
    errors = [missed(model, pruned(r.graph, groups, plan), other) for r in (made, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_without_data_samples_are_made_and_that_is_said() -> None:
    graph, groups = opened(mlp(12, batch="n"))
    made = repair(graph, groups, plan_of(groups), count=64)
    assert made.after
    assert any("sample" in note for note in made.notes)


def test_a_plan_that_removes_nothing() -> None:
    graph, groups = opened(mlp(12, batch="n"))
    made = repair(graph, groups, plan_of(groups, 1.0), smooth(30, 16))
    assert made.graph is graph
    assert any("nothing" in note for note in made.notes)


@pytest.mark.parametrize("options", [{"how": "magic"}, {"ridge": 0.0}, {"ridge": -1.0}])
def test_bad_options(options: dict[str, Any]) -> None:
    graph, groups = opened(mlp(12, batch="n"))
    with pytest.raises(UsageError, match="repair has no"):
        repair(graph, groups, plan_of(groups), smooth(30, 16), **options)


def shortcut() -> onnx.ModelProto:
    """Dense layers p and s, then a branch of a and b beside a shortcut, and out."""
    net = Net(seed=4)
    h = net.op("Relu", net.gemm(net.input("n", 12, name="x"), 12, 14, "p"))
    h = net.op("Relu", net.gemm(h, 14, 10, "s"))
    joined = net.op("Add", net.gemm(net.op("Relu", net.gemm(h, 10, 16, "a")), 16, 10, "b"), h)
    return net.model(net.gemm(net.op("Relu", joined), 10, 3, "out"))


def test_a_branch_makes_up_for_errors_that_its_shortcut_carries() -> None:
    model = shortcut()
    graph, groups = opened(model)
    plan = plan_of(groups)
    x = smooth(200, 12)
    small = pruned(repair(graph, groups, plan, x, ridge=STRONG).graph, groups, plan)
    sizes = {g.size: np.array(plan.keep[g.id]) for g in groups.groups}
    first, stream, inner = (sizes[n] for n in (14, 10, 16))
    w, b = ({n: stored(model, f"{n}.{part}") for n in "psab"} for part in ("weight", "bias"))
    p, old = np.maximum(x @ w["p"].T + b["p"], 0), {}
    old["s"] = p @ w["s"].T + b["s"]
    h = np.maximum(old["s"], 0)
    old["a"] = h @ w["a"].T + b["a"]
    old["b"] = np.maximum(old["a"], 0) @ w["b"].T + b["b"]
    fit, shift = as_varied(p[:, first], *ridge_fit(p[:, first], old["s"], w["s"][:, first]), old["s"])
    now = np.maximum(p[:, first] @ fit.T + shift, 0)
    fit, shift = ridge_fit(now[:, stream], old["a"], w["a"][:, stream])
    fit, shift = as_varied(now[:, stream], fit, shift, old["a"])
    fed = np.maximum(now[:, stream] @ fit.T + shift, 0)[:, inner]
    fit, shift = as_varied(fed, *ridge_fit(fed, old["b"] + h - now, w["b"][:, inner]), old["b"])
    assert np.allclose(stored(small, "b.weight"), fit[stream], atol=1e-4)
    assert np.allclose(stored(small, "b.bias"), shift[stream], atol=1e-4)
    without, _ = ridge_fit(fed, old["b"], w["b"][:, inner])
    assert not np.allclose(fit, without, atol=1e-2)


def test_layers_that_lose_nothing_are_fitted_where_they_read_errors() -> None:
    model = shortcut()
    graph, groups = opened(model)
    whole = plan_of(groups)
    keep = {g.id: whole.keep[g.id] if g.size == 14 else tuple(range(g.size)) for g in groups.groups}
    plan = replace(whole, keep=keep)
    x = smooth(200, 12)
    small = pruned(repair(graph, groups, plan, x, ridge=STRONG).graph, groups, plan)
    first = next(np.array(units) for units in keep.values() if len(units) == 7)
    w, b = ({n: stored(model, f"{n}.{part}") for n in "psa"} for part in ("weight", "bias"))
    p = np.maximum(x @ w["p"].T + b["p"], 0)
    old = p @ w["s"].T + b["s"]
    fit, shift = as_varied(p[:, first], *ridge_fit(p[:, first], old, w["s"][:, first]), old)
    now = np.maximum(p[:, first] @ fit.T + shift, 0)
    fit, shift = ridge_fit(now, np.maximum(old, 0) @ w["a"].T + b["a"], w["a"])
    assert np.allclose(stored(small, "a.weight"), fit, atol=1e-4)
    assert np.allclose(stored(small, "a.bias"), shift, atol=1e-4)
    assert not np.allclose(fit, w["a"], atol=1e-2)
    assert np.array_equal(stored(small, "p.weight"), w["p"][first])
