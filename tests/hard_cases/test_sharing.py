"""Case 8: what several nodes share. Weights bind them together, equal vectors and shapes do not."""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_same_outputs, check_equivalence, check_plan, coupled, with_zeros
from onnx import TensorProto, helper
from onnx_models import Net, initializer, node

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.count import count
from graphprune.frontends.onnx.trace import trace


def test_a_weight_used_twice_ties_both_places() -> None:
    """A siamese pair: one convolution on two inputs, features compared by a product."""
    net = Net()
    weight, bias = net.weight(8, 3, 3, 3, name="twin.weight"), net.vector(8, "twin.bias")
    a, b = (net.op("Conv", net.input(1, 3, 5, 5), weight, bias, name=f"twin{k}") for k in range(2))
    heads = [net.conv(x, 8, 2, name=f"head{k}") for k, x in enumerate((a, b))]
    case = check_equivalence(net.model(*heads, net.conv(net.op("Mul", a, b), 8, 2)))
    twin = case.group_of("twin.weight", 0)
    assert case.groups[twin].size == 8
    assert case.group_of("head0.weight", 1) == case.group_of("head1.weight", 1) == twin


def test_a_block_applied_again_and_again_ties_its_input_to_its_output() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 5, 5), 3, 6, name="stem")
    weight = net.weight(6, 6, 3, 3, name="loop.weight")
    for k in range(3):
        x = net.op("Tanh", net.op("Conv", x, weight, name=f"loop{k}", pads=[1, 1, 1, 1]))
    case = check_equivalence(net.model(net.conv(x, 6, 2)))
    assert case.group_of("loop.weight", 0) == case.group_of("loop.weight", 1) == case.group_of("stem.weight", 0)


def test_an_embedding_tied_to_the_output_projection() -> None:
    """The table is looked up by rows, and multiplied transposed: its columns are the width of the stream."""
    net = Net()
    table = net.weight(11, 8, name="table")
    x = net.op("Gather", table, net.input(1, 5, name="ids", dtype=TensorProto.INT64), axis=0)
    y = net.linear(net.op("Relu", net.linear(x, 8, 12, name="up")), 12, 8, name="down")
    case = check_equivalence(net.model(net.op("MatMul", net.op("Add", x, y), net.transpose(table, 1, 0))))
    stream = case.group_of("table", 1)
    assert case.groups[stream].size == 8
    assert case.group_of("down.weight", 1) == case.group_of("up.weight", 0) == stream
    assert not case.groups_of("table", 0), "words are not removed"
    assert case.size_of("up.weight", 1) == 12


@pytest.mark.parametrize("stored", [True, False])
def test_a_shape_constant_shared_by_many_reshapes_is_copied(stored: bool) -> None:
    """One (1, -1, 8) for two branches of the same width: only the pruned branch may see another."""
    net = Net()
    image = net.input(1, 3, 4, 4)
    shape = net.ints(1, 16, 8) if stored else net.constant(np.array([1, 16, 8]))
    made = []
    for k in range(2):
        tokens = net.op(
            "Reshape", net.transpose(net.conv(image, 3, 8, name=f"conv{k}"), 0, 2, 3, 1), shape, name=f"r{k}"
        )
        made.append(net.linear(tokens, 8, 2, name=f"head{k}"))
    case = check_equivalence(net.model(*made))
    small = check_plan(case, case.plan(conv1=(0, 3, 5)))
    assert node(small, "r0").input[1] == shape
    assert initializer(small, shape).tolist() == [1, 16, 8]
    assert initializer(small, node(small, "r1").input[1]).tolist() == [1, 16, 3]


def test_a_shape_constant_whose_users_all_want_the_same_is_edited_in_place() -> None:
    net = Net()
    shape = net.ints(1, 8, 16, name="shape")
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="conv")
    a, b = (net.op("Reshape", net.op(op, x), shape) for op in ("Relu", "Tanh"))
    y = net.op("MatMul", net.transpose(net.op("Add", a, b), 0, 2, 1), net.weight(8, 2))
    case = coupled(net.model(y))
    small = check_plan(case, case.plan(conv=(0, 7)))
    assert [t.name for t in small.graph.initializer] == [t.name for t in case.model.graph.initializer]
    assert initializer(small, "shape").tolist() == [1, 2, 16]


