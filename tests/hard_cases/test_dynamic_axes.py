"""Case 11: dynamic batch, sequence and spatial axes stay so: the pruned model runs at other sizes than traced."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from checks import check_equivalence, coupled
from onnx import TensorProto, numpy_helper
from onnx_models import Net
from test_runtime_shapes import size, vector


def declared(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_a_fully_convolutional_network_of_any_size() -> None:
    net = Net()
    x = net.conv(net.input("n", 3, "h", "w", name="x"), 3, 8, 3, name="stem")
    low = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    up = net.op("Resize", net.conv(low, 8, 6, name="low"), "", net.stored(np.array([1, 1, 2, 2], np.float32)))
    model = net.model(net.conv(net.op("Concat", x, up, axis=1), 14, 2, name="head"))
    others = [{"x": (3, 3, 12, 20)}, {"x": (1, 3, 6, 8)}]
    case = check_equivalence(model, {"x": (1, 3, 8, 8)}, others=others)
    assert case.groups_of("head.weight", 1) == {"stem", "low"}
    assert declared(model.graph.input[0]) == ["n", 3, "h", "w"]


def test_upsampling_to_the_size_of_another_map() -> None:
    """A U-Net's decoder: Resize to sizes computed from the skip connection, channels read from the low map."""
    net = Net()
    x = net.conv(net.input(1, 3, "h", "w", name="x"), 3, 8, 3, name="stem")
    low = net.conv(net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 8, 6, name="low")
    sizes = vector(net, size(net, low, 0), size(net, low, 1), size(net, x, 2), size(net, x, 3))
    up = net.op("Resize", low, "", "", sizes, mode="nearest")
    case = check_equivalence(
        net.model(net.conv(net.op("Concat", x, up, axis=1), 14, 2)), {"x": (1, 3, 8, 8)}, others=[{"x": (1, 3, 10, 14)}]
    )
    assert len(case.groups) == 2


def test_tokens_of_any_number_through_attention() -> None:
    net = Net()
    x = net.input("n", "t", 6, name="x")
    b, t = size(net, x, 0), size(net, x, 1)
    shape = vector(net, b, t, 3, 4)
    q, k, v = (net.transpose(net.op("Reshape", net.linear(x, 6, 12, name=n), shape), 0, 2, 1, 3) for n in "qkv")
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.op("Reshape", net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), vector(net, b, t, 12))
    case = check_equivalence(
        net.model(net.linear(y, 12, 6, name="o")), {"x": (1, 5, 6)}, others=[{"x": (2, 9, 6)}, {"x": (3, 1, 6)}]
    )
    assert {case.groups[g].size for g in case.groups_of("o.weight", 0)} == {3, 4}


def test_a_sequence_as_long_as_the_model_is_wide_is_not_confused_with_it() -> None:
    net = Net()
    x = net.linear(net.input("n", "t", 6, name="x"), 6, 8, name="in")
    y = net.op("MatMul", net.transpose(x, 0, 2, 1), x)  # (8, 8): a Gram matrix over tokens
    y = net.op("MatMul", x, net.op("Softmax", y, axis=-1))
    case = check_equivalence(
        net.model(net.linear(y, 8, 2, name="out")), {"x": (1, 8, 6)}, others=[{"x": (2, 3, 6)}], prunable=False
    )
    assert case.why_frozen("in.weight", 1)


def test_a_convolution_over_a_dynamic_number_of_tokens() -> None:
    net = Net()
    x = net.transpose(net.linear(net.input(1, "t", 6, name="x"), 6, 8, name="in"), 0, 2, 1)
    y = net.op("Conv", x, net.weight(5, 8, 3), net.vector(5), pads=[1, 1], name="conv")
    y = net.linear(net.transpose(net.op("Relu", y), 0, 2, 1), 5, 2)
    case = check_equivalence(net.model(y), {"x": (1, 7, 6)}, others=[{"x": (1, 4, 6)}])
    assert [g.size for g in case.groups.values()] == [8, 5]


def test_word_ids_of_any_length_with_positions_cut_to_it() -> None:
    net = Net()
    ids = net.input("n", "t", name="ids", dtype=TensorProto.INT64)
    words = net.op("Gather", net.weight(11, 8, name="words"), ids, axis=0)
    table = net.stored(net.random(1, 16, 8), "positions")
    places = net.op("Slice", table, net.ints(0), size(net, ids, 1), net.ints(1), net.ints(1))
    y = net.linear(net.op("Add", words, places), 8, 3, name="head")
    case = check_equivalence(net.model(y), {"ids": (1, 5)}, others=[{"ids": (2, 9)}])
    assert case.group_of("words", 1) == case.group_of("positions", 2) == case.group_of("head.weight", 0)
    assert not case.groups_of("positions", 1)


@pytest.mark.parametrize("traced", [1, 2, 4])
def test_the_batch_that_was_traced_does_not_matter(traced: int) -> None:
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="x"), 3, 8, name="conv")
    y = net.op("Reshape", x, vector(net, net.op("Mul", size(net, x, 0), net.ints(4)), 2, -1))
    y = net.op("Reshape", net.op("Tanh", y), vector(net, size(net, x, 0), -1))
    case = coupled(net.model(net.linear(y, 128, 2)), {"x": (traced, 3, 4, 4)})
    others = [{"x": (n, 3, 4, 4)} for n in (1, 3)]
    check_equivalence(case.model, {"x": (traced, 3, 4, 4)}, others=others, prunable=bool(len(case.groups)))


def test_an_axis_between_constants_that_are_filled_in_stays_dynamic() -> None:
    """Weights of (2 t, t) and (3, 2 t), made as the model runs: nothing but its size ties 2 t to the input."""
    net = Net()
    x = net.linear(net.input("t", 6, name="x"), 6, 8, name="in")
    t = size(net, x, 0)
    twice = net.op("Mul", t, net.ints(2))
    half = numpy_helper.from_array(np.array([0.5], np.float32))
    y = net.op("MatMul", net.op("ConstantOfShape", vector(net, twice, t), value=half), x)
    y = net.op("MatMul", net.op("ConstantOfShape", vector(net, 3, twice), value=half), net.op("Cos", y))
    case = check_equivalence(net.model(net.linear(y, 8, 2, name="out")), {"x": (5, 6)}, others=[{"x": (9, 6)}])
    assert [g.size for g in case.groups.values()] == [8]
