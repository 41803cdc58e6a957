"""Case 16: operators on integers, ONNX's own and onnxruntime's, static and dynamic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import onnx
import pytest
from checks import coupled
from onnx import TensorProto
from onnx_models import attribute, node
from quantised import CONTRIB, QNet, Stored, check_plan, check_quantised

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.codes import Codes
from graphprune.runtime import feeds, session
from graphprune.verification.verify import verify


def qlinear_conv(
    net: QNet, x: str, into: tuple[str, str], out: tuple[str, str], w: Stored, *, bias: int = 0, **attrs: object
) -> str:
    operands = [x, *into, w.codes, w.scale, w.zero, *out]
    operands += [net.integer_bias(bias, 0.0005)] if bias else []
    return net.op("QLinearConv", *operands, **attrs)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_convolutions_on_integers(dtype: str, axis: int | None) -> None:
    net = QNet()
    steps = [net.step(0.02, 128, "uint8"), net.step(0.03, 7, "uint8"), net.step(0.02, 100, "uint8")]
    x = net.op("QuantizeLinear", net.input(1, 3, 6, 6), *steps[0])
    first = net.codes(net.random(6, 3, 3, 3), dtype, axis, name="first")
    x = qlinear_conv(net, x, steps[0], steps[1], first, bias=6, pads=[1] * 4, kernel_shape=[3, 3], name="one")
    w = net.codes(net.random(6, 1, 3, 3), dtype, axis, name="depthwise")
    x = qlinear_conv(net, x, steps[1], steps[1], w, group=6, pads=[1] * 4, kernel_shape=[3, 3], name="two")
    w = net.codes(net.random(4, 6, 1, 1), dtype, axis, name="last")
    y = qlinear_conv(net, x, steps[1], steps[2], w, kernel_shape=[1, 1])
    case = check_quantised(net, net.op("DequantizeLinear", y, *steps[2]))
    group = case.group_of("first", 0)
    assert case.group_of("depthwise", 0) == case.group_of("last", 1) == group
    assert bool(case.groups_of("first.scale", 0)) == bool(case.groups_of("depthwise.zero", 0)) == (axis == 0)
    small = check_plan(case, case.plan(**{group: (1, 4)}), net.zeros)
    assert attribute(node(small, "two"), "group") == 2


def test_products_on_integers() -> None:
    net = QNet()
    steps = [net.step(0.02, 128, "uint8"), net.step(0.03, 7, "uint8"), net.step(0.02, 100, "uint8")]
    x = net.op("QuantizeLinear", net.input(2, 4, 5), *steps[0])
    for k, (a, b) in enumerate([(5, 8), (8, 3)]):
        w = net.codes(net.random(b, a).T.copy(), "uint8", name=f"w{k}")
        x = net.op("QLinearMatMul", x, *steps[k], w.codes, w.scale, w.zero, *steps[k + 1])
    case = check_quantised(net, net.op("DequantizeLinear", x, *steps[2]))
    assert case.group_of("w0", 1) == case.group_of("w1", 0)


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("turned", [0, 1])
def test_dense_layers_on_integers(turned: int, floating: bool) -> None:
    net = QNet()
    steps = [net.step(0.02, 128, "uint8"), net.step(0.03, 7, "uint8"), net.step(0.02, 100, "uint8")]
    x = net.op("QuantizeLinear", net.input(2, 5), *steps[0])
    for k, (a, b) in enumerate([(5, 8), (8, 3)]):
        array = net.random(b, a) if turned else net.random(b, a).T.copy()
        w = net.codes(array, "int8", 0 if turned else 1, name=f"w{k}", zeros="none")
        bias = net.integer_bias(b, 0.001, f"b{k}")
        out = [] if floating and k else [*steps[k + 1]]
        x = net.op("QGemm", x, *steps[k], w.codes, w.scale, w.zero, bias, *out, domain=CONTRIB, transB=turned)
    case = check_quantised(net, x if floating else net.op("DequantizeLinear", x, *steps[2]))
    assert case.group_of("w0", 0 if turned else 1) == case.group_of("b0", 0) == case.group_of("w1", 1 if turned else 0)
    assert case.groups_of("w0.scale", 0) == case.groups_of("b0", 0)


def test_arithmetic_pooling_and_concatenation_of_codes() -> None:
    net = QNet()
    s = [net.step(0.02 + 0.005 * k, 100 + k, "uint8") for k in range(8)]
    q = net.op("QuantizeLinear", net.input(1, 3, 6, 6), *s[0])

    def conv(x: str, k: int, c_in: int, c_out: int, name: str) -> str:
        w = net.codes(net.random(c_out, c_in, 1, 1), "uint8", name=name)
        return qlinear_conv(net, x, s[k], s[k + 1], w, bias=c_out, kernel_shape=[1, 1])

    a, b = conv(q, 0, 3, 8, "a"), conv(q, 0, 3, 8, "b")
    y = net.op("QLinearAdd", a, *s[1], b, *s[1], *s[2], domain=CONTRIB)
    gate = net.op("QLinearSigmoid", y, *s[2], *net.step(1 / 256, 0, "uint8"), domain=CONTRIB)
    y = net.op("QLinearMul", y, *s[2], gate, *net.step(1 / 256, 0, "uint8"), *s[3], domain=CONTRIB)
    y = net.op("QLinearLeakyRelu", y, *s[3], *s[3], domain=CONTRIB, alpha=0.1)
    y = net.op("QLinearAveragePool", y, *s[3], *s[3], domain=CONTRIB, kernel_shape=[2, 2], strides=[2, 2])
    side = net.op("MaxPool", conv(q, 0, 3, 5, "side"), kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("QLinearConcat", *s[4], y, *s[3], side, *s[1], domain=CONTRIB, axis=1)
    y = net.op("QLinearGlobalAveragePool", y, *s[4], *s[4], domain=CONTRIB)
    y = conv(y, 4, 13, 4, "head")
    case = check_quantised(net, net.op("DequantizeLinear", y, *s[5]))
    assert case.group_of("a", 0) == case.group_of("b", 0)
    assert sorted(g.size for g in case.groups.values()) == [5, 8]
    assert case.groups_of("head", 1) == case.groups_of("a", 0) | case.groups_of("side", 0)


def test_what_compares_the_codes_of_an_axis_keeps_it() -> None:
    net = QNet()
    s = [net.step(0.03, 100, "uint8"), net.step(1 / 256, 0, "uint8")]
    x = net.op("QuantizeLinear", net.input(1, 4, 5), *s[0])
    for k, (a, b) in enumerate([(5, 7), (7, 8)]):
        w = net.codes(net.random(b, a).T.copy(), "uint8", name=f"w{k}")
        x = net.op("QLinearMatMul", x, *s[0], w.codes, w.scale, w.zero, *s[0])
    y = net.op("QLinearSoftmax", x, *s[0], *s[1], domain=CONTRIB, axis=-1, opset=17)
    case = check_quantised(net, net.op("DequantizeLinear", y, *s[1]))
    assert case.size_of("w0", 1) == 7
    assert not case.groups_of("w1", 1)


# Dynamic ranges -------------------------------------------------------------------------------------------------------


def dynamic(net: QNet, x: str, w: Stored, *, bias: int = 0, conv: bool = False, **attrs: object) -> str:
    """What onnxruntime's quantiser writes for a product: range, integers, scales, bias."""
    q, scale, zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
    op = "ConvInteger" if conv else "MatMulInteger"
    total = net.op("Cast", net.op(op, q, w.codes, zero, w.zero, **attrs), to=TensorProto.FLOAT)
    y = net.op("Mul", total, net.op("Mul", scale, w.scale))
    return net.op("Add", y, net.vector(bias)) if bias else y


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_products(per_channel: bool) -> None:
    net = QNet()
    x = net.input(2, 4, 5)
    for k, (a, b) in enumerate([(5, 8), (8, 7), (7, 3)]):
        w = net.codes(net.random(b, a).T.copy(), "int8", 1 if per_channel else None, name=f"w{k}")
        x = dynamic(net, net.op("Relu", x) if k else x, w, bias=b)
    case = check_quantised(net, x)
    assert [g.size for g in case.groups.values()] == [8, 7]
    assert case.group_of("w0", 1) == case.group_of("w1", 0)
    assert case.groups_of("w0.scale", 0) == (case.groups_of("w0", 1) if per_channel else set())