def test_equal_bias_vectors_of_unrelated_layers_do_not_couple_them() -> None:
    """Exporters merge equal tensors: zeros as the bias of two layers."""
    net = Net()
    zeros = net.stored(np.zeros(6, np.float32), "zeros")
    x = net.input(1, 3, 5, 5)
    a = net.op("Conv", x, net.weight(6, 3, 3, 3, name="a.weight"), zeros, name="a")
    b = net.op("Conv", x, net.weight(6, 3, 3, 3, name="b.weight"), zeros, name="b")
    case = check_equivalence(net.model(net.conv(a, 6, 2), net.conv(b, 6, 2)))
    assert case.group_of("a.weight", 0) != case.group_of("b.weight", 0)
    small = check_plan(case, case.plan(a=(0, 1), b=(2, 3, 4)))
    assert {node(small, n).input[2] for n in "ab"} != {"zeros"}
    assert initializer(small, node(small, "a").input[2]).shape == (2,)
    assert initializer(small, node(small, "b").input[2]).shape == (3,)


def test_batch_norms_that_share_all_their_statistics() -> None:
    net = Net()
    ones, zeros = net.stored(np.ones(6, np.float32)), net.stored(np.zeros(6, np.float32))
    x, made = net.input(1, 3, 5, 5), []
    for k in range(3):
        y = net.op("BatchNormalization", net.conv(x, 3, 6, name=f"c{k}"), ones, zeros, zeros, ones, name=f"bn{k}")
        made.append(net.conv(y, 6, 2))
    case = check_equivalence(net.model(*made))
    assert [g.size for g in case.groups.values()] == [6, 6, 6]
    small = rewrite(case.graph, case.plan(c0=(1,), c1=(2, 3)), case.groups)
    shapes = [initializer(small, node(small, f"bn{k}").input[1]).shape for k in range(3)]
    assert shapes == [(1,), (2,), (6,)]
    per_channel = 3 + 1 + 4 + 2  # kernel, bias, norm, next kernel
    distinct = 1 + 2 + 6  # ones and zeros are stored once for each width: two vectors instead of four
    assert count(trace(small))["params"] == (1 + 2 + 6) * per_channel + 3 * 2 - 2 * distinct


def test_a_vector_shared_with_the_body_of_an_if_is_copied_before_it_is_cut() -> None:
    net = Net()
    shared = net.vector(6, "shared")
    x = net.op("Conv", net.input(1, 3, 4, 4), net.weight(6, 3, 1, 1, name="conv.weight"), shared, name="conv")
    head = net.conv(x, 6, 2, name="head")
    body = helper.make_graph(
        [helper.make_node("ReduceSum", ["shared"], ["total"])],
        "body",
        [],
        [helper.make_tensor_value_info("total", 1, None)],
    )
    condition = net.input(name="condition", dtype=TensorProto.BOOL)
    net.nodes.append(helper.make_node("If", [condition], ["sum"], name="if", then_branch=body, else_branch=body))
    model = net.model(head, "sum")
    case = coupled(model)
    plan = case.plan(conv=(1, 4))
    small = rewrite(case.graph, plan, case.groups)
    assert initializer(small, "shared").shape == (6,)
    assert initializer(small, node(small, "conv").input[2]).shape == (2,)
    reference = with_zeros(model, {"head.weight": {1: [1, 4]}})
    rng = np.random.default_rng(0)
    data = {i.name: rng.standard_normal((1, 3, 4, 4)).astype(np.float32) for i in model.graph.input[:1]}
    assert_same_outputs(small, reference, data | {"condition": np.array(True)})


def test_a_shape_that_is_also_an_output_keeps_its_value_there() -> None:
    net = Net()
    shape = net.ints(1, 8, 16, name="shape")
    x = net.op("Reshape", net.conv(net.input(1, 3, 4, 4), 3, 8, name="conv"), shape)
    y = net.op("MatMul", net.transpose(x, 0, 2, 1), net.weight(8, 2))
    model = net.model(y, "shape", shape=TensorProto.INT64)
    case = coupled(model)
    if len(case.groups):
        check_plan(case, case.plan(conv=(0, 5)), costs=False)
