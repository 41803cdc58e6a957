"""Models nobody listed: corners where a rule that holds for the usual network would give a wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from attention_nets import TOKENS, WIDTH, attend, output
from checks import check_equivalence, check_plan, coupled
from onnx import TensorProto, numpy_helper
from onnx_models import Net, initializer, ops_of

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.verification.verify import verify


def test_queries_keys_and_values_packed_inside_every_head() -> None:
    """GPT-NeoX: (heads, 3 d), split within the head."""
    net = Net()
    x = net.linear(net.input(1, TOKENS, WIDTH), WIDTH, 3 * 12, name="qkv")
    x = net.transpose(net.reshape(x, 1, TOKENS, 3, 12), 0, 2, 1, 3)
    q, k, v = net.ops("Split", x, net.ints(4, 4, 4), outputs=3, axis=-1)
    case = check_equivalence(net.model(output(net, attend(net, q, k, v), 3, 4)))
    assert sorted(case.groups[g].size for g in case.groups_of("qkv.weight", 1)) == [3, 4, 4]


def test_several_queries_packed_with_one_key_and_value() -> None:
    """Falcon: (pairs, queries + 2, d), sliced from the front and gathered from the end."""
    net = Net()
    x = net.linear(net.input(1, TOKENS, WIDTH), WIDTH, 2 * 5 * 4, name="qkv")
    x = net.transpose(net.reshape(x, 1, TOKENS, 2, 5, 4), 0, 2, 3, 1, 4)
    q = net.op("Slice", x, net.ints(0), net.ints(-2), net.ints(2))
    k, v = (net.op("Gather", x, net.ints(i), axis=2) for i in (-2, -1))
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 2, 4, 3)), axis=-1)
    y = net.transpose(net.op("MatMul", scores, v), 0, 3, 1, 2, 4)
    case = check_equivalence(net.model(net.linear(net.reshape(y, 1, TOKENS, 24), 24, WIDTH, name="o")))
    assert 2 in {case.groups[g].size for g in case.groups_of("o.weight", 0)}


def test_maxout_frees_the_pieces_but_not_the_choice() -> None:
    net = Net()
    x = net.reshape(net.conv(net.input(1, 3, 4, 4), 3, 10, name="conv"), 1, 5, 2, 4, 4)
    y = net.op("ReduceMax", x, axes=[2], keepdims=0)
    case = check_equivalence(net.model(net.conv(y, 5, 2)))
    assert case.size_of("conv.weight", 0) == 5


def test_channels_folded_into_rows() -> None:
    """(c r) h w → c (r h) w by a bare reshape: r becomes space."""
    net = Net()
    x = net.conv(net.input(1, 3, 3, 4), 3, 10, name="conv")
    case = check_equivalence(net.model(net.conv(net.reshape(x, 1, 5, 6, 4), 5, 2, 3)))
    assert case.size_of("conv.weight", 0) == 5


def test_rows_folded_into_channels() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="conv")
    case = check_equivalence(net.model(net.conv(net.reshape(x, 1, 10, 2, 4), 10, 2)))
    assert case.size_of("conv.weight", 0) == 5


@pytest.mark.parametrize("axis", [0, 2, 3, -1, -3])
def test_flatten_at_any_axis(axis: int) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 2, 2), 3, 4, name="conv")
    y = net.op("Flatten", x, axis=axis)
    rows, columns = {0: (1, 16), 2: (4, 4), 3: (8, 2), -1: (8, 2), -3: (1, 16)}[axis]
    y = net.op("MatMul", net.op("MatMul", net.weight(3, rows, name="left"), y), net.weight(columns, 2, name="right"))
    case = check_equivalence(net.model(y))
    assert case.size_of("conv.weight", 0) == 4


def test_zero_in_a_shape_means_zero_when_it_says_so() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    y = net.op("Reshape", x, net.ints(1, 6, -1), allowzero=1)
    case = check_equivalence(net.model(net.op("MatMul", net.transpose(y, 0, 2, 1), net.weight(6, 2))))
    assert case.size_of("conv.weight", 0) == 6


def test_cropping_channels_by_negative_padding_freezes() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    y = net.op("Pad", x, net.ints(0, -1, 0, 0, 0, -2, 0, 0))
    case = check_equivalence(net.model(net.conv(y, 3, 2)), prunable=False)
    assert case.why_frozen("conv.weight", 0)


def test_concatenation_along_batch_and_space_ties_the_channels() -> None:
    net = Net()
    image = net.input(1, 3, 4, 4)
    a, b, c = (net.conv(image, 3, 6, name=n) for n in "abc")
    y = net.op("Concat", net.op("Concat", a, b, axis=0), net.op("Concat", c, c, axis=0), axis=-1)
    case = check_equivalence(net.model(net.conv(y, 6, 2)))
    assert case.group_of("a.weight", 0) == case.group_of("b.weight", 0) == case.group_of("c.weight", 0)


def test_positions_of_maxima_count_through_all_channels() -> None:
    """MaxPool's indices are offsets into the whole tensor; MaxUnpool uses them."""
    net = Net()
    x = net.conv(net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before")), 5, 6, name="seen")
    y, where = net.ops("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("MaxUnpool", y, where, kernel_shape=[2, 2], strides=[2, 2])
    case = check_equivalence(net.model(net.conv(y, 6, 2)))
    assert list(case.groups) == ["before"]
    assert case.why_frozen("seen.weight", 0)


def test_an_expand_whose_shape_is_chosen_by_where() -> None:
    """TorchScript's expand: where(shape == -1, ones, shape)."""
    net = Net()
    token = net.stored(net.random(1, 1, 8), "token")
    x = net.linear(net.input("n", 5, 3, name="x"), 3, 8, name="in")
    n = net.op("Unsqueeze", net.op("Gather", net.op("Shape", x), net.stored(np.array(0)), axis=0), net.ints(0))
    shape = net.op("Concat", n, net.ints(-1), net.ints(8), axis=0)
    ones = net.op("ConstantOfShape", net.ints(3), value=numpy_helper.from_array(np.array([1])))
    minus = net.op("Mul", ones, net.stored(np.array(-1)))
    shape = net.op("Where", net.op("Equal", shape, minus), ones, shape)
    y = net.op("Concat", net.op("Expand", token, shape), x, axis=1)
    case = check_equivalence(net.model(net.linear(y, 8, 2)), others=[{"x": (3, 5, 3)}])
    assert case.group_of("token", 2) == case.group_of("in.weight", 1)


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample_of_old_models(opset: int) -> None:
    net = Net(opset=opset)
    x = net.conv(net.input(1, 3, 3, 3), 3, 6, name="conv")
    if opset == 7:
        y = net.op("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0])
    else:
        y = net.op("Upsample", x, net.stored(np.array([1, 1, 2, 2], np.float32)))
    assert check_equivalence(net.model(net.conv(y, 6, 2))).size_of("conv.weight", 0) == 6


def test_constants_nobody_uses_stay() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 3, 3), 3, 6, name="conv")
    net.stored(net.random(7, 7), "spare")
    net.constant(np.arange(3), "spare_node")
    case = coupled(net.model(net.conv(x, 6, 2)))
    small = check_plan(case, case.plan(conv=(1,)))
    assert initializer(small, "spare").shape == (7, 7)
    assert "Constant" in ops_of(small)


def test_a_channel_count_seen_by_the_caller_is_frozen() -> None:
    """The number of channels as a float output: pruning would change what the caller reads."""
    net = Net()
    x = net.conv(net.input(1, 3, 3, 3), 3, 6, name="conv")
    count = net.op("Cast", net.op("Gather", net.op("Shape", x), net.stored(np.array(1)), axis=0), to=TensorProto.FLOAT)
    y = net.conv(net.conv(x, 6, 5, name="free"), 5, 2)
    case = check_equivalence(net.model(y, count))
    assert list(case.groups) == ["free"]


@pytest.mark.parametrize("form", ["value_ints", "identity", "cast"])
def test_a_shape_constant_in_another_form(form: str) -> None:
    """Ints of a Constant node, an Identity of an initializer, 32-bit integers cast: all are edited or replaced."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    if form == "value_ints":
        shape = net.op("Constant", value_ints=[1, 6, 16])
    elif form == "identity":
        shape = net.op("Identity", net.ints(1, 6, 16))
    else:
        shape = net.op("Cast", net.stored(np.array([1, 6, 16], np.int32)), to=TensorProto.INT64)
    y = net.transpose(net.op("Reshape", x, shape), 0, 2, 1)
    case = check_equivalence(net.model(net.linear(y, 6, 2)))
    assert case.size_of("conv.weight", 0) == 6


def test_a_norm_over_channels_and_space_at_once() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    scale, bias = (net.stored(net.random(6, 4, 4), n) for n in ("scale", "bias"))
    model = net.model(net.conv(net.op("LayerNormalization", x, scale, bias, axis=1), 6, 2))
    assert not coupled(model).groups
    case = coupled(model, allow_inexact=True)
    assert case.group_of("scale", 0) == case.group_of("bias", 0) == case.group_of("conv.weight", 0)
    plan = case.plan(conv=(0, 3, 4))
    verify(case.graph, case.groups, plan, rewrite(case.graph, plan, case.groups))


def test_statistics_that_a_norm_also_gives_away() -> None:
    net = Net()
    x = net.linear(net.input(1, 5, 3), 3, 8, name="in")
    y, mean, spread = net.ops("LayerNormalization", x, net.vector(8), net.vector(8), outputs=3, axis=-1)
    y = net.op("Add", net.op("Mul", y, spread), mean)
    case = coupled(net.model(net.linear(y, 8, 2, name="out")), allow_inexact=True)
    for units in ((0, 1), (7,), tuple(range(7))):
        if len(case.groups):
            plan = case.plan(**{case.group_of("out.weight", 0): units})
            verify(case.graph, case.groups, plan, rewrite(case.graph, plan, case.groups))


def test_a_width_of_one_that_grows_by_broadcasting() -> None:
    """(n, 1, c) times (n, t, 1): neither axis of one is an axis of the other."""
    net = Net()
    x = net.linear(net.input(1, 5, 3), 3, 8, name="in")
    pooled = net.op("ReduceMean", x, axes=[1])
    weight = net.op("Sigmoid", net.linear(x, 8, 1, name="gate"))
    case = check_equivalence(net.model(net.linear(net.op("Mul", pooled, weight), 8, 2)))
    assert case.size_of("in.weight", 1) == 8


def test_sizes_that_are_equal_by_accident() -> None:
    """Width, tokens and heads * depth are all eight: only axes that meet are coupled."""
    net = Net()
    x = net.linear(net.input(1, 8, 8), 8, 8, name="a")
    y = net.transpose(net.linear(net.transpose(x, 0, 2, 1), 8, 8, name="tokens"), 0, 2, 1)
    case = check_equivalence(net.model(net.linear(net.linear(y, 8, 8, name="b"), 8, 8, name="c")))
    assert case.group_of("a.weight", 1) == case.group_of("b.weight", 0)
    assert case.group_of("b.weight", 1) == case.group_of("c.weight", 0) != case.group_of("a.weight", 1)
    assert case.why_frozen("tokens.weight", 0) == "input of the model"
    assert case.why_frozen("tokens.weight", 1) == "output of the model"
