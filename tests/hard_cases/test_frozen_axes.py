"""Case 18: what compares or mixes the indices of an axis freezes it, with a reason; everything around still prunes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import check_equivalence, coupled
from onnx import TensorProto, helper
from onnx_models import Net, node

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.count import count
from graphprune.frontends.onnx.trace import trace

Layer = Callable[[Net, str], str]


def channel_attention(net: Net, x: str) -> str:
    """ECA: a convolution over the channel axis of the pooled map."""
    y = net.reshape(net.op("GlobalAveragePool", x), 1, 1, 6)
    y = net.op("Conv", y, net.weight(1, 1, 3, name="eca.weight"), pads=[1, 1])
    return net.op("Mul", x, net.op("Sigmoid", net.reshape(y, 1, 6, 1, 1)))


def softmax(net: Net, x: str) -> str:
    return net.op("Softmax", x, axis=1)


def maximum(net: Net, x: str) -> str:
    return net.op("Sub", x, net.op("ReduceMax", x, axes=[1]))


def local_response(net: Net, x: str) -> str:
    return net.op("LRN", x, size=3)


def cumulative(net: Net, x: str) -> str:
    return net.op("CumSum", x, net.stored(np.array(1)))


def largest(net: Net, x: str) -> str:
    values, _ = net.ops("TopK", x, net.ints(4), outputs=2, axis=1)
    return values


def position_of_largest(net: Net, x: str) -> str:
    return net.op("Cast", net.op("ArgMax", x, axis=1), to=TensorProto.FLOAT)


def unknown_operator(net: Net, x: str) -> str:
    """LpNormalization is known, Det is not."""
    return net.op("Add", x, net.reshape(net.op("Det", x), 1, 6, 1, 1))


def scattered(net: Net, x: str) -> str:
    return net.op("ScatterND", x, net.stored(np.array([[0, 2]])), net.stored(np.zeros((1, 4, 4), np.float32)))


FREEZING: list[tuple[Layer, int, str]] = [
    (channel_attention, 6, "spatial axis of Conv"),
    (softmax, 6, "Softmax compares"),
    (maximum, 6, "ReduceMax compares"),
    (local_response, 6, "LRN works along"),
    (cumulative, 6, "CumSum works along"),
    (largest, 4, "TopK works along"),
    (position_of_largest, 1, "ArgMax compares"),
    (unknown_operator, 6, "Det is not known"),
    (scattered, 6, "ScatterND goes by index"),
]


@pytest.mark.parametrize(("layer", "channels", "reason"), FREEZING)
def test_the_axis_freezes_with_its_reason_and_the_rest_prunes(layer: Layer, channels: int, reason: str) -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before"))
    x = layer(net, net.conv(x, 5, 6, name="candidate"))
    y = net.op("Relu", net.conv(x, channels, 7, name="after"))
    case = check_equivalence(net.model(net.conv(y, 7, 2)))
    assert set(case.groups) == {"before", "after"}
    assert reason in case.why_frozen("candidate.weight", 0)
    where = next(f.node for f in case.groups.frozen if (f.tensor, f.axis) == ("candidate.weight", 0))
    assert where.startswith(reason.split()[0]) or "Conv" in where


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_a_softmax_over_space_leaves_the_channels_alone(op: str) -> None:
    net = Net()
    x = net.reshape(net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv"), 1, 6, 16)
    y = net.reshape(net.op(op, x, axis=2), 1, 6, 4, 4)
    assert check_equivalence(net.model(net.conv(y, 6, 2))).size_of("conv.weight", 0) == 6


def test_non_maximum_suppression_freezes_boxes_and_scores() -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 2, 2), 3, 5, name="neck"))
    boxes = net.transpose(net.reshape(net.conv(x, 5, 4, name="boxes"), 1, 4, 4), 0, 2, 1)
    scores = net.reshape(net.conv(x, 5, 3, name="scores"), 1, 3, 4)
    limit = net.stored(np.array(8))
    picked = net.op("NonMaxSuppression", boxes, scores, limit, net.scalar(0.5), net.scalar(-1.0), name="nms")
    case = coupled(net.model(picked, nms=TensorProto.INT64))
    assert list(case.groups) == ["neck"]
    assert "NonMaxSuppression" in case.why_frozen("boxes.weight", 0)
    assert "NonMaxSuppression" in case.why_frozen("scores.weight", 0)


def test_scores_of_a_sequence_tagger_stay() -> None:
    """ArgMax straight before the output: the classes are what the caller sees."""
    net = Net()
    x = net.linear(net.op("Relu", net.linear(net.input(1, 5, 3), 3, 8, name="hidden")), 8, 4, name="tags")
    model = net.model(net.op("ArgMax", x, axis=-1, name="best"), best=TensorProto.INT64)
    case = check_equivalence(model)
    assert list(case.groups) == ["hidden"]


def test_an_unknown_operator_of_an_unknown_domain_freezes_what_it_touches() -> None:
    """The runtime has no such operator either: the shapes are those that the model declares."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="before"))
    y = net.op("Mystery", net.conv(x, 5, 6, name="candidate"), domain="com.example", name="mystery", strength=3.0)
    z = net.conv(net.op("Relu", net.conv(y, 6, 7, name="after")), 7, 2, name="head")
    declared = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 4, 4]) for n, c in (("mystery", 6), (z, 2))]
    graph = helper.make_graph(net.nodes, "net", net.inputs, declared[1:], net.initializers, value_info=declared[:1])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    case = coupled(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    assert list(case.groups) == ["before", "after"]
    assert "com.example" in case.why_frozen("candidate.weight", 0)
    assert "com.example" in case.why_frozen("after.weight", 1)
    small = rewrite(case.graph, case.plan(before=(0, 4), after=(1,)), case.groups)
    assert node(small, "mystery") == node(case.model, "mystery")
    assert count(trace(small))["macs"] == 16 * (3 * 2 + 2 * 6 + 6 * 1 + 1 * 2)