def test_dynamic_convolutions() -> None:
    net = QNet()
    x = net.input(1, 3, 6, 6)
    for k, (a, b) in enumerate([(3, 6), (6, 8), (8, 3)]):
        w = net.codes(net.random(b, a, 3, 3), "uint8", name=f"w{k}")
        x = dynamic(net, net.op("Relu", x) if k else x, w, conv=True, pads=[1] * 4, kernel_shape=[3, 3])
    case = check_quantised(net, x)
    assert [g.size for g in case.groups.values()] == [6, 8]


def test_products_that_quantise_their_data_themselves() -> None:
    net = QNet()
    x = net.input(2, 4, 5)
    for k, (a, b) in enumerate([(5, 8), (8, 7)]):
        w = net.codes(net.random(b, a).T.copy(), "uint8", 1, name=f"w{k}")
        x = net.op("Relu", net.op("DynamicQuantizeMatMul", x, w.codes, w.scale, w.zero, net.vector(b), domain=CONTRIB))
    q, scale, zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
    w = net.codes(net.random(3, 7).T.copy(), "uint8", 1, name="w2")
    y = net.op("MatMulIntegerToFloat", q, w.codes, scale, w.scale, zero, w.zero, net.vector(3), domain=CONTRIB)
    case = check_quantised(net, y)
    assert [g.size for g in case.groups.values()] == [8, 7]
    assert case.group_of("w0.zero", 0) == case.group_of("w1", 0)


