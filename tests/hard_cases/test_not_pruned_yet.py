"""Cases 15, 16, 17: what a later version prunes freezes for now, with a reason; the rest still prunes."""

from __future__ import annotations

import numpy as np
import onnx
from checks import Coupled, check_equivalence, coupled
from onnx import TensorProto, helper
from onnx_models import Net


def body(name: str, captured: str, op: str) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, [captured], [f"{name}.out"], name=f"{name}.node")], name, [], [out])


def test_the_bodies_of_an_if_freeze_what_they_capture() -> None:
    net = Net()
    x = net.conv(net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before")), 5, 6, name="seen")
    condition = net.input(name="condition", dtype=TensorProto.BOOL)
    made = net.op("If", condition, name="choice")
    net.nodes[-1].attribute.extend(
        [
            helper.make_attribute("then_branch", body("a", x, "Relu")),
            helper.make_attribute("else_branch", body("b", x, "Abs")),
        ]
    )
    y = net.conv(net.op("Relu", net.conv(made, 6, 7, name="after")), 7, 2)
    case = check_equivalence(net.model(y))
    assert set(case.groups) == {"before", "after"}
    assert case.why_frozen("seen.weight", 0) == "the bodies of If are not pruned yet"


def test_the_body_of_a_loop_freezes_the_weights_it_uses() -> None:
    net = Net()
    x = net.linear(net.input(2, 3), 3, 6, name="seen")
    weight = net.weight(6, 6, name="inside")
    steps, go = net.stored(np.array(3)), net.stored(np.array(True))
    scalar = lambda name, kind: helper.make_tensor_value_info(name, kind, [])  # noqa: E731
    state = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 6]) for n in ("state", "next")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("MatMul", ["state", weight], ["next"])],
        "step",
        [scalar("step", TensorProto.INT64), scalar("go_in", TensorProto.BOOL), state[0]],
        [scalar("go_out", TensorProto.BOOL), state[1]],
    )
    looped = net.op("Loop", steps, go, x, name="loop")
    net.nodes[-1].attribute.append(helper.make_attribute("body", graph))
    y = net.linear(net.op("Relu", net.linear(looped, 6, 8, name="after")), 8, 2)
    case = check_equivalence(net.model(y))
    assert list(case.groups) == ["after"]
    for name, axis in (("inside", 0), ("inside", 1), ("seen.weight", 1)):
        assert case.why_frozen(name, axis) == "the bodies of Loop are not pruned yet"


def test_a_function_of_the_model_is_opaque_or_inlined() -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before"))
    y = net.op("Twice", net.conv(x, 5, 6, name="seen"), domain="local")
    y = net.conv(net.op("Relu", net.conv(y, 6, 7, name="after")), 7, 2, name="head")
    twice = helper.make_function(
        "local", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    value = helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 2, 4, 4])
    graph = helper.make_graph(net.nodes, "net", net.inputs, [value], net.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=8)
    case = check_equivalence(model)
    assert {"before", "after"} <= set(case.groups)
    assert case.groups_of("seen.weight", 0) or "local" in case.why_frozen("seen.weight", 0)


def quantised() -> Coupled:
    """QDQ: activations quantised before every convolution, weights stored in eight bits."""
    net = Net()

    def stepped(x: str) -> str:
        scale, zero = net.scalar(0.05), net.stored(np.array(3, np.int8))
        return net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale, zero), scale, zero)

    def conv(x: str, c_in: int, c_out: int, name: str) -> str:
        codes = net.stored(net.rng.integers(-127, 128, (c_out, c_in, 1, 1)).astype(np.int8), f"{name}.codes")
        scale, zero = net.stored(np.full(c_out, 0.01, np.float32)), net.stored(np.zeros(c_out, np.int8))
        return net.op("Conv", x, net.op("DequantizeLinear", codes, scale, zero, axis=0), name=name)

    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before"))
    x = conv(stepped(net.conv(x, 5, 6, name="into")), 6, 8, "first")
    x = conv(stepped(net.op("Relu", x)), 8, 4, "second")
    y = net.conv(net.op("Relu", net.conv(stepped(x), 4, 7, name="after")), 7, 2)
    return coupled(net.model(y))


def test_activations_quantised_to_integers() -> None:
    case = quantised()
    check_equivalence(case.model)
    assert set(case.groups) == {"before", "after"}
    for name, axis in (("first.codes", 0), ("first.codes", 1), ("into.weight", 0), ("second.codes", 1)):
        assert case.why_frozen(name, axis) == "activations quantised to integers are not pruned yet"


def test_integer_convolutions() -> None:
    """QOperator: the whole layer on integers; its MACs count."""
    net = Net()
    x = net.conv(net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before")), 5, 6, name="into")
    scale, zero = net.scalar(0.05), net.stored(np.array(3, np.int8))
    codes = net.stored(net.rng.integers(-127, 128, (8, 6, 1, 1)).astype(np.int8), "codes")
    unit = net.stored(np.array(0, np.int8))
    y = net.op(
        "QLinearConv", net.op("QuantizeLinear", x, scale, zero), scale, zero, codes, net.scalar(0.01), unit, scale, zero
    )
    y = net.op("DequantizeLinear", y, scale, zero)
    y = net.conv(net.op("Relu", net.conv(y, 8, 7, name="after")), 7, 2)
    case = coupled(net.model(y))
    assert set(case.groups) == {"before", "after"}
    assert "QLinearConv computes on integers" in case.why_frozen("codes", 0)
    assert case.groups.costs.full["macs"] == 16 * (3 * 5 + 5 * 6 + 6 * 8 + 8 * 7 + 7 * 2)


def test_contributed_operators() -> None:
    """A fused skip connection and layer norm of onnxruntime's own domain."""
    net = Net()
    x = net.linear(net.input(1, 5, 3), 3, 8, name="embed")
    y = net.linear(net.op("Relu", net.linear(x, 8, 12, name="up")), 12, 8, name="down")
    z = net.op("SkipLayerNormalization", y, x, net.vector(8), net.vector(8), domain="com.microsoft", name="skip")
    case = check_equivalence(net.model(net.linear(z, 8, 2)))
    assert list(case.groups) == ["up"]
    assert "SkipLayerNormalization" in case.why_frozen("down.weight", 1)


def test_a_contributed_activation_is_just_elementwise() -> None:
    net = Net()
    x = net.op(
        "BiasGelu",
        net.linear(net.input(1, 5, 3), 3, 8, bias=False, name="up"),
        net.vector(8, "bias"),
        domain="com.microsoft",
    )
    case = check_equivalence(net.model(net.linear(x, 8, 2, name="down")))
    assert case.group_of("bias", 0) == case.group_of("up.weight", 1) == case.group_of("down.weight", 0)
