"""How much a group's divergence counts: by the positions of the feature maps it multiplies, once a map."""

from __future__ import annotations

import math

import onnx
import pytest
from gated_models import MODELS, attention, residual
from onnx_models import Net

from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import trace
from graphprune.gating.places import Gating, gating_of


def places_of(model: onnx.ModelProto, **options: bool) -> Gating:
    graph = trace(model)
    return gating_of(graph, couple(graph), **options)


def lenet() -> onnx.ModelProto:
    """Two convolutions with pooling, 28 to 14 to 7 pixels, and two dense layers."""
    net = Net()
    x = net.input("N", 1, 28, 28, name="x")
    for name, sizes in (("conv1", (1, 4)), ("conv2", (4, 6))):
        x = net.op("MaxPool", net.conv(x, *sizes, 5, name=name), kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.linear(net.linear(net.op("Flatten", x), 6 * 49, 20, name="fc1"), 20, 10, name="fc2"))


def test_positions_are_those_of_the_map_that_is_summed_over() -> None:
    gating = places_of(lenet())
    assert {k: [p.positions for p in v] for k, v in gating.places.items()} == {
        "conv1": [14 * 14], "conv2": [7 * 7], "fc1": [1]
    }  # fmt: skip
    assert gating.weights("root") == {"conv1": 14, "conv2": 7, "fc1": 1}
    assert gating.weights("all") == {"conv1": 196, "conv2": 49, "fc1": 1}
    assert gating.weights("one") == {"conv1": 1, "conv2": 1, "fc1": 1}
    assert not gating.left


def test_a_batch_that_is_traced_larger_does_not_count() -> None:
    graph = trace(lenet(), input_shapes={"x": (8, 1, 28, 28)})
    assert gating_of(graph, couple(graph)).weights("all") == {"conv1": 196, "conv2": 49, "fc1": 1}


def test_a_coupled_group_counts_at_every_tensor_that_is_summed_over_once() -> None:
    """The stream: read by the first block, by the second, and, pooled, by the head."""
    gating = places_of(residual())
    stream = next(name for name, places in gating.places.items() if len(places) > 1)
    assert [p.positions for p in gating.places[stream]] == [36, 36, 1]
    assert gating.weights("root")[stream] == 6 + 6 + 1
    assert sorted(gating.weights("all").values()) == [36, 36, 73]


def test_residual_streams_can_be_left_out() -> None:
    everything, interior = places_of(residual()), places_of(residual(), interior_only=True)
    (left,) = interior.left
    assert len(everything.places[left]) == 3
    assert set(interior.places) == set(everything.places) - {left}
    assert "residual" in interior.left[left]
    assert places_of(MODELS["padded_conv_pool"](), interior_only=True).left == {}


def test_positions_of_heads_and_their_dimensions() -> None:
    """Five positions and eight values each: a head has 20 of them, a head dimension of two heads 10."""
    graph = trace(attention())
    groups = couple(graph)
    gating = gating_of(graph, groups)
    assert set(gating.places) | set(gating.left) == set(groups)
    for group in groups.groups:
        if group.id in gating.places:
            last = gating.places[group.id][-1]
            assert last.positions == 5 * 8 / group.size, group.id


def test_a_tensor_read_twice_counts_once() -> None:
    net = Net()
    x = net.op("Relu", net.linear(net.input("N", 4, name="x"), 4, 6, name="first"))
    y = net.op("Add", net.linear(x, 6, 3, name="left"), net.linear(x, 6, 3, name="right"))
    gating = places_of(net.model(y))
    assert [len(p) for p in gating.places.values()] == [1]


def test_units_that_no_data_carry_get_no_gates() -> None:
    """Both operands are stored: their product has no samples that noise could differ by."""
    net = Net()
    x = net.input("N", 4, name="x")
    made = net.op("MatMul", net.weight(4, 5, name="left"), net.weight(5, 3, name="right"), name="made")
    gating = places_of(net.model(net.op("MatMul", x, made, name="out")))
    assert not gating.places
    assert all(gating.left.values())


def test_plain_data() -> None:
    told = places_of(lenet()).to_dict("root")
    assert told["conv1"]["weight"] == 14.0
    assert [p["positions"] for p in told["conv1"]["places"]] == [196.0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_group_has_places_or_a_reason(name: str) -> None:
    graph = trace(MODELS[name]())
    groups = couple(graph)
    gating = gating_of(graph, groups)
    assert not set(gating.places) & set(gating.left)
    assert set(gating.places) | set(gating.left) == set(groups)
    for weight in gating.weights("root").values():
        assert weight > 0 and math.isfinite(weight)
