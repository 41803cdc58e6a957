"""Which stored tensors are trained, and that gradients reach every one of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, grads
from fuzzing_models import PLAIN, in_ci, nightly, random_models
from hypothesis import given
from onnx import TensorProto
from onnx_models import Net, initializer

from graphprune.interpret import from_torch, to_torch
from graphprune.interpret.roles import needed
from graphprune.runtime import feeds, real_inputs


def kinds(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """The names of the parameters and of the buffers."""
    module = to_torch(model)
    return (
        {module.onnx_names[n] for n, _ in module.named_parameters()},
        {module.onnx_names[n] for n, _ in module.named_buffers() if n in module.onnx_names},
    )


def test_weights_statistics_and_scalars() -> None:
    net = Net()
    x = net.input("n", 3, 6, 6, name="x")
    y = net.batch_norm(net.conv(x, 3, 1, 3, name="conv"), 1, name="bn")
    y = net.op("Mul", y, net.scalar(0.5, "half"))
    y = net.op("Add", y, net.stored(np.ones((1,), np.float32), "gate"))
    y = net.op("Clip", y, net.scalar(-3, "low"), net.scalar(3, "high"))
    y = net.op("Pow", y, net.stored(np.array([2], np.float32), "exponent"))
    y = net.op("Expand", net.op("ReduceMean", y, axes=[2, 3]), net.ints(1, 4, 1, 1, name="shape"))
    y = net.op("Add", y, net.op("Expand", net.scalar(0.25, "filling"), net.ints(1, 4, 1, 1)))
    parameters, buffers = kinds(net.model(y))
    assert parameters == {"conv.weight", "conv.bias", "bn.gamma", "bn.beta", "gate"}
    assert {"bn.mean", "bn.var", "half", "exponent", "filling"} <= buffers
    assert not {"low", "high", "shape"} & buffers  # literals in the graph


def test_tables_masks_and_what_is_compared() -> None:
    net = Net()
    tokens = net.input("n", 5, name="tokens", dtype=TensorProto.INT64)
    mask = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
    x = net.op("Gather", net.weight(9, 5, name="words"), tokens)
    x = net.op("Add", x, net.weight(1, 5, 5, name="places"))
    x = net.op("MatMul", net.op("Softmax", net.op("Add", x, net.stored(mask, "mask"))), x)
    x = net.op("Add", x, net.stored(np.where(np.eye(5) > 0, 0, -100).astype(np.float32), "soft_mask"))
    late = net.op("Greater", x, net.stored(np.full(5, -60, np.float32), "threshold"))
    x = net.op("Where", late, x, net.op("Mul", x, net.stored(np.zeros(5, np.float32), "zeros")))
    parameters, buffers = kinds(net.model(x))
    assert parameters == {"words", "places", "zeros"}
    assert buffers == {"mask", "soft_mask", "threshold"}


def test_what_rearranges_a_weight_hides_it_from_nobody() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    w = net.op("Concat", net.transpose(net.weight(2, 4, name="a"), 1, 0), net.constant(net.random(4, 3), "b"), axis=1)
    shape = net.op("Concat", net.op("Shape", x, end=1), net.ints(5), axis=0)
    token = net.op("Expand", net.stored(net.random(1, 5), "token"), shape)
    model = net.model(net.op("Add", net.op("MatMul", x, w), token))
    assert kinds(model)[0] == {"a", "b", "token"}
    made = grads(to_torch(model), {"x": np.ones((3, 4), np.float32)})
    assert all(g is not None and g.any() for g in made.values())


def test_the_judgement_can_be_overruled() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    y = net.op("Mul", net.linear(x, 4, 4, name="frozen"), net.scalar(2.0, "temperature"))
    model = net.model(y)
    module = to_torch(model, weights=lambda name, weight: name == "temperature" or (weight and "frozen" not in name))
    assert [n for n, _ in module.named_parameters()] == ["temperature"]
    made = grads(module, {"x": np.ones((2, 4), np.float32)})
    assert made["temperature"] is not None
    assert from_torch(module, model).SerializeToString() == model.SerializeToString()


def test_what_no_output_depends_on_is_not_trained() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    net.linear(x, 4, 4, name="idle")
    parameters, buffers = kinds(net.model(net.linear(x, 4, 4, name="used")))
    assert parameters == {"used.weight", "used.bias"}
    assert buffers == {"idle.weight", "idle.bias"}


@pytest.mark.parametrize("behind", [False, True])
def test_numbers_that_operators_read_are_never_parameters(behind: bool) -> None:
    """They are no tensors by the time torch computes, so no gradient would reach them."""
    net = Net()
    value, scales = net.constant(np.float32(0.5), "value"), net.constant(np.float32([1, 1, 2, 2]), "scales")
    if behind:
        value, scales = net.op("Identity", value), net.op("Identity", scales)
    padded = net.op("Pad", net.conv(net.input(1, 3, 4, 4), 3, 2), net.ints(0, 0, 1, 1, 0, 0, 1, 1), value)
    model = net.model(net.op("Resize", padded, "", scales, mode="nearest"))
    check(model)
    assert not kinds(model)[0] & {"value", "scales"}


def test_integers_are_never_parameters() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    y = net.op("Gather", net.op("Reshape", x, net.ints(-1, 2, 2, name="shape")), net.ints(1, 0, name="order"), axis=1)
    parameters, buffers = kinds(net.model(y))
    assert not parameters
    assert "shape" not in buffers  # a literal in the graph


def check(model: onnx.ModelProto) -> None:
    """The same values, a gradient for every parameter, the same bytes back."""
    sizes = {i.name: [d.dim_value or 2 for d in i.type.tensor_type.shape.dim] for i in real_inputs(model)}
    module = assert_same(model, feeds(model, sizes, 0))
    assert from_torch(module, model).SerializeToString() == model.SerializeToString()
    nodes = needed(model.graph)
    stored = {t.name for t in model.graph.initializer} | {n.output[0] for n in nodes if n.op_type == "Constant"}
    read = {n for node in nodes for n in node.input} & stored
    floats = {n for n in read if initializer(model, n).dtype == np.float32 and initializer(model, n).size > 1}
    kept = {"BatchNormalization": 3, "Resize": 1}  # from which input on nothing is trained: statistics, scales
    behind = {n.output[0]: n.input[0] for n in nodes if n.op_type == "Identity"}
    fixed = {n for node in nodes if node.op_type in kept for n in node.input[kept[node.op_type] :]}
    for _ in behind:
        fixed |= {behind[n] for n in fixed if n in behind}
    made = {module.onnx_names[n]: g for n, g in grads(module, feeds(model, sizes, 0)).items()}
    assert floats - fixed == {n for n in made if initializer(model, n).size > 1}
    for name, gradient in made.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name


@in_ci(12)
@given(random_models(PLAIN))
def test_random_models(model: onnx.ModelProto) -> None:
    check(model)


@nightly(random_models(PLAIN), 20)
def test_many_random_models(model: onnx.ModelProto) -> None:
    check(model)


def test_a_sparse_tensor_is_computed_with() -> None:
    values = onnx.numpy_helper.from_array(np.array([2, 3, -1], np.float32), "w")
    for at in (np.array([0, 5, 7]), np.array([[0, 0], [1, 2], [2, 1]])):
        net = Net()
        x = net.input("n", 3, name="x")
        y = net.op("MatMul", x, net.stored(np.zeros((3, 3), np.float32), "w"))
        model = net.model(y)
        del model.graph.initializer[:]
        places = onnx.numpy_helper.from_array(at, "places")
        model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [3, 3]))
        module = assert_same(model, {"x": np.eye(3, dtype=np.float32)})
        assert from_torch(module, model).SerializeToString() == model.SerializeToString()
