"""If, Loop and Scan: chosen while building where that is certain, run by Python where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, grads
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net

from graphprune.interpret import to_torch
from graphprune.interpret.ops_control import If

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def branch(name: str, *nodes: onnx.NodeProto, weights: dict[str, Any] | None = None) -> onnx.GraphProto:
    """A body without inputs; its output is that of the last node."""
    stored = [numpy_helper.from_array(np.asarray(v), n) for n, v in (weights or {}).items()]
    value = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [value], stored)


def choosing(net: Net, condition: str, x: str) -> str:
    yes = branch("yes", helper.make_node("MatMul", [x, "v"], ["yes"]), weights={"v": net.random(4, 2)})
    no = branch("no", helper.make_node("MatMul", [x, "shared"], ["t"]), helper.make_node("Relu", ["t"], ["no"]))
    net.weight(4, 2, name="shared")
    return net.op("If", condition, then_branch=yes, else_branch=no)


@pytest.mark.parametrize("truth", [True, False])
def test_a_constant_condition_leaves_no_trace(truth: bool) -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    model = net.model(choosing(net, net.op("Not", net.stored(np.array(not truth))), x))
    module = assert_same(model, {"x": X})
    assert not any(isinstance(m, If) for m in module.modules())
    assert [n for n, _ in module.named_parameters()] == ["v" if truth else "shared"]


def test_branches_beside_each_other_may_use_the_same_names() -> None:
    """Of the two that are certain to run, and of those that are not."""
    for certain in (True, False):
        net = Net()
        y = net.input("n", 4, name="x")
        if certain:
            condition = net.stored(np.array(True))
        else:
            condition = net.op("Less", net.op("ReduceSum", y, keepdims=0), net.scalar(9e9))
        for k in (1, 2):
            inside = [helper.make_node("MatMul", [y, "w"], ["t"]), helper.make_node("Tanh", ["t"], [f"out{k}"])]
            bodies = [branch(f"b{k}{m}", *inside, weights={"w": net.random(4, 4)}) for m in "yn"]
            y = net.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])
        module = assert_same(net.model(y), {"x": X})
        made = grads(module, {"x": X})
        assert sum(g is not None and bool(g.any()) for g in made.values()) == 2


def test_a_condition_on_the_data_takes_either_branch() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    model = net.model(choosing(net, net.op("Greater", net.op("ReduceSum", x, keepdims=0), net.scalar(0.0)), x))
    module = None
    for sign in (1, -1):
        x_ = (sign * np.abs(X)).astype(np.float32)
        module = assert_same(model, {"x": x_}, module=module)
        made = grads(module, {"x": x_})
        assert (made["v"] is not None, made["shared"] is not None) == (sign > 0, sign < 0)


def test_a_condition_on_a_size_follows_the_size() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    count = net.op("Gather", net.op("Shape", x), net.stored(np.array(0)))
    model = net.model(choosing(net, net.op("Equal", count, net.stored(np.array(1))), x))
    module = assert_same(model, {"x": X})
    assert_same(model, {"x": X[:1].copy()}, module=module)


def test_a_branch_within_a_branch_reaches_what_is_outside() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    limit, shape = net.scalar(0.0, "limit"), net.op("Shape", x, name="shape")
    inner = [branch(f"in{k}", helper.make_node("Expand", ["small", "shape"], [f"in{k}"]),
                    weights={"small": np.full((1, 4), k, np.float32)}) for k in (2, 3)]  # fmt: skip
    total = helper.make_node("ReduceMax", [x], ["most"], keepdims=0)
    above = helper.make_node("Greater", ["most", limit], ["above"])
    nested = helper.make_node("If", ["above"], ["nested"], then_branch=inner[0], else_branch=inner[1])
    outer = branch("outer", total, above, nested, helper.make_node("Mul", ["nested", x], ["scaled"]))
    other = branch("other", helper.make_node("Neg", [x], ["other"]))
    condition = net.op("Less", net.op("ReduceMin", x, keepdims=0), net.scalar(-1.0))
    assert shape == "shape"
    model = net.model(net.op("If", condition, then_branch=outer, else_branch=other))
    module = None
    for shift in (0, -3, 5):
        module = assert_same(model, {"x": X + np.float32(shift)}, module=module)
    assert {"limit", "small", "small#2"} <= set(module.onnx_names.values())


def looping(trips: int | None, until: float | None) -> onnx.ModelProto:
    """y <- tanh(y w), counted or while its sum is small; every step's y is kept."""
    net = Net()
    x = net.input("n", 4, name="x")
    net.weight(4, 4, name="w")
    net.scalar(until or 0.0, "until")
    nodes = [
        helper.make_node("MatMul", ["y_in", "w"], ["p"]), helper.make_node("Tanh", ["p"], ["t"]),
        helper.make_node("Cast", ["turn"], ["k"], to=TensorProto.FLOAT), helper.make_node("Add", ["t", "k"], ["y_out"]),
        helper.make_node("ReduceSum", ["y_out"], ["s"], keepdims=0),
        helper.make_node("Less", ["s", "until"], ["small"]),
        helper.make_node("Identity", ["go_in"], ["go"]), helper.make_node("Identity", ["y_out"], ["kept"]),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes, "body", [info("turn", 7, []), info("go_in", 9, []), info("y_in", 1, None)],
        [info("small" if until is not None else "go", 9, []), info("y_out", 1, None), info("kept", 1, None)],
    )  # fmt: skip
    limit = "" if trips is None else net.stored(np.array(trips), "trips")
    return net.model(*net.ops("Loop", limit, "", x, outputs=2, body=body))


