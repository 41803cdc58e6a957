"""Case 16: QuantizeLinear and DequantizeLinear around activations and weights; scales follow their axis."""

from __future__ import annotations

import numpy as np
import pytest
from checks import coupled, kept_indices
from onnx_models import ops_of
from quantised import QNet, check_plan, check_quantised


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("weights", "activations"), [("int8", "int8"), ("uint8", "uint8"), ("int8", "uint8")])
def test_convolutions(weights: str, activations: str, zero: bool, axis: int | None) -> None:
    net = QNet()
    at = 3 if activations == "int8" else 120
    x = net.stepped(net.input(1, 3, 6, 6), zero=at, dtype=activations)
    for k, (a, b) in enumerate([(3, 6), (6, 8)]):
        x = net.op("Relu", net.qconv(x, a, b, 3, dtype=weights, axis=axis, zero=zero, name=f"c{k}"))
        x = net.stepped(x, 0.03, -128 if activations == "int8" else 0, activations)
    y = net.qconv(net.op("GlobalAveragePool", x), 8, 4, dtype=weights, axis=axis, zero=zero, name="head")
    case = check_quantised(net, net.stepped(y, zero=at, dtype=activations))
    group = case.group_of("c0.codes", 0)
    assert case.group_of("c1.codes", 1) == group == case.group_of("c0.bias", 0)
    for part in ["scale"] * (axis == 0) + ["zero"] * (axis == 0 and zero):
        assert case.group_of(f"c0.codes.{part}", 0) == group


def test_a_scale_keeps_what_its_axis_keeps() -> None:
    net = QNet()
    x = net.op("Relu", net.qconv(net.stepped(net.input(1, 3, 5, 5)), 3, 6, name="a"))
    case = coupled(net.model(net.qconv(net.stepped(x), 6, 4, name="b")))
    plan = case.plan(a=(1, 4))
    for name in ("a.codes.scale", "a.codes.zero", "a.bias"):
        assert kept_indices(case, plan, name, 0).tolist() == [1, 4]
    assert kept_indices(case, plan, "b.codes", 1).tolist() == [1, 4]


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int16"])
@pytest.mark.parametrize("axis", [None, 1])
def test_dense_layers_of_other_widths(dtype: str, axis: int | None) -> None:
    """Weights of four and sixteen bits, the data floating: nothing is rounded as it runs."""
    net = QNet(opset=21)
    x = net.input(2, 5)
    attrs = {} if axis is None else {"axis": axis}
    for k, (a, b) in enumerate([(5, 8), (8, 7), (7, 3)]):
        w = net.codes(net.random(b, a).T.copy(), dtype, axis, name=f"w{k}")
        x = net.op("MatMul", x if k == 0 else net.op("Sigmoid", x), net.dequantise(w, **attrs))
    case = check_quantised(net, x)
    assert case.group_of("w0", 1) == case.group_of("w1", 0)
    assert [g.size for g in case.groups.values()] == [8, 7]


def test_four_bits_take_half_a_byte() -> None:
    def net_of(dtype: str) -> float:
        net = QNet(opset=21)
        w = [net.codes(net.random(*shape), dtype, name=f"w{k}") for k, shape in enumerate([(64, 256), (256, 64)])]
        x = net.op("MatMul", net.input(1, 64), net.dequantise(w[0]))
        case = coupled(net.model(net.op("MatMul", net.op("Relu", x), net.dequantise(w[1]))))
        costs = case.groups.costs
        assert costs.full["macs"] == costs.full["params"] - 4 == 2 * 64 * 256  # a scale and a zero point for each
        half = float(costs.evaluate("size", np.array([128])))
        assert half < costs.full["size"]
        assert abs((costs.full["size"] - half) * {"int4": 2, "int8": 1}[dtype] - 2 * 64 * 128) < 1
        return costs.full["size"]

    assert 2 * 64 * 256 / 2 - 64 < net_of("int8") - net_of("int4") < 2 * 64 * 256 / 2 + 64


