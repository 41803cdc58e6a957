"""Case 5: flattening C * H * W before a classifier, global pooling before one, and both."""

from __future__ import annotations

import numpy as np
import pytest
from checks import Coupled, check_equivalence, kept_indices
from onnx_models import Net

SPELLINGS = ["Flatten", "Reshape 1 n", "Reshape 0 -1", "Reshape -1 n"]


def flat(net: Net, x: str, size: int, spelling: str) -> str:
    if spelling == "Flatten":
        return net.op("Flatten", x)
    a, b = spelling.split()[1:]
    return net.reshape(x, int(a), size if b == "n" else int(b))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_channel_owns_its_rows_of_the_classifier(spelling: str) -> None:
    net = Net()
    x = net.op("MaxPool", net.conv(net.input(1, 3, 6, 6), 3, 5, name="conv"), kernel_shape=[2, 2], strides=[2, 2])
    case = check_equivalence(net.model(net.gemm(flat(net, x, 45, spelling), 45, 4, "fc")))
    assert case.group_of("fc.weight", 1) == "conv"
    assert kept_indices(case, case.plan(conv=(1, 4)), "fc.weight", 1).tolist() == [*range(9, 18), *range(36, 45)]


def test_flattening_channels_last_interleaves_the_rows() -> None:
    net = Net()
    x = net.transpose(net.conv(net.input(1, 3, 2, 3), 3, 5, name="conv"), 0, 2, 3, 1)
    y = net.op("MatMul", net.reshape(x, 1, -1), net.stored(net.random(30, 4), "fc.weight"))
    case = check_equivalence(net.model(y))
    wanted = [5 * k + c for k in range(6) for c in (1, 4)]
    assert kept_indices(case, case.plan(conv=(1, 4)), "fc.weight", 0).tolist() == wanted


def both() -> Coupled:
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="image"), 3, 6, name="conv")
    flattened = net.gemm(net.op("Flatten", x), 96, 3, "flat")
    pooled = net.gemm(net.reshape(net.op("GlobalAveragePool", x), -1, 6), 6, 3, "pooled")
    return check_equivalence(net.model(net.op("Add", flattened, pooled)), others=[{"image": (5, 3, 4, 4)}])


def test_a_flattened_and_a_pooled_branch_of_the_same_map() -> None:
    case = both()
    assert case.group_of("flat.weight", 1) == case.group_of("pooled.weight", 1) == "conv"
    assert len(case.groups) == 1


def test_concatenating_a_flattened_and_a_pooled_branch() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 2, 2), 3, 3, name="conv")
    joined = net.op("Concat", net.op("Flatten", x), net.op("Flatten", net.op("GlobalMaxPool", x)), axis=1)
    case = check_equivalence(net.model(net.gemm(joined, 15, 4, "fc")))
    assert kept_indices(case, case.plan(conv=(2,)), "fc.weight", 1).tolist() == [8, 9, 10, 11, 14]


def test_hidden_layers_after_flattening_have_groups_of_their_own() -> None:
    net = Net()
    x = net.op("Flatten", net.conv(net.input(1, 3, 4, 4), 3, 4, name="conv"))
    y = net.gemm(net.op("Relu", net.gemm(x, 64, 10, "fc1")), 10, 3, "fc2")
    case = check_equivalence(net.model(y))
    assert list(case.groups) == ["conv", "fc1"]
    assert [g.kind for g in case.groups.values()] == ["channel", "neuron"]


def test_flattened_rows_split_by_position_keep_the_channels_together() -> None:
    """A reshape of the flat vector to (C / 2, 2 H W): pairs of channels stay whole, their factor two is free too."""
    net = Net()
    x = net.op("Flatten", net.conv(net.input(1, 3, 2, 2), 3, 6, name="conv"))
    y = net.op("MatMul", net.reshape(x, 1, 3, 8), net.stored(net.random(8, 5), "fc.weight"))
    case = check_equivalence(
        net.model(net.op("MatMul", net.transpose(y, 0, 2, 1), net.stored(net.random(3, 4), "mix")))
    )
    assert case.size_of("mix", 0) == 3
    (pair,) = case.groups_of("fc.weight", 0)
    assert case.groups[pair].size == 2
    assert kept_indices(case, case.plan(**{pair: (1,)}), "fc.weight", 0).tolist() == [4, 5, 6, 7]


def test_pooling_by_a_mean_over_space_without_kept_axes() -> None:
    net = Net(opset=18)
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    y = net.op("ReduceMean", x, net.ints(-1, -2), keepdims=0)
    case = check_equivalence(net.model(net.gemm(y, 6, 3, "fc")))
    assert case.group_of("fc.weight", 1) == "conv"


def test_a_squeeze_of_pooled_axes_names_them_or_would_take_a_single_channel_too() -> None:
    """Squeeze without axes drops every axis of one: kept to one channel, it would drop that axis as well."""
    net = Net()
    x = net.conv(net.input(2, 3, 4, 4), 3, 6, name="conv")
    y = net.op("Squeeze", net.op("GlobalAveragePool", x))
    case = check_equivalence(net.model(net.linear(y, 6, 3, name="fc")), plans=("one-kept", "random"))
    assert np.all([g.size == 6 for g in case.groups.values()])