@pytest.mark.parametrize(("trips", "until"), [(4, None), (1, None), (9, 20.0), (None, 30.0)])
def test_loops(trips: int | None, until: float | None) -> None:
    module = assert_same(looping(trips, until), {"x": X})
    made = grads(module, {"x": X})
    assert made["w"] is not None
    assert made["w"].any()


def test_a_scan_along_two_inputs_backwards() -> None:
    net = Net()
    state = net.input(4, name="h")
    a, b = net.input(5, 4, name="a"), net.input(4, 5, name="b")
    net.weight(4, 4, name="w")
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h_in", "w"], ["m"]), helper.make_node("Sum", ["m", "a_t", "b_t"], ["h_out"]),
         helper.make_node("Exp", ["h_out"], ["y_t"])],
        "body", [info(n, 1, [4]) for n in ("h_in", "a_t", "b_t")], [info(n, 1, [4]) for n in ("h_out", "y_t")],
    )  # fmt: skip
    attrs = {"scan_input_directions": [0, 1], "scan_input_axes": [0, 1], "scan_output_axes": [1]}
    made = net.ops("Scan", state, a, b, outputs=2, body=body, num_scan_inputs=2, scan_output_directions=[1], **attrs)
    rng = np.random.default_rng(1)
    feeds = {n: rng.standard_normal(s).astype(np.float32) * 0.3 for n, s in (("h", 4), ("a", (5, 4)), ("b", (4, 5)))}
    module = assert_same(net.model(*made), feeds)
    assert grads(module, feeds)["w"] is not None


def test_sequences_and_options() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    parts = net.op("SplitToSequence", x, net.ints(2, 1, 1), axis=1)
    parts = net.op("SequenceInsert", net.op("SequenceErase", parts, net.stored(np.array(1))), net.op("Neg", x))
    y = net.op("ConcatFromSequence", parts, axis=1)
    z = net.op("SequenceAt", parts, net.stored(np.array(-1)))
    assert_same(net.model(y, z), {"x": X})


def test_moving_a_module_with_branches() -> None:
    net = Net()
    x = net.input("n", 4, name="x")
    model = net.model(choosing(net, net.op("Greater", net.op("ReduceSum", x, keepdims=0), net.scalar(0.0)), x))
    module = to_torch(model).double()
    (y,) = module(torch.from_numpy(X).double())
    assert y.dtype == torch.float64