def test_a_range_is_taken_over_what_is_kept() -> None:
    """A removed unit is a zero before the range is taken, whatever its activation makes of nothing."""
    kept = (0, 1, 3, 4, 5)

    def model(gains: Sequence[float]) -> onnx.ModelProto:
        net = QNet()
        x = net.op("Sigmoid", net.linear(net.input(3, 5), 5, 6, name="before"))
        x = net.op("Mul", x, net.stored(np.array(gains, np.float32), "gains"))
        return net.model(dynamic(net, x, net.codes(net.random(4, 6).T.copy(), "int8", name="w")))

    case = coupled(model([1, 1, 50, 1, 1, 1]))
    plan = case.plan(before=kept)
    small = rewrite(case.graph, plan, case.groups)
    data = feeds(case.model, case.graph.source.input_sizes, 1)
    mine, masked, original = (session(m).run(None, data)[0] for m in (small, model([1, 1, 0, 1, 1, 1]), case.model))
    assert np.array_equal(mine, masked)
    assert np.abs(mine - original).max() > 0.01 * np.abs(original).max()
    assert verify(case.graph, case.groups, plan, small).max_rel == 0


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_attention_that_projects_codes(dtype: str, per_column: bool) -> None:
    heads, depth, width = 3, 4, 8
    net = QNet()
    x = net.op("Relu", net.linear(net.input(2, 5, 6), 6, width, name="before"))
    w = net.codes(net.random(3 * heads * depth, width).T * 2, dtype, 1 if per_column else None, name="w", zeros="none")
    q, scale, zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
    bias = net.vector(3 * heads * depth, "bias")
    operands = [q, w.codes, bias, scale, w.scale, "", zero, w.zero]
    y = net.op("QAttention", *operands, domain=CONTRIB, num_heads=heads, name="attention")
    case = check_quantised(net, net.linear(y, heads * depth, 3, name="o"))
    group = case.group_of("w", 1)
    assert case.groups[group].size == heads
    assert case.groups_of("o.weight", 0) == case.groups_of("bias", 0) == {group}
    assert bool(case.groups_of("w.scale", 0)) == per_column
    assert case.group_of("w", 0) == "before"
    small = check_plan(case, case.plan(**{group: (0, 2)}), net.zeros)
    assert attribute(node(small, "attention"), "num_heads") == 2
    tokens = 5
    assert (
        case.groups.costs.full["macs"]
        == 2 * tokens * (6 * width + width * 3 * heads * depth + heads * depth * 3)
        + 2 * 2 * heads * tokens * tokens * depth
    )


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_recurrent_layers_of_codes(dtype: str, directions: int, per_column: bool) -> None:
    """A unit whose gates' codes, biases and state are zero has a state of zero, which no range notices."""
    steps, hidden, width = 4, 6, 5
    net = QNet()
    x = net.op("Relu", net.linear(net.input(steps, 2, 3), 3, width, name="before"))
    operands, scales = [x], []
    for name, rows in (("w", width), ("r", hidden)):
        parts = [net.random(4 * hidden, rows).T * 1.5 for _ in range(directions)]
        codes = [net.codes(part, dtype, 1 if per_column else None, zeros="none") for part in parts]
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in net.initializers}
        array, scale, zero = (np.stack([stored[n] for n in names]) for names in zip(*map(astuple, codes), strict=True))
        net.initializers = [t for t in net.initializers if t.name not in {n for c in codes for n in astuple(c)}]
        net.zeros[name] = np.broadcast_to(zero[:, None, :] if per_column else zero[:, None, None], array.shape)
        operands.append(net.stored(array, name))
        scales += [net.stored(scale, f"{name}.scale"), net.stored(zero, f"{name}.zero")]
    operands.append(net.stored(net.rng.uniform(-0.3, 0.3, (directions, 8 * hidden)).astype(np.float32), "b"))
    operands += ["", net.stored(net.rng.uniform(-0.5, 0.5, (directions, 2, hidden)).astype(np.float32), "h0")]
    operands += [net.stored(np.zeros((directions, 2, hidden), np.float32), "c0"), ""]
    attrs = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
    y = net.op("DynamicQuantizeLSTM", *operands, *scales, domain=CONTRIB, name="lstm", **attrs)
    y = net.reshape(net.transpose(y, 0, 2, 1, 3), steps, 2, directions * hidden)
    case = check_quantised(net, net.linear(y, directions * hidden, 3, name="o"))
    group = case.group_of("w", 2)
    assert case.groups[group].size == hidden
    assert case.group_of("r", 1) == case.group_of("r", 2) == case.group_of("b", 1) == case.group_of("h0", 2) == group
    assert case.group_of("w", 1) == "before"
    assert Codes(case.graph).values("r").shape == (directions, hidden, 4 * hidden)
    small = check_plan(case, case.plan(**{group: (0, 2, 5)}), net.zeros)
    assert attribute(node(small, "lstm"), "hidden_size") == 3
    each = steps * 2 * (3 * width + directions * (4 * hidden * (width + hidden) + hidden * 3))
    assert case.groups.costs.full["macs"] == each


