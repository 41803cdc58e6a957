"""Consumers as matrices: columns as the operators themselves read them, weights there and back, biases, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import Net
from statistics_nets import KINDS, residual, traced

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.runtime import session
from graphprune.statistics import Settings, collect, consumer_in, consumers_of, unseen
from graphprune.verification.watching import with_outputs


@pytest.mark.parametrize("name", KINDS)
def test_moments_are_those_of_what_the_operator_reads(name: str) -> None:
    kind = KINDS[name]
    graph, groups, consumers = traced(kind.model())
    x, consumer = kind.data(5), consumers["out"]
    found = collect(graph, groups, {"x": x}, Settings(rows=None)).of(consumer)
    columns = kind.columns(x)
    assert found.rows == len(columns)
    assert found.mean == pytest.approx(columns.mean(axis=0), abs=1e-6)
    by_block = columns.reshape(len(columns), consumer.blocks, -1)
    wanted = np.einsum("nbi,nbj->bij", by_block, by_block) / len(columns)
    assert found.second == pytest.approx(wanted, abs=3e-6)
    assert found.covariance == pytest.approx(
        np.stack([np.cov(b.T, bias=True) for b in by_block.swapaxes(0, 1)]), abs=3e-6
    )
    assert found.variance == pytest.approx(columns.var(axis=0), abs=3e-6)


@pytest.mark.parametrize("name", KINDS)
def test_matrices_times_columns_are_the_outputs_and_go_back(name: str) -> None:
    kind = KINDS[name]
    model = kind.model()
    graph, _, consumers = traced(model)
    x, consumer = kind.data(3), consumers["out"]
    columns = kind.columns(x).reshape(-1, consumer.blocks, consumer.width)
    made = np.einsum("nbw,bow->nbo", columns, consumer.stacked())
    assert made.reshape(len(columns), -1) == pytest.approx(kind.outputs(model, x), abs=1e-5)
    other = 2 * consumer.matrix() + 0.5
    changed = kind.model(consumer.stored_with(other, None)["w"])
    wanted = np.einsum("nbw,bow->nbo", columns, other.reshape(consumer.stacked().shape)).reshape(len(columns), -1)
    assert kind.outputs(changed, x) == pytest.approx(wanted, abs=1e-4)
    assert graph.parameter("w").dtype == consumer.stored_with(other, None)["w"].dtype


@pytest.mark.parametrize("name", ["padded", "grouped", "transposed in groups", "left", "flattened"])
def test_cutting_is_removing_what_positions_bring(name: str) -> None:
    kind = KINDS[name]
    _, _, consumers = traced(kind.model())
    x, consumer = kind.data(3), consumers["out"]
    left = np.arange(0, consumer.columns // consumer.area, 2)
    columns = np.zeros_like(kind.columns(x))
    columns[:, consumer.columns_at(left)] = kind.columns(x)[:, consumer.columns_at(left)]
    by_block = columns.reshape(len(columns), consumer.blocks, -1)
    wanted = np.einsum("nbw,bow->nbo", by_block, consumer.stacked()).reshape(len(columns), -1)
    cut = kind.model(consumer.cut(left).astype(np.float32))
    assert kind.outputs(cut, x) == pytest.approx(wanted, abs=1e-5)


def test_units_own_the_columns_of_their_positions() -> None:
    model, _ = residual()
    _, groups, consumers = traced(model)
    ids = [g.id for g in groups.groups]
    d = consumers["d"]
    number, _, _ = groups.layout.carried(d.dim).parts[0]
    columns, units = d.unit_columns(groups.layout, number)
    assert columns.tolist() == list(range(96))
    assert units.tolist() == [k // 16 for k in range(96)]  # 6 channels of 4 x 4 positions
    c = consumers["c"]
    owned = [c.unit_columns(groups.layout, k) for k in range(len(ids))]
    assert sorted(np.concatenate([columns for columns, _ in owned]).tolist()) == list(range(90))
    assert sum(len(columns) == 54 for columns, _ in owned) == 1  # left's 6 channels of 9 taps


def heads() -> Net:
    """Attention spelled out: queries, keys and values of one input, and the projection of what comes out."""
    net = Net(seed=4)
    x = net.linear(net.input("n", 5, 8, name="x"), 8, 8, name="first")
    q, k, v = (net.reshape(net.linear(x, 8, 12, name=name), 0, 5, 3, 4) for name in "qkv")
    scores = net.op("MatMul", net.transpose(q, 0, 2, 1, 3), net.transpose(k, 0, 2, 3, 1))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), net.transpose(v, 0, 2, 1, 3))
    net.linear(net.reshape(net.transpose(mixed, 0, 2, 1, 3), 0, 5, 12), 12, 8, name="out")
    return net


def test_attention_projections_have_columns_by_head_and_depth() -> None:
    model = heads().model("out.add")
    graph, groups, consumers = traced(model)
    out, kinds = consumers["out"], {g.kind: k for k, g in enumerate(groups.groups)}
    columns, owner = out.unit_columns(groups.layout, kinds["head"])
    assert (columns.tolist(), owner.tolist()) == (list(range(12)), [0] * 4 + [1] * 4 + [2] * 4)
    assert len({consumers[name].key for name in "qkv"}) == 1
    found = collect(graph, groups, {"x": KINDS["right"].data(4)[:, :, :1].repeat(8, axis=2)}, Settings(rows=None))
    assert len(found.moments) == 2  # one for queries, keys and values, one for the projection
    others = unseen(graph, groups)
    assert {u.reason for u in others} == {"what it multiplies is computed from the input, not stored"}
    assert all(groups[name].kind.startswith("head") for u in others for name in u.groups)


def test_one_matrix_for_queries_keys_and_values() -> None:
    net = Net(seed=4)
    x = net.linear(net.input("n", 5, 8, name="x"), 8, 6, name="first")
    q, k, v = net.ops("Split", net.linear(net.op("Relu", x), 6, 36, name="qkv"), outputs=3, axis=-1, num_outputs=3)
    scores = net.op("MatMul", q, net.transpose(k, 0, 2, 1))
    net.opset = 18
    made = net.linear(net.op("MatMul", net.op("Softmax", scores, axis=-1), v), 12, 8, name="out")
    graph, groups, consumers = traced(net.model(made))
    data = np.random.default_rng(0).standard_normal((4, 5, 8)).astype(np.float32)
    assert consumers["qkv"].matrix().shape == (36, 6)
    assert collect(graph, groups, {"x": data}).of(consumers["qkv"]).rows == 20


@pytest.mark.parametrize("biased", [True, False])
def test_attention_that_projects_its_input_itself(biased: bool) -> None:
    net = Net(seed=4)
    h = net.op("Relu", net.linear(net.input("n", 5, 8, name="x"), 8, 6, name="first"))
    more = [net.vector(36, "b")] if biased else []
    y = net.op("Attention", h, net.weight(6, 36, name="w"), *more, name="out", domain="com.microsoft", num_heads=3)
    info = helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", 5, 12])
    made = helper.make_graph(net.nodes, "net", net.inputs, [info], net.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph, groups, consumers = traced(helper.make_model(made, opset_imports=opsets, ir_version=8))
    out = consumers["out"]
    assert out.matrix() == pytest.approx(graph.parameter("w").T)
    assert (out.bias is not None) == biased
    if not biased:  # onnxruntime 1.31 crashes on these
        return
    data = np.random.default_rng(0).standard_normal((4, 5, 8)).astype(np.float32)
    kept = collect(graph, groups, {"x": data}, Settings(rows=None), targets=True).targets
    assert kept is not None
    hidden = np.maximum(data @ graph.parameter("first.weight") + graph.parameter("first.bias"), 0).reshape(-1, 6)
    assert kept.of(out) == pytest.approx(hidden @ graph.parameter("w"), abs=1e-5)


@pytest.mark.parametrize(
    "how", ["vector", "row", "third operand", "channels", "scaled", "shared", "of an axis of rows"]
)
def test_a_bias_is_what_is_added_to_every_output_alone(how: str) -> None:
    net = Net(seed=5)
    convolves = how == "channels"
    x = net.input("n", 6, 4, 4, name="x") if convolves else net.input("n", 6, name="x")
    h = net.op("Relu", net.conv(x, 6, 6, 1, name="in") if convolves else net.gemm(x, 6, 6, "in"))
    shape = {"row": (1, 3), "channels": (3, 1, 1), "of an axis of rows": (7, 1)}.get(how, (3,))
    bias = net.stored(np.linspace(1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape), "bias")
    if how == "third operand" or how == "scaled":
        alpha = 2.0 if how == "scaled" else 1.0
        y = net.op("Gemm", h, net.weight(6, 3, name="w"), bias, name="out", alpha=alpha)
    elif convolves:
        y = net.op("Add", net.conv(h, 6, 3, 1, bias=False, name="out"), bias)
    else:
        y = net.op("Add", net.op("MatMul", h, net.weight(6, 3, name="w"), name="out"), bias)
    y = net.op("Mul", y, bias) if how == "shared" else y
    graph, _, consumers = traced(net.model(y))
    found = consumers["out"].bias
    if how in ("scaled", "shared", "of an axis of rows"):
        assert found is None
        return
    assert found is not None
    assert found.parameter == "bias"
    moved = consumers["out"].stored_with(consumers["out"].matrix(), np.array([1.0, 2.0, 3.0]))["bias"]
    assert (moved - graph.parameter("bias")).ravel() == pytest.approx([1, 2, 3])


def test_a_shared_weight_is_read_but_not_changed() -> None:
    net = Net(seed=6)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5, "in"))
    other = net.op("Relu", net.gemm("x", 6, 5, "in2"))
    w = net.weight(5, 3, name="w")
    graph, groups, consumers = traced(
        net.model(net.op("MatMul", h, w, name="one"), net.op("MatMul", other, w, name="two"))
    )
    assert consumers["one"].refusal == "its weight is shared with another operator"
    with pytest.raises(UsageError, match="shared"):
        consumers["one"].stored_with(consumers["one"].matrix(), None)
    assert len(collect(graph, groups, {"x": KINDS["turned"].data(4)}).moments) == 2


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantised_weights_are_read_dequantised_and_refused(axis: int | None) -> None:
    net = Net(seed=7)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5, "in"))
    codes = np.random.default_rng(1).integers(-99, 99, (5, 3)).astype(np.int8)
    count = 1 if axis is None else codes.shape[axis]
    scale, zero = np.linspace(0.01, 0.05, count, dtype=np.float32), np.arange(count, dtype=np.int8)
    steps = [net.stored(v if axis is not None else v.reshape(())) for v in (scale, zero)]
    w = net.op("DequantizeLinear", net.stored(codes, "codes"), *steps, **({} if axis is None else {"axis": axis}))
    model = net.model(net.op("MatMul", h, net.transpose(net.transpose(w, 1, 0), 1, 0), name="out"))
    graph, _, consumers = traced(model)
    found = consumers["out"]
    assert (found.refusal, found.parameter) == ("its weight is quantised", "codes")
    value = session(with_outputs(model, (w,))).run([w], {"x": np.zeros((1, 6), np.float32)})[0]
    assert found.matrix() == pytest.approx(value.T, abs=1e-6)
    again = consumer_in(graph, found)
    assert again is not None
    assert again.node == found.node


def test_half_precision_and_what_is_summed_inside() -> None:
    net = Net(seed=8)
    x = net.op("Cast", net.input("n", 6, name="x"), to=TensorProto.FLOAT16)
    h = net.op("MatMul", x, net.stored(net.random(6, 5).astype(np.float16)), name="in")
    w = net.stored(net.random(5, 3).astype(np.float16), "w")
    y = net.op("Cast", net.op("MatMul", h, w, name="out"), to=TensorProto.FLOAT)
    graph, groups, consumers = traced(net.model(y))
    assert consumers["out"].stored_with(consumers["out"].matrix(), None)["w"].dtype == np.float16
    assert collect(graph, groups, {"x": KINDS["turned"].data(9)}).of(consumers["out"]).rows == 9


def test_the_same_consumer_in_the_rewritten_model() -> None:
    model, _ = residual()
    graph, groups, consumers = traced(model)
    keep = {g.id: tuple(range(0, g.size, 2)) for g in groups.groups}
    plan = gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    small = gp.trace(gp.rewrite(graph, plan, groups))
    for name, consumer in consumers.items():
        found = consumer_in(small, consumer)
        assert found is not None
        assert small.nodes[found.node].name == name
        assert (found.dim, found.out_dim, found.area) == (consumer.dim, consumer.out_dim, consumer.area)
        assert found.columns in (consumer.columns, consumer.columns // 2)
    assert consumer_in(gp.trace(KINDS["left"].model()), consumers["a"]) is None


def test_every_consumer_once_in_graph_order() -> None:
    graph, groups, consumers = traced(residual()[0])
    assert [graph.nodes[c.node].name for c in consumers_of(graph, groups)] == list(consumers)
    assert set(consumers) == {"a", "b", "left", "right", "c", "d", "e"}
    assert all(not c.refusal and c.bias is not None for c in consumers.values())


def test_inside_a_branch_nothing_can_be_seen() -> None:
    net, inner = Net(seed=2), Net(seed=3)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5, "in"))
    bodies = []
    for name in ("then", "else"):
        body = Net(seed=3)
        out = body.op("Relu", body.op("MatMul", h, body.stored(inner.random(5, 4), f"{name}.w"), name=f"{name}.mm"))
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        bodies.append(helper.make_graph(body.nodes, name, [], [info], body.initializers))
    flag = net.op("Greater", net.op("ReduceSum", "x", keepdims=0), net.scalar(0.0))
    y = net.op("If", flag, then_branch=bodies[0], else_branch=bodies[1], name="if")
    net.gemm(y, 4, 3, "out")
    net.opset = 17
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])]
    made = helper.make_graph(net.nodes, "net", net.inputs, outputs, net.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph = gp.trace(model)
    groups = gp.couple(graph)
    assert {graph.nodes[c.node].name for c in consumers_of(graph, groups)} <= {"out"}
    reasons = {u.reason for u in unseen(graph, groups)}
    assert reasons <= {"it is inside a branch or a loop"}
    found = collect(graph, groups, {"x": KINDS["turned"].data(12)})
    assert found.samples == 12
    assert reasons or not groups.groups


def test_a_product_of_stored_tensors_reads_nothing() -> None:
    net = Net(seed=2)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5, "in"))
    fixed = net.op("MatMul", net.weight(1, 6), net.weight(6, 5), name="fixed")
    graph, groups, consumers = traced(net.model(net.gemm(net.op("Add", h, fixed), 5, 3, "out")))
    assert set(consumers) == {"out"}
    assert {u.reason for u in unseen(graph, groups)} <= {"what it sums over does not depend on the input"}