@pytest.mark.parametrize("turned_first", [False, True])
def test_weights_turned_behind_or_before_their_scale(turned_first: bool) -> None:
    net = QNet()

    def linear(x: str, c_in: int, c_out: int, name: str) -> str:
        if turned_first:
            w = net.codes(net.random(c_out, c_in), "int8", None, name=name)
            turned = net.op("DequantizeLinear", net.transpose(w.codes, 1, 0), w.scale, w.zero)
        else:
            turned = net.transpose(
                net.dequantise(net.codes(net.random(c_out, c_in), "int8", 0, name=name), axis=0), 1, 0
            )
        return net.op("MatMul", x, turned)

    x = net.op("Relu", linear(net.stepped(net.input(2, 4, 5)), 5, 8, "a"))
    case = check_quantised(net, linear(net.stepped(x, 0.02), 8, 3, "b"))
    assert case.group_of("a", 0) == case.group_of("b", 1)
    assert bool(case.groups_of("a.scale", 0)) != turned_first


def test_a_kernel_stored_flat() -> None:
    net = QNet()
    x = net.op("Relu", net.qconv(net.stepped(net.input(1, 3, 4, 4)), 3, 6, name="a"))
    w = net.codes(net.random(4, 6).reshape(-1), "int8", None, name="flat")
    case = check_quantised(net, net.op("Conv", net.stepped(x), net.reshape(net.dequantise(w), 4, 6, 1, 1)))
    kept = kept_indices(case, case.plan(a=(2, 5)), "flat", 0)
    assert kept.tolist() == [6 * o + i for o in range(4) for i in (2, 5)]


def test_residual_depthwise_and_concatenation() -> None:
    net = QNet()
    x = net.stepped(net.op("Relu", net.qconv(net.stepped(net.input(1, 3, 6, 6)), 3, 8, name="stem")))
    y = net.stepped(net.op("Relu", net.qconv(x, 8, 8, 3, 8, name="depthwise")), 0.03)
    y = net.stepped(net.qconv(y, 8, 8, name="point"))
    x = net.stepped(net.op("Add", x, y), 0.07)
    z = net.stepped(net.op("Concat", x, net.stepped(net.qconv(x, 8, 5, name="side")), axis=1))
    case = check_quantised(net, net.qconv(net.op("MaxPool", z, kernel_shape=[2, 2]), 13, 4, name="head"))
    assert case.group_of("stem.codes", 0) == case.group_of("depthwise.codes", 0) == case.group_of("point.codes", 0)
    assert sorted(g.size for g in case.groups.values()) == [5, 8]


def test_a_grouped_convolution_counts_its_groups() -> None:
    net = QNet()
    x = net.stepped(net.op("Relu", net.qconv(net.stepped(net.input(1, 3, 5, 5)), 3, 8, name="a")))
    x = net.stepped(net.op("Relu", net.qconv(x, 8, 12, 3, 4, name="grouped")))
    case = check_quantised(net, net.qconv(x, 12, 2, name="head"))
    assert case.groups_of("grouped.codes", 0) & case.groups_of("a.codes", 0)


def test_floating_weights_that_are_rounded_as_the_model_runs() -> None:
    """As training with quantisation exports them: a weight, QuantizeLinear, DequantizeLinear."""
    net = QNet()

    def conv(x: str, c_in: int, c_out: int, name: str) -> str:
        scale = net.stored(net.rng.uniform(0.005, 0.02, c_out).astype(np.float32), f"{name}.scale")
        step = (scale, net.element(np.zeros(c_out), "int8", f"{name}.zero"))
        q = net.op("QuantizeLinear", net.weight(c_out, c_in, 1, 1, name=name), *step, axis=0)
        return net.op("Conv", x, net.op("DequantizeLinear", q, *step, axis=0))

    x = net.op("Relu", conv(net.stepped(net.input(1, 3, 5, 5)), 3, 6, "a"))
    case = check_quantised(net, conv(net.stepped(x), 6, 4, "b"))
    assert case.group_of("a", 0) == case.group_of("b", 1) == case.group_of("a.scale", 0)


def test_attention_between_quantised_products() -> None:
    """Scores and sums of values are products of two activations, both quantised."""
    heads, depth, tokens = 2, 4, 5
    net = QNet()
    x = net.stepped(net.input(1, tokens, 6))

    def projected(name: str) -> str:
        w = net.dequantise(net.codes(net.random(6, heads * depth), "int8", 1, name=name), axis=1)
        y = net.reshape(net.stepped(net.op("MatMul", x, w)), 1, tokens, heads, depth)
        return net.transpose(y, 0, 2, 1, 3)

    q, k, v = (projected(n) for n in "qkv")
    scores = net.stepped(net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)))
    weights = net.stepped(net.op("Softmax", scores, axis=-1), 1 / 256, -128)
    y = net.transpose(net.stepped(net.op("MatMul", weights, v), 0.02), 0, 2, 1, 3)
    y = net.reshape(y, 1, tokens, heads * depth)
    out = net.op("MatMul", y, net.dequantise(net.codes(net.random(heads * depth, 3), "int8", 1, name="o"), axis=1))
    case = check_quantised(net, out)
    assert sorted(g.size for g in case.groups.values()) == [heads, depth, depth]


