"""Case 17 and 6: embeddings, rotary positions, caches and lookups as operators of onnxruntime and of opset 23."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from attention_nets import TOKENS, WIDTH
from checks import Coupled, check_equivalence, check_plan, coupled, kept_indices, make_plan
from onnx import TensorProto
from onnx_models import Net, attribute, initializer

import graphprune as gp
from graphprune.verification.verify import verify

DOMAIN = "com.microsoft"
WORDS = 11


def embedded(net: Net, batch: int | str, length: int | str, *, segments: bool, mask: bool, total: bool) -> list[str]:
    """EmbedLayerNormalization, and a feed-forward block on top; returns what it gives."""
    ids = net.input(batch, length, name="ids", dtype=TensorProto.INT32)
    kinds = net.input(batch, length, name="kinds", dtype=TensorProto.INT32) if segments else ""
    seen = net.input(batch, length, name="seen", dtype=TensorProto.INT32) if mask else ""
    tables = [net.weight(n, WIDTH, name=name) for n, name in ((WORDS, "words"), (9, "places"))]
    tables.append(net.weight(WORDS, WIDTH, name="segments") if segments else "")
    operands = [ids, kinds, *tables, net.vector(WIDTH, "gamma", 0.5, 1.5), net.vector(WIDTH, "beta"), seen]
    made = ["embedded", "counts", "stream"] if total else ["embedded", "counts"]
    net.nodes.append(onnx.helper.make_node(
        "EmbedLayerNormalization", operands, made, name="embed", domain=DOMAIN, epsilon=1e-6
    ))  # fmt: skip
    net.domains[DOMAIN] = 1
    return made


@pytest.mark.parametrize(
    ("segments", "mask", "total"), [(True, True, True), (False, False, False), (True, False, True)]
)
def test_embeddings_that_are_normalised(segments: bool, mask: bool, total: bool) -> None:
    net = Net()
    embed, counts, *stream = embedded(net, "n", "t", segments=segments, mask=mask, total=total)
    y = net.linear(net.op("Relu", net.linear(embed, WIDTH, 7, name="up")), 7, WIDTH, name="down")
    y = net.op("Add", y, stream[0]) if stream else y
    model = net.model(net.linear(y, WIDTH, 2, name="head"), counts, counts=TensorProto.INT32)
    names = ["ids", *["kinds"] * segments, *["seen"] * mask]
    sizes, others = dict.fromkeys(names, (2, TOKENS)), [dict.fromkeys(names, (3, 2))]
    case = check_equivalence(model, sizes, others=others)
    assert case.size_of("up.weight", 1) == 7
    assert case.why_frozen("words", 0) == "EmbedLayerNormalization looks this axis up by index"
    assert "takes statistics" in case.why_frozen("words", 1)
    wide = coupled(model, sizes, allow_inexact=True)
    (hidden,) = wide.groups_of("words", 1)
    assert wide.groups_of("gamma", 0) == wide.groups_of("up.weight", 0) == {hidden}
    assert wide.groups[hidden].kind == "hidden"
    check_inexact(wide)


def check_inexact(case: Coupled) -> None:
    """The pruned model against the masked one whose statistics are those of what is kept."""
    for seed, kind in enumerate(("random", "one-removed", "random")):
        plan = make_plan(case.groups, kind, np.random.default_rng(seed))
        found = verify(case.graph, case.groups, plan, gp.rewrite(case.graph, plan, case.groups))
        assert found.max_rel < 1e-5
        assert not found.exact


def test_the_hidden_dimension_through_sums_that_are_normalised() -> None:
    """SkipLayerNormalization gives the normalised sum and the sum itself, which goes on as the residual stream."""
    net = Net()
    x = net.op("MatMul", net.input(1, TOKENS, 5), net.stored(net.random(5, WIDTH), "stem"))
    for k in range(2):
        y = net.linear(net.op("Relu", net.linear(x, WIDTH, 7, name=f"up{k}")), 7, WIDTH, name=f"down{k}")
        vectors = [net.vector(WIDTH, f"v{k}{n}", 0.5, 1.5) for n in range(2)]
        made = [f"normed{k}", "", "", f"stream{k}"]
        net.nodes.append(
            onnx.helper.make_node("SkipLayerNormalization", [y, x, *vectors], made, name=f"norm{k}", domain=DOMAIN)
        )
        net.domains[DOMAIN] = 1
        x = net.op("Add", net.linear(made[0], WIDTH, WIDTH, name=f"mix{k}"), made[3])
    case = coupled(net.model(net.linear(x, WIDTH, 2, name="head")), allow_inexact=True)
    assert case.groups[case.group_of("stem", 1)].kind == "hidden"
    check_inexact(case)


# Rotary positions -----------------------------------------------------------------------------------------------------


def angles(net: Net, rows: int, pairs: int) -> tuple[str, str]:
    made = net.rng.uniform(0, 1, (rows, pairs)).astype(np.float32)
    return net.stored(np.cos(made), "cos"), net.stored(np.sin(made), "sin")


def turned(net: Net, x: str, *, standard: bool, **attrs: Any) -> str:
    """Turn (batch, tokens, heads * depth) or (batch, heads, tokens, depth)."""
    places = net.stored(np.arange(TOKENS)[None])
    operands = [x, "cos", "sin", places] if standard else [x, places, "cos", "sin"]
    return net.op("RotaryEmbedding", *operands, domain="" if standard else DOMAIN, **attrs)


def rotary_net(*, standard: bool, folded: bool, heads: int, depth: int, size: int, **attrs: Any) -> onnx.ModelProto:
    """Rotated queries against rotated keys, summed per head, and values that are not rotated."""
    net = Net(opset=23)
    x = net.input(1, TOKENS, WIDTH, name="x")
    angles(net, TOKENS, size // 2)
    more = {**attrs, **({"num_heads": heads} if folded else {})}
    parts = []
    for name in "qkv":
        y = net.linear(x, WIDTH, heads * depth, name=name)
        if name != "v" and folded:
            y = turned(net, y, standard=standard, **more)
        y = net.transpose(net.reshape(y, 1, TOKENS, heads, depth), 0, 2, 1, 3)
        parts.append(turned(net, y, standard=standard, **more) if name != "v" and not folded else y)
    scores = net.op("Softmax", net.op("MatMul", parts[0], net.transpose(parts[1], 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, parts[2]), 0, 2, 1, 3), 1, TOKENS, heads * depth)
    return net.model(net.linear(y, heads * depth, 2, name="o"))


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("standard", [False, True])
def test_rotary_embeddings_keep_pairs(standard: bool, folded: bool, interleaved: int) -> None:
    heads, depth = 3, 8
    model = rotary_net(standard=standard, folded=folded, heads=heads, depth=depth, size=depth, interleaved=interleaved)
    case = check_equivalence(model)
    (pairs,) = case.groups_of("cos", 1)
    assert case.groups[pairs].size == depth // 2
    assert case.groups[pairs].kind == "head-dim"
    (whole,) = case.groups_of("q.weight", 1) & case.groups_of("v.weight", 1)
    assert (case.groups[whole].kind, case.groups[whole].size) == ("head", heads)
    plan = case.plan(**{pairs: (1, 3), whole: (0, 2)})
    small = check_plan(case, plan)
    one = [2, 3, 6, 7] if interleaved else [1, 3, 5, 7]
    assert kept_indices(case, plan, "k.weight", 1).tolist() == [*one, *(16 + n for n in one)]
    assert initializer(small, "cos").shape == (TOKENS, 2)
    if folded:
        assert {attribute(n, "num_heads") for n in small.graph.node if n.op_type == "RotaryEmbedding"} == {2}


@pytest.mark.parametrize("standard", [False, True])
def test_a_rotary_embedding_of_a_part_of_every_head(standard: bool) -> None:
    model = rotary_net(standard=standard, folded=True, heads=2, depth=8, size=4, rotary_embedding_dim=4)
    case = check_equivalence(model)
    (pairs,) = case.groups_of("cos", 1)
    assert case.groups[pairs].size == 2
    rest = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1) - {pairs}
    assert [case.groups[g].size for g in rest] == [4]
    small = check_plan(case, case.plan(**{pairs: (1,)}))
    sizes = {attribute(n, "rotary_embedding_dim") for n in small.graph.node if n.op_type == "RotaryEmbedding"}
    assert sizes == {2}


# Caches ---------------------------------------------------------------------------------------------------------------


def test_attention_of_one_matrix_with_a_cache_keeps_its_heads() -> None:
    """The rest of the block is free: what feeds the matrix, and what follows."""
    heads, depth = 2, 4
    net = Net()
    x = net.linear(net.op("Relu", net.linear(net.input(1, 1, 5, name="x"), 5, 7, name="before")), 7, WIDTH, name="into")
    past = net.input(2, 1, heads, "past", depth, name="past")
    weight = net.stored(net.random(3 * heads * depth, WIDTH).T.copy(), "qkv")
    operands = [x, weight, net.vector(3 * heads * depth, "bias"), "", past]
    made = ["attended", "present"]
    net.nodes.append(onnx.helper.make_node(
        "Attention", operands, made, name="attention", domain=DOMAIN, num_heads=heads, unidirectional=1
    ))  # fmt: skip
    net.domains[DOMAIN] = 1
    model = net.model(net.linear("attended", heads * depth, 2, name="o"), "present")
    sizes, others = {"past": (2, 1, heads, 3, depth)}, [{"x": (1, 1, 5), "past": (2, 1, heads, 6, depth)}]
    case = check_equivalence(model, sizes, others=others)
    assert case.size_of("before.weight", 1) == 7
    assert case.size_of("into.weight", 1) == WIDTH
    assert case.why_frozen("qkv", 1) == "cache of Attention"
    scores = 2 * heads * depth * 1 * 4
    assert case.groups.costs.full["macs"] == 5 * 7 + 7 * WIDTH + 3 * heads * depth * WIDTH + scores + 8 * 2


def test_attention_of_one_position_to_a_cache_is_left_alone() -> None:
    heads, depth = 2, 8
    net = Net()
    x = net.input(1, 1, WIDTH, name="x")
    q, k, v = (net.linear(x, WIDTH, heads * depth, name=name) for name in "qkv")
    pasts = [net.input(1, heads, 3, depth, name=f"past_{name}") for name in "kv"]
    made = ["attended", "present_k", "present_v"]
    count = net.stored(np.array([2], np.int32))
    net.nodes.append(onnx.helper.make_node(
        "DecoderMaskedMultiHeadAttention", [q, k, v, "", "", *pasts, count], made, name="attention", domain=DOMAIN,
        num_heads=heads, past_present_share_buffer=1,
    ))  # fmt: skip
    net.domains[DOMAIN] = 1
    y = net.linear(net.op("Relu", net.linear("attended", heads * depth, 7, name="up")), 7, 2, name="down")
    case = check_equivalence(net.model(y, *made[1:]))
    assert [g.id for g in case.groups.values()] == ["up"]
    assert "cache" in case.why_frozen("q.weight", 1)
    assert case.groups.costs.full["macs"] == 3 * WIDTH * 16 + 2 * 16 * 3 + 16 * 7 + 7 * 2


@pytest.mark.parametrize("op", ["BiasSplitGelu", "GroupNorm", "PackedMultiHeadAttention"])
def test_what_runs_on_gpus_only_says_so(op: str) -> None:
    """Shapes are followed through it; nothing is run."""
    net = Net()
    net.linear(net.input(TOKENS, 5, name="x"), 5, 8, name="in")
    net.vector(8, "b")
    operands = {"BiasSplitGelu": ["in.add", "b"], "GroupNorm": ["in.add", "b", "b"]}.get(op, ["in.add"] * 3)
    y = net.op(op, *operands, domain=DOMAIN, name="fused", **({"num_heads": 2} if op.startswith("Packed") else {}))
    net.linear(net.op("Relu", net.linear(y, 4 if op == "BiasSplitGelu" else 8, 7, name="up")), 7, 2, name="down")
    out = onnx.helper.make_tensor_value_info("down.add", TensorProto.FLOAT, [TOKENS, 2])
    graph = onnx.helper.make_graph(net.nodes, "net", net.inputs, [out], net.initializers)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]
    case = coupled(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    assert case.size_of("up.weight", 1) == 7
    assert case.why_frozen("in.weight", 1) == f"{op} runs on GPUs only, where nothing is checked"


# Looking up and writing by indices ------------------------------------------------------------------------------------


def test_elements_looked_up_by_position_leave_the_other_axes_free() -> None:
    """As in DeBERTa: relative positions pick among the scores of every head."""
    net = Net()
    x = net.op("Relu", net.linear(net.input(1, TOKENS, 5), 5, 7, name="in"))
    index = net.stored(net.rng.integers(-TOKENS, TOKENS, (1, 3, 7)))
    y = net.op("GatherElements", x, index, axis=1)
    case = check_equivalence(net.model(net.linear(y, 7, 2, name="out")))
    assert case.groups_of("in.weight", 1) == case.groups_of("out.weight", 0)


def test_elements_of_a_part_of_an_axis_stay() -> None:
    net = Net()
    x = net.op("Relu", net.linear(net.input(1, TOKENS, 5), 5, 7, name="in"))
    y = net.op("GatherElements", x, net.stored(net.rng.integers(0, TOKENS, (1, 3, 4))), axis=1)
    case = coupled(net.model(net.linear(y, 4, 2, name="out")))
    assert case.why_frozen("in.weight", 1) == "GatherElements covers a part of this axis"


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_tuples_looked_up_leave_the_other_axes_free(batch_dims: int) -> None:
    """As in CLIP: the state of the last word of every sentence."""
    net = Net()
    x = net.op("Relu", net.linear(net.input(2, TOKENS, 5), 5, 7, name="in"))
    index = np.array([[2], [0]]) if batch_dims else np.array([[0, 2], [1, 0], [1, 4]])
    y = net.op("GatherND", x, net.stored(index), batch_dims=batch_dims)
    case = check_equivalence(net.model(net.linear(y, 7, 2, name="out")))
    assert case.size_of("out.weight", 0) == 7


def test_stored_tuples_of_one_axis_take_their_rows_along() -> None:
    """As exporters spell x[..., [-2], :] for the one key and value that all heads share (multi-query attention)."""
    net = Net()
    x = net.linear(net.input(1, TOKENS, WIDTH, name="x"), WIDTH, 5 * 3, name="qkv")
    x = net.transpose(net.reshape(x, 1, TOKENS, 5, 3), 2, 0, 1, 3)
    q = net.op("GatherND", x, net.stored(np.array([[2], [0], [1]])), name="queries")
    k = net.op("GatherND", x, net.stored(np.array([[-2]])), name="key")
    y = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(y, 1, 2, 0, 3), 1, TOKENS, -1)
    case = check_equivalence(net.model(net.linear(y, 3 * TOKENS, 2, name="o")))
    heads = case.groups_of("qkv.weight", 1) & case.groups_of("o.weight", 0)
    assert [(case.groups[g].kind, case.groups[g].size) for g in heads] == [("head", 3)]
    plan = case.plan(**{next(iter(heads)): (0, 2)})
    assert kept_indices(case, plan, "qkv.weight", 1).tolist() == [0, 1, 2, *range(6, 15)]


def test_writing_rows_leaves_their_entries_free() -> None:
    net = Net()
    x, y = (net.linear(net.input(1, n, 5), 5, 7, name=name) for n, name in ((TOKENS, "x"), (2, "y")))
    z = net.op("ScatterND", x, net.stored(np.array([[[0, 3], [0, 1]]])), y, reduction="none")
    rows = net.stored(np.broadcast_to(np.array([4, 2])[None, :, None], (1, 2, 7)).copy(), "rows")
    z = net.op("ScatterElements", z, rows, y, axis=1, reduction="add")
    case = check_equivalence(net.model(net.linear(net.op("Relu", z), 7, 2, name="out")))
    assert case.groups_of("x.weight", 1) == case.groups_of("y.weight", 1) == case.groups_of("out.weight", 0)


def test_what_writes_is_not_removed() -> None:
    """Without its write, a row would keep what it held."""
    net = Net()
    base = net.input(1, TOKENS, 7)
    wide = net.linear(net.op("Relu", net.linear(net.input(1, 2, 5), 5, 7, name="y")), 7, 3, name="written")
    updates = net.transpose(wide, 0, 2, 1)
    rows = net.stored(np.broadcast_to(np.array([4, 2, 0])[None, :, None], (1, 3, 2)).copy())
    z = net.op("ScatterElements", base, rows, updates, axis=1)
    case = check_equivalence(net.model(net.linear(z, 7, 2, name="out")))
    assert "is written somewhere" in case.why_frozen("written.weight", 1)


@pytest.mark.parametrize("spelled", [False, True])
def test_a_shape_taken_apart_by_split(spelled: bool) -> None:
    """As onnxruntime writes it for several Gathers of one shape; keys are repeated for the queries that share them."""
    net = Net()
    x = net.input("n", "t", WIDTH, name="x")
    q, k = (net.transpose(net.op("Reshape", net.linear(x, WIDTH, h * 4, name=n), net.ints(0, 0, h, 4)), 0, 2, 1, 3)
            for n, h in (("q", 4), ("k", 2)))  # fmt: skip
    sizes = [net.ints(1, 1, 1, 1)] if spelled else []
    b, h, t, d = net.ops("Split", net.op("Shape", k), *sizes, outputs=4, axis=0, name="sizes")
    wide = net.op("Concat", b, h, net.ints(2), t, d, axis=0)
    whole = net.op("Concat", b, net.op("Mul", h, net.ints(2)), t, d, axis=0)
    k = net.op("Reshape", net.op("Expand", net.op("Unsqueeze", k, net.ints(2)), wide), whole)
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.op("Reshape", net.transpose(net.op("MatMul", scores, k), 0, 2, 1, 3), net.ints(0, 0, 16))
    model = net.model(net.linear(y, 16, 2, name="o"))
    case = check_equivalence(model, {"x": (1, 5, WIDTH)}, others=[{"x": (3, 2, WIDTH)}])
    pairs = case.groups_of("k.weight", 1)
    assert sorted(case.groups[g].size for g in pairs) == [2, 4]
    assert sorted(case.groups[g].size for g in case.groups_of("q.weight", 1)) == [2, 2, 4]