# Frozen, with a reason ------------------------------------------------------------------------------------------------


def test_scales_along_an_axis_of_the_data_freeze() -> None:
    net = QNet()
    step = net.step(0.03, 100, "uint8")
    x = net.op("QuantizeLinear", net.op("Relu", net.linear(net.input(4, 5), 5, 6, name="before")), *step)
    rows = [net.stored(np.full(4, 0.03, np.float32)), net.element(np.full(4, 100), "uint8")]
    w = net.codes(net.random(3, 6).T.copy(), "uint8", name="w")
    y = net.op("QLinearMatMul", x, *rows, w.codes, w.scale, w.zero, *step)
    case = coupled(net.model(net.op("DequantizeLinear", y, *step)))
    assert "QLinearMatMul with scales or zero points along other axes" in case.why_frozen("w", 0)


def test_a_lookup_in_blocks_freezes() -> None:
    net = QNet(opset=21)
    table = net.element(net.rng.integers(0, 16, (10, 32)), "uint4", "table")
    scale = net.stored(net.rng.uniform(0.1, 0.2, (10, 2)).astype(np.float32))
    index = net.input(1, 4, dtype=TensorProto.INT64)
    x = net.op("GatherBlockQuantized", table, index, scale, domain=CONTRIB, block_size=16, quantize_axis=1)
    y = net.linear(net.op("Relu", net.linear(x, 32, 6, name="up")), 6, 3)
    case = check_quantised(net, y)
    assert "GatherBlockQuantized looks up rows" in case.why_frozen("table", 1)
    assert list(case.groups) == ["up"]
