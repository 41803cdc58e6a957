"""Case 1: residual additions, also through broadcasting."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_equivalence, check_plan, coupled
from onnx_models import Net, attribute, initializer, node


def test_a_residual_chain_is_one_group_over_all_its_producers() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 10, 3, name="stem")
    for k in range(3):
        y = net.op("Relu", net.batch_norm(net.conv(x, 10, 7, 3, name=f"up{k}"), 7))
        x = net.op("Add", x, net.conv(y, 7, 10, name=f"down{k}"))
    case = check_equivalence(net.model(net.conv(x, 10, 4, name="head")))
    stream = case.group_of("stem.weight", 0)
    assert case.groups[stream].size == 10
    assert all(case.group_of(f"down{k}.weight", 0) == stream for k in range(3))
    assert all(case.group_of(f"down{k}.bias", 0) == stream for k in range(3))
    assert all(case.group_of(f"up{k}.weight", 1) == stream for k in range(3))
    assert case.group_of("head.weight", 1) == stream
    assert len(case.groups) == 4
    assert case.why_frozen("head.weight", 0) == "output of the model"
    assert case.why_frozen("stem.weight", 1) == "input of the model"


def test_a_projected_shortcut_joins_the_branch_it_is_added_to() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 6, name="stem")
    branch = net.conv(net.op("Relu", net.conv(x, 6, 5, 3, name="a", strides=[2, 2])), 5, 9, name="b")
    shortcut = net.conv(x, 6, 9, name="shortcut", strides=[2, 2])
    case = check_equivalence(net.model(net.conv(net.op("Add", branch, shortcut), 9, 2, name="head")))
    assert case.group_of("b.weight", 0) == case.group_of("shortcut.weight", 0) == case.group_of("head.weight", 1)
    assert case.group_of("stem.weight", 0) not in (case.group_of("b.weight", 0), case.group_of("a.weight", 0))


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_squeeze_excite_couples_its_last_conv_with_the_map_it_scales(gate: str, pool: str) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 8, name="stem")
    pooled = net.op(pool, x) if pool == "GlobalAveragePool" else net.op(pool, x, axes=[2, 3])
    squeezed = net.op("Relu", net.conv(pooled, 8, 3, name="reduce"))
    scaled = net.op("Mul", net.op(gate, net.conv(squeezed, 3, 8, name="expand")), x)
    case = check_equivalence(net.model(net.conv(scaled, 8, 4, name="head")))
    channels = case.group_of("stem.weight", 0)
    assert case.group_of("expand.weight", 0) == case.group_of("reduce.weight", 1) == channels
    assert case.group_of("head.weight", 1) == channels
    assert case.size_of("reduce.weight", 0) == 3


def test_squeeze_excite_of_linear_layers_between_reshapes() -> None:
    net = Net()
    x = net.conv(net.input("n", 3, 6, 6), 3, 8, name="stem")
    y = net.op("Flatten", net.op("GlobalAveragePool", x))
    y = net.gemm(net.op("Relu", net.gemm(y, 8, 3, "fc1")), 3, 8, "fc2")
    gate = net.reshape(net.op("Sigmoid", y), -1, 8, 1, 1)
    case = check_equivalence(net.model(net.conv(net.op("Mul", x, gate), 8, 4)))
    assert case.group_of("fc2.weight", 0) == case.group_of("stem.weight", 0) == case.group_of("fc1.weight", 1)


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1, 1)])
def test_layer_scale_follows_the_residual_stream(shape: tuple[int, ...]) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 8, name="stem")
    y = net.conv(net.op("Relu", net.conv(x, 8, 12, name="up")), 12, 8, name="down")
    scale = net.stored(net.random(*shape), "scale")
    case = check_equivalence(net.model(net.conv(net.op("Add", net.op("Mul", y, scale), x), 8, 4)))
    assert case.group_of("scale", len(shape) - 3) == case.group_of("stem.weight", 0)


def test_broadcasting_an_axis_of_one_couples_nothing() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 8, name="stem")
    attention = net.op("Sigmoid", net.conv(x, 8, 1, name="spatial"))
    case = check_equivalence(net.model(net.conv(net.op("Mul", x, attention), 8, 4)))
    assert case.groups_of("spatial.weight", 0) == set()
    assert case.size_of("stem.weight", 0) == 8


def test_a_scalar_and_a_full_tensor_may_be_added() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="stem")
    x = net.op("Add", net.op("Mul", x, net.scalar(0.5)), net.stored(net.random(8, 4, 4), "map"))
    case = check_equivalence(net.model(net.conv(x, 8, 4)))
    assert case.group_of("map", 0) == case.group_of("stem.weight", 0)


def test_the_kept_slices_are_the_ones_the_plan_names() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="stem")
    model = net.model(net.conv(net.op("Add", x, net.conv(x, 5, 5, name="block")), 5, 2, name="head"))
    case = coupled(model)
    small = check_plan(case, case.plan(stem=(1, 4)))
    block = initializer(model, "block.weight")
    assert np.array_equal(initializer(small, "block.weight"), block[[1, 4]][:, [1, 4]])
    assert np.array_equal(initializer(small, "head.weight"), initializer(model, "head.weight")[:, [1, 4]])
    assert attribute(node(small, "block"), "group") == 1
