"""Operators of onnxruntime's own domain, as its optimisers write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from checks import check_equivalence, check_plan, coupled
from onnx_models import Net, attribute, node, ops_of

DOMAIN = "com.microsoft"
TOKENS, WIDTH = 6, 8


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What onnxruntime makes of a model for the CPU, short of layouts of its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


@pytest.mark.parametrize("batch", [1, "n"])
def test_convolutions_with_an_activation(tmp_path: Path, batch: int | str) -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input(batch, 3, 8, 8), 3, 6, 3, name="first"))
    y = net.op("LeakyRelu", net.conv(x, 6, 6, 3, name="second"))
    y = net.op("Relu", net.op("Add", net.conv(y, 6, 6, 3, name="third"), x))
    y = net.conv(net.op("GlobalAveragePool", net.op("Relu", net.conv(y, 6, 9, 3, name="fourth"))), 9, 2, name="head")
    fused = optimised(net.model(y), tmp_path)
    found = [n for n in fused.graph.node if n.op_type == "FusedConv"]
    assert {attribute(n, "activation") for n in found} == {b"Relu", b"LeakyRelu"}
    sizes = {fused.graph.input[0].name: (1, 3, 8, 8)}
    case = check_equivalence(fused, sizes, others=[{fused.graph.input[0].name: (3, 3, 8, 8)}] if batch == "n" else [])
    assert sorted(g.size for g in case.groups.values()) == [6, 6, 9]
    plain = coupled(net.model(y), {net.inputs[0].name: (1, 3, 8, 8)})
    assert case.groups.costs.full["macs"] == plain.groups.costs.full["macs"]


def test_a_convolution_that_adds_another_input() -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input(2, 3, 8, 8), 3, 6, 3, name="first"))
    y = net.op("Relu", net.conv(x, 6, 5, 3, name="second"))
    weight, bias = net.weight(6, 5, 3, 3, name="third"), net.vector(6)
    attrs = {"pads": [1] * 4, "kernel_shape": [3, 3], "activation": "Relu"}
    y = net.op("FusedConv", y, weight, bias, x, domain=DOMAIN, **attrs)
    case = check_equivalence(net.model(net.conv(y, 6, 2, name="head")))
    assert case.groups_of("third", 0) == case.groups_of("first.weight", 0)
    assert sorted(g.size for g in case.groups.values()) == [5, 6]


def test_matrix_products_with_a_side_transposed() -> None:
    net = Net(opset=17)
    x = net.op("Relu", net.linear(net.input(2, TOKENS, 5), 5, 7, name="before"))
    weight = net.stored(net.random(WIDTH, 7), "rows")
    y = net.op("FusedMatMul", x, weight, domain=DOMAIN, transB=1, alpha=0.5)
    turned = net.op("Transpose", net.op("Relu", y), perm=[0, 2, 1])
    y = net.op("FusedMatMul", turned, net.stored(net.random(WIDTH, 4), "columns"), domain=DOMAIN, transA=1)
    case = check_equivalence(net.model(net.linear(net.op("Relu", y), 4, 2)), {})
    assert case.size_of("rows", 1) == 7
    assert case.size_of("rows", 0) == WIDTH
    assert case.groups_of("columns", 0) == case.groups_of("rows", 0)


def test_a_dense_layer_with_an_activation(tmp_path: Path) -> None:
    net = Net()
    y = net.gemm(net.op("Relu", net.gemm(net.input(2, 5), 5, 7, name="first")), 7, 3, name="second")
    fused = optimised(net.model(y), tmp_path)
    assert "FusedGemm" in ops_of(fused)
    case = check_equivalence(fused)
    assert [g.size for g in case.groups.values()] == [7]


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("batch", [1, "n"])
def test_a_norm_of_a_sum(simplified: bool, batch: int | str) -> None:
    net = Net()
    x = net.linear(net.input(batch, TOKENS, 5), 5, WIDTH, name="stem")
    y = net.linear(net.op("Relu", net.linear(x, WIDTH, 7, name="up")), 7, WIDTH, name="down")
    vectors = [net.vector(WIDTH, f"v{k}", 0.5, 1.5) for k in range(2 if simplified else 3)]
    op = "SkipSimplifiedLayerNormalization" if simplified else "SkipLayerNormalization"
    net.nodes.append(onnx.helper.make_node(
        op, [y, x, *vectors], ["normed", "", "", "stream"], name="norm", domain=DOMAIN, epsilon=1e-5
    ))  # fmt: skip
    net.domains[DOMAIN] = 1
    z = net.op("Add", net.linear("normed", WIDTH, WIDTH, name="after"), "stream")
    sizes = {net.inputs[0].name: (1, TOKENS, 5)}
    model = net.model(net.linear(z, WIDTH, 2, name="head"))
    case = check_equivalence(model, sizes)
    assert case.size_of("up.weight", 1) == 7
    assert "takes statistics over this axis" in case.why_frozen("stem.weight", 1)
    open_case = coupled(model, sizes, allow_inexact=True)
    assert open_case.size_of("stem.weight", 1) == WIDTH


def heads_before_attention(net: Net, heads: int, depth: int, value_depth: int, batch: int | str = 1) -> list[str]:
    x = net.input(batch, TOKENS, WIDTH)
    return [net.linear(x, WIDTH, heads * d, name=n) for n, d in (("q", depth), ("k", depth), ("v", value_depth))]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, "n"])
def test_multi_head_attention(bias: bool, batch: int | str) -> None:
    heads, depth, value_depth = 3, 4, 5
    net = Net()
    operands = heads_before_attention(net, heads, depth, value_depth, batch)
    if bias:
        operands.append(net.vector(heads * (2 * depth + value_depth), "bias"))
    y = net.op("MultiHeadAttention", *operands, domain=DOMAIN, name="attention", num_heads=heads)
    model = net.model(net.linear(y, heads * value_depth, 2, name="o"))
    case = check_equivalence(model, {net.inputs[0].name: (1, TOKENS, WIDTH)})
    (whole,) = case.groups_of("q.weight", 1) & case.groups_of("v.weight", 1)
    assert case.groups[whole].size == heads
    assert sorted(case.groups[g].size for g in case.groups_of("v.weight", 1)) == [heads, value_depth]
    assert len(case.groups_of("q.weight", 1)) == (1 if bias else 2)
    small = check_plan(case, case.plan(**{whole: (0, 2)}))
    assert attribute(node(small, "attention"), "num_heads") == 2


def test_a_derived_scale_is_written_out_when_the_depth_shrinks() -> None:
    net = Net()
    y = net.op(
        "MultiHeadAttention", *heads_before_attention(net, 2, 4, 4), domain=DOMAIN, name="attention", num_heads=2
    )
    case = coupled(net.model(net.linear(y, 8, 2, name="o")))
    (depth,) = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    small = check_plan(case, case.plan(**{depth: (1,)}))
    assert np.isclose(attribute(node(small, "attention"), "scale"), 0.5)


@pytest.mark.parametrize("listed", [False, True])
def test_attention_with_one_matrix(listed: bool) -> None:
    """Always with a bias: onnxruntime 1.31 crashes without."""
    heads, depth = 3, 4
    value_depth = 2 if listed else depth
    sizes = [heads * depth, heads * depth, heads * value_depth]
    net = Net()
    x = net.linear(net.op("Relu", net.linear(net.input(2, TOKENS, 5), 5, 7, name="before")), 7, WIDTH, name="into")
    operands = [x, net.stored(net.random(sum(sizes), WIDTH).T.copy(), "qkv"), net.vector(sum(sizes), "bias")]
    more: dict[str, Any] = {"qkv_hidden_sizes": sizes} if listed else {}
    y = net.op("Attention", *operands, domain=DOMAIN, name="attention", num_heads=heads, **more)
    case = check_equivalence(net.model(net.linear(y, heads * value_depth, 2, name="o")))
    whole = case.group_of("qkv", 1)
    assert case.groups[whole].size == heads
    assert case.groups_of("o.weight", 0) == {whole}
    assert case.size_of("qkv", 0) == WIDTH
    small = check_plan(case, case.plan(**{whole: (1,)}))
    assert attribute(node(small, "attention"), "num_heads") == 1
    if listed:
        assert list(attribute(node(small, "attention"), "qkv_hidden_sizes")) == [depth, depth, value_depth]


@pytest.mark.parametrize("rotary", [0, 1])
def test_grouped_queries(rotary: int) -> None:
    """Four heads of queries share two of keys and values; which of each pair stays is free, and so are the pairs."""
    heads, pairs, depth = 4, 2, 16
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (net.linear(x, WIDTH, n * depth, name=name) for name, n in (("q", heads), ("k", pairs), ("v", pairs)))
    lengths = net.stored(np.array([TOKENS - 1], np.int32)), net.stored(np.array(TOKENS, np.int32))
    operands = [q, k, v, "", "", *lengths]
    if rotary:
        angles = net.rng.uniform(0, 1, (TOKENS, depth // 2)).astype(np.float32)
        operands += [net.stored(np.cos(angles)), net.stored(np.sin(angles))]
    net.nodes.append(onnx.helper.make_node(
        "GroupQueryAttention", operands, ["attended"], name="attention", domain=DOMAIN, num_heads=heads,
        kv_num_heads=pairs, do_rotary=rotary,
    ))  # fmt: skip
    net.domains[DOMAIN] = 1
    case = check_equivalence(net.model(net.linear("attended", heads * depth, 2, name="o")))
    shared = case.groups_of("k.weight", 1) & case.groups_of("v.weight", 1)
    repeats = (case.groups_of("q.weight", 1) & case.groups_of("o.weight", 0)) - shared
    assert [case.groups[g].size for g in (*shared, *repeats)] == [pairs, heads // pairs]
    assert case.groups_of("q.weight", 1) == shared | repeats