def test_a_vector_that_several_layers_share_behind_its_scale() -> None:
    """Exporters store equal biases once; each layer still loses what it wants."""
    net = QNet()
    shared = net.dequantise(net.codes(net.rng.uniform(0.1, 1, 8).astype(np.float32), "int8", None, name="shared"))
    x = net.stepped(net.input(2, 5))
    for k, (a, b) in enumerate([(5, 8), (8, 8), (8, 8)]):
        w = net.dequantise(net.codes(net.random(b, a).T.copy(), "int8", 1, name=f"w{k}"), axis=1)
        x = net.stepped(net.op("Relu", net.op("Add", net.op("MatMul", x, w), shared)), 0.03)
    case = check_quantised(net, net.op("MatMul", x, net.weight(8, 3, name="head")))
    assert [g.size for g in case.groups.values()] == [8, 8, 8]
    assert "several nodes share it" in case.why_frozen("shared", 0)
    group = case.group_of("w1", 1)
    small = check_plan(case, case.plan(**{group: (1, 5)}), net.zeros)
    assert ops_of(small).count("Gather") == 1


# Blocks ---------------------------------------------------------------------------------------------------------------


def blocked(net: QNet, k: int, n: int, block: int, name: str, *, zero: bool = True) -> str:
    """A weight (k, n) of four bits with a scale and a zero point for each block of its rows."""
    blocks = -(-k // block)
    at = net.rng.integers(6, 10, (blocks, n)) if zero else np.full((blocks, n), 0)
    low, high = (0, 16) if zero else (-8, 8)
    codes = net.element(net.rng.integers(low, high, (k, n)), "uint4" if zero else "int4", name)
    net.zeros[name] = np.repeat(at, block, axis=0)[:k]
    operands = [codes, net.stored(net.rng.uniform(0.02, 0.06, (blocks, n)).astype(np.float32), f"{name}.scale")]
    operands += [net.element(at, "uint4", f"{name}.zero")] if zero else []
    return net.op("DequantizeLinear", *operands, axis=0, block_size=block)


@pytest.mark.parametrize("zero", [False, True])
def test_blocks_go_whole(zero: bool) -> None:
    net = QNet(opset=21)
    x = net.op("Relu", net.op("MatMul", net.input(2, 6), blocked(net, 6, 16, 3, "a", zero=zero)))
    case = check_quantised(net, net.op("MatMul", x, blocked(net, 16, 5, 4, "b", zero=zero)))
    group = case.group_of("b", 0)
    assert case.groups[group].size == 4
    assert case.group_of("b.scale", 0) == case.group_of("a", 1) == case.group_of("a.scale", 1) == group
    assert kept_indices(case, case.plan(**{group: (0, 2)}), "a", 1).tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    small = check_plan(case, case.plan(**{group: (0, 2)}), net.zeros)
    assert {t.name: list(t.dims) for t in small.graph.initializer}["b.scale"] == [2, 5]


def test_a_last_block_that_is_not_whole_freezes_the_axis() -> None:
    net = QNet(opset=21)
    x = net.op("Relu", net.op("MatMul", net.input(2, 6), blocked(net, 6, 14, 3, "a")))
    y = net.op("Relu", net.op("MatMul", x, blocked(net, 14, 8, 4, "b")))
    case = check_quantised(net, net.op("MatMul", y, blocked(net, 8, 3, 4, "c")))
    assert "blocks of 4, the last of which is not whole" in case.why_frozen("b", 0)
    assert "blocks of 4" in case.why_frozen("a", 1)
    assert case.size_of("c", 0) == 2


def test_one_block_for_all_leaves_every_unit_free() -> None:
    net = QNet(opset=21)
    x = net.op("Relu", net.op("MatMul", net.input(2, 6), blocked(net, 6, 8, 3, "a")))
    case = check_quantised(net, net.op("MatMul", x, blocked(net, 8, 5, 16, "b")))
    assert case.size_of("b", 0) == 8
