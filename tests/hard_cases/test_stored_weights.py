"""Case 9: weights as initializers, as Constant nodes, behind chains of Cast, Transpose, Identity, DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import check_equivalence, check_plan, coupled, kept_indices, with_zeros
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net, initializer

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.coupling import kept_parameters
from graphprune.runtime import session

Store = Callable[[Net, np.ndarray, str], str]


def as_constant(net: Net, array: np.ndarray, name: str) -> str:
    return net.constant(array, name)


def behind_identity(net: Net, array: np.ndarray, name: str) -> str:
    return net.op("Identity", net.op("Identity", net.stored(array, name)))


def behind_cast(net: Net, array: np.ndarray, name: str) -> str:
    return net.op("Cast", net.stored(array.astype(np.float16), name), to=TensorProto.FLOAT)


def behind_dequantise(net: Net, array: np.ndarray, name: str) -> str:
    """Eight bits with a scale for every output."""
    scale = np.abs(array).max(axis=tuple(range(1, array.ndim))) / 127
    codes = np.round(array / scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8)
    operands = [net.stored(codes, name), net.stored(scale.astype(np.float32), f"{name}.scale")]
    return net.op("DequantizeLinear", *operands, net.stored(np.zeros(len(scale), np.int8), f"{name}.zero"), axis=0)


def behind_scalar_dequantise(net: Net, array: np.ndarray, name: str) -> str:
    codes = np.round(array * 100).clip(-127, 127).astype(np.int8)
    return net.op("DequantizeLinear", net.stored(codes, name), net.scalar(0.01), net.stored(np.array(0, np.int8)))


STORES: list[Store] = [as_constant, behind_identity, behind_cast, behind_dequantise, behind_scalar_dequantise]


@pytest.mark.parametrize("store", STORES)
def test_convolutions_whose_weights_are_stored_in_other_ways(store: Store) -> None:
    net = Net()
    x = net.op("Conv", net.input(1, 3, 5, 5), store(net, net.random(8, 3, 3, 3), "a"), name="conv")
    y = net.op("Conv", net.op("Relu", x), store(net, net.random(4, 8, 1, 1), "b"))
    case = check_equivalence(net.model(y))
    assert case.group_of("a", 0) == case.group_of("b", 1)
    plan = case.plan(**{case.group_of("a", 0): (1, 6)})
    assert np.array_equal(initializer(check_plan(case, plan), "b"), initializer(case.model, "b")[:, [1, 6]])


@pytest.mark.parametrize("store", STORES)
def test_linear_layers_whose_weights_are_transposed_at_run_time(store: Store) -> None:
    net = Net()
    x = net.op("MatMul", net.input(1, 5, 3), net.transpose(store(net, net.random(8, 3), "a"), 1, 0))
    x = net.op("Add", x, store(net, net.random(8), "bias")) if store is not behind_dequantise else x
    y = net.op("MatMul", net.op("Relu", x), net.transpose(store(net, net.random(4, 8), "b"), 1, 0))
    case = check_equivalence(net.model(y))
    assert case.group_of("a", 0) == case.group_of("b", 1)
    assert "input" in case.why_frozen("a", 1)


def test_scales_and_zero_points_follow_the_axis_of_the_weight() -> None:
    net = Net()
    x = net.op("Conv", net.input(1, 3, 5, 5), behind_dequantise(net, net.random(8, 3, 3, 3), "a"))
    y = net.op("Conv", net.op("Relu", x), behind_dequantise(net, net.random(4, 8, 1, 1), "b"))
    case = coupled(net.model(y))
    group = case.group_of("a", 0)
    assert case.group_of("a.scale", 0) == case.group_of("a.zero", 0) == group
    assert not case.groups_of("b.scale", 0)
    assert kept_indices(case, case.plan(**{group: (3,)}), "a.scale", 0).tolist() == [3]


def test_a_weight_stored_flat_and_reshaped() -> None:
    net = Net()
    x = net.op("Conv", net.input(1, 3, 5, 5), net.weight(8, 3, 1, 1), name="conv")
    flat = net.stored(net.random(4, 8).reshape(-1), "flat")
    case = check_equivalence(net.model(net.op("Conv", x, net.reshape(flat, 4, 8, 1, 1))))
    plan = case.plan(conv=(2, 7))
    assert kept_indices(case, plan, "flat", 0).tolist() == [8 * o + i for o in range(4) for i in (2, 7)]


def test_two_weights_concatenated_at_run_time() -> None:
    """Fused projections: rows of two tensors become one weight."""
    net = Net()
    weight = net.op("Concat", net.weight(5, 3, name="top"), net.weight(4, 3, name="bottom"), axis=0)
    y = net.op("MatMul", net.input(1, 6, 3), net.transpose(weight, 1, 0))
    case = check_equivalence(net.model(net.linear(net.op("Tanh", y), 9, 2, name="head")))
    assert sorted(case.groups[g].size for g in case.groups_of("head.weight", 0)) == [4, 5]


def test_one_weight_split_into_two() -> None:
    net = Net()
    a, b = net.ops("Split", net.stored(net.random(3, 10), "both"), outputs=2, axis=1)
    x = net.input(1, 6, 3)
    y = net.op("Mul", net.op("MatMul", x, a), net.op("Sigmoid", net.op("MatMul", x, b)))
    case = check_equivalence(net.model(net.linear(y, 5, 2, name="head")))
    assert case.size_of("both", 1) == 5


def test_a_normalised_weight() -> None:
    """Weight normalisation at run time: w * g / |w|; the norm runs over inputs, so only outputs are exact."""
    net = Net()
    x = net.conv(net.input(1, 3, 5, 5), 3, 6, name="stem")
    v = net.stored(net.random(8, 6, 3, 3), "v")
    unit = net.op("Div", v, net.op("Max", net.op("ReduceL2", v, axes=[1, 2, 3]), net.scalar(1e-6)))
    y = net.op("Conv", x, net.op("Mul", unit, net.stored(net.random(8, 1, 1, 1), "g")))
    case = check_equivalence(net.model(net.conv(net.op("Relu", y), 8, 2, name="head")))
    assert case.group_of("v", 0) == case.group_of("g", 0) == case.group_of("head.weight", 1)
    assert not case.groups_of("stem.weight", 0)


def test_half_precision_weights_all_through() -> None:
    net = Net()
    image = net.op("Cast", net.input(1, 3, 5, 5), to=TensorProto.FLOAT16)
    x = net.op("Conv", image, net.stored(net.random(8, 3, 1, 1).astype(np.float16), "a"))
    y = net.op("Conv", net.op("Relu", x), net.stored(net.random(4, 8, 1, 1).astype(np.float16), "b"))
    case = check_equivalence(net.model(net.op("Cast", y, to=TensorProto.FLOAT)), tolerance=5e-3)
    assert case.size_of("b", 1) == 8


@pytest.mark.parametrize("form", ["initializer", "constant"])
def test_a_sparse_weight_stays_and_the_rest_prunes(form: str) -> None:
    """Its sizes count, its axes are frozen: layers behind it are cut as in any other model."""
    net = Net()
    array = net.random(6, 10)
    array[net.rng.random(array.shape) < 0.7] = 0
    at = np.argwhere(array).astype(np.int64)
    values = numpy_helper.from_array(array[tuple(at.T)], "sparse")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(at, "sparse.at"), [6, 10])
    if form == "initializer":
        net.stored(array, "sparse")
    else:
        net.nodes.append(helper.make_node("Constant", [], ["sparse"], name="stored", sparse_value=sparse))
    x = net.op("Relu", net.op("MatMul", net.input(2, 6), "sparse"))
    model = net.model(net.linear(net.op("Relu", net.linear(x, 10, 8, name="a")), 8, 3, name="b"))
    if form == "initializer":
        model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "sparse"))
        model.graph.sparse_initializer.append(sparse)
    case = coupled(model)
    assert "stored in a sparse form" in case.why_frozen("a.weight", 0)
    assert case.size_of("b.weight", 0) == 8
    assert case.groups.costs.full["macs"] == 2 * (6 * 10 + 10 * 8 + 8 * 3)
    plan = case.plan(**{case.group_of("b.weight", 0): (2, 5)})
    small = rewrite(case.graph, plan)
    x = {model.graph.input[0].name: net.random(2, 6)}
    wanted = session(with_zeros(model, kept_parameters(case.graph, case.groups, plan))).run(None, x)[0]
    np.testing.assert_allclose(session(small).run(None, x)[0], wanted, rtol=1e-5, atol=1e-6)
    assert list(small.graph.sparse_initializer) == list(model.graph.sparse_initializer)
