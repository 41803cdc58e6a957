"""Case 4: reshape, transpose, reshape on one axis is a permutation: exact, and a Gather where the kept set is none."""

from __future__ import annotations

import numpy as np
import pytest
from checks import Coupled, check_equivalence, check_plan, coupled, kept_indices
from onnx_models import Net, initializer, ops_of


def shuffled(net: Net, x: str, channels: int, groups: int, batch: int = 1) -> str:
    y = net.transpose(net.reshape(x, batch, groups, channels // groups, 6, 6), 0, 2, 1, 3, 4)
    return net.reshape(y, batch, channels, 6, 6)


def shuffle_net(batch: int | str = 1) -> Coupled:
    net = Net()
    x = net.conv(net.input(batch, 3, 6, 6, name="image"), 3, 12, name="stem")
    y = shuffled(net, x, 12, 3, 1 if batch == 1 else -1)
    return coupled(net.model(net.conv(y, 12, 4, name="head")))


def test_a_shuffle_leaves_every_channel_free() -> None:
    case = shuffle_net()
    check_equivalence(case.model)
    assert case.size_of("stem.weight", 0) == 12
    order = np.arange(12).reshape(3, 4).T.ravel()
    (member,) = [m for m in case.groups["stem"].members if m.tensor == "head.weight"]
    assert member.unit[np.argsort(member.index)].tolist() == order.tolist()


def test_a_kept_set_that_is_no_product_turns_the_shuffle_into_a_gather() -> None:
    case = shuffle_net()
    plan = case.plan(stem=(0, 1, 5, 7, 10))
    small = check_plan(case, plan)
    assert ops_of(small) == ["Conv", "Gather", "Conv"]
    assert [n.output[0] for n in small.graph.node][1] == case.model.graph.node[3].output[0], "the tensor keeps its name"
    # in shuffled order 0 4 8 1 5 9 2 6 10 3 7 11 these stand at 0, 3, 4, 8, 10
    assert kept_indices(case, plan, "head.weight", 1).tolist() == [0, 3, 4, 8, 10]


def test_an_untouched_shuffle_stays_as_it_was_written() -> None:
    case = shuffle_net()
    assert ops_of(check_plan(case, case.plan())) == ops_of(case.model)


def test_a_shuffle_of_a_dynamic_batch() -> None:
    case = shuffle_net("n")
    check_equivalence(case.model, others=[{"image": (3, 3, 6, 6)}])


def test_shuffle_between_grouped_convolutions() -> None:
    """ShuffleNet v1: a shuffle between two grouped convolutions. Groups there are inner channels here."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    y = shuffled(net, net.op("Relu", net.conv(x, 12, 16, 1, 4, name="g1")), 16, 4)
    y = net.conv(net.conv(y, 16, 16, 3, 16, name="dw"), 16, 8, 1, 4, name="g2")
    case = check_equivalence(net.model(net.conv(y, 8, 4)))
    assert case.groups_of("g1.weight", 0) == case.groups_of("dw.weight", 0)
    within, groups = case.group_of("g2.weight", 1), case.group_of("g1.weight", 1)
    assert case.groups_of("g1.weight", 0) - {within} <= case.groups_of("g2.weight", 0)
    assert groups in case.groups_of("stem.weight", 0)


def test_a_shuffle_whose_factors_can_be_refined_frees_its_channels() -> None:
    """3 x 6 shuffled to 6 x 3 and read as 3 x 6: index by index that has no solution, by factors of 6 it has."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 18, name="stem")
    y = net.conv(shuffled(net, net.conv(x, 18, 18, 1, 3, name="g1"), 18, 3), 18, 6, 1, 3, name="g2")
    case = check_equivalence(net.model(net.conv(y, 6, 4, name="head")))
    assert sorted(case.groups[g].size for g in case.groups_of("g1.weight", 0)) == [2, 3, 3]
    assert sorted(case.groups[g].size for g in case.groups_of("g2.weight", 1)) == [2, 3]


def test_a_shuffle_that_the_next_groups_cut_across_freezes() -> None:
    """3 x 4 shuffled to 4 x 3 and read as 3 x 4 again: no factor of one is a factor of the other."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    y = net.conv(shuffled(net, net.conv(x, 12, 12, 1, 3, name="g1"), 12, 3), 12, 6, 1, 3, name="g2")
    case = check_equivalence(net.model(net.conv(y, 6, 4, name="head")))
    assert not case.groups_of("g1.weight", 0)
    assert "no common refinement" in case.why_frozen("g1.weight", 0)
    assert case.groups_of("stem.weight", 0), "channels within the groups of the first are still free"
    assert case.size_of("head.weight", 1) == 2


def test_shufflenet_v2_split_branch_concatenate_shuffle() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    for k in range(2):
        left, right = net.ops("Split", x, outputs=2, axis=1)
        branch = net.conv(net.op("Relu", net.conv(right, 6, 5, name=f"in{k}")), 5, 6, name=f"out{k}")
        x = shuffled(net, net.op("Concat", left, branch, axis=1), 12, 2)
    case = check_equivalence(net.model(net.conv(x, 12, 4, name="head")))
    assert {case.groups[g].size for g in case.groups} >= {5}
    assert case.groups_of("stem.weight", 0) and case.groups_of("out1.weight", 0)


def test_a_shuffle_on_the_last_axis_of_tokens() -> None:
    net = Net()
    x = net.linear(net.input(1, 5, 3), 3, 12, name="in")
    y = net.reshape(net.transpose(net.reshape(x, 1, 5, 4, 3), 0, 1, 3, 2), 1, 5, 12)
    case = check_equivalence(net.model(net.linear(y, 12, 4, name="out")))
    assert case.size_of("out.weight", 0) == 12


def test_a_shuffle_whose_middle_is_used_elsewhere_is_not_folded() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    middle = net.transpose(net.reshape(x, 1, 3, 4, 6, 6), 0, 2, 1, 3, 4)
    sums = net.op("ReduceMean", middle, axes=[3, 4], keepdims=0)
    case = check_equivalence(net.model(net.conv(net.reshape(middle, 1, 12, 6, 6), 12, 4), net.linear(sums, 3, 2)))
    assert case.size_of("stem.weight", 0) == 3, "the factor of four reaches the output"


@pytest.mark.parametrize("batch", [1, 2])
def test_the_shuffle_that_also_splits(batch: int) -> None:
    """(b c/2) 2 hw → 2 b c/2 h w, then both halves are gathered: how the first ShuffleNet v2 code is written."""
    net = Net()
    x = net.conv(net.input(batch, 3, 6, 6), 3, 12, name="stem")
    y = net.transpose(net.reshape(x, batch * 6, 2, 36), 1, 0, 2)
    y = net.reshape(y, 2, batch, 6, 6, 6)
    halves = [net.op("Gather", y, net.stored(np.array(k)), axis=0) for k in range(2)]
    outputs = [net.conv(half, 6, 3, name=f"head{k}") for k, half in enumerate(halves)]
    case = check_equivalence(net.model(*outputs))
    assert case.size_of("head0.weight", 1) == 6
    assert case.group_of("head0.weight", 1) == case.group_of("head1.weight", 1) == case.group_of("stem.weight", 0)


def test_two_shuffles_in_a_row_that_undo_each_other() -> None:
    case_net = Net()
    x = case_net.conv(case_net.input(1, 3, 6, 6), 3, 12, name="stem")
    y = shuffled(case_net, shuffled(case_net, x, 12, 3), 12, 4)
    model = case_net.model(case_net.conv(case_net.op("Add", x, y), 12, 4, name="head"))
    case = check_equivalence(model)
    assert case.size_of("stem.weight", 0) == 12
    small = check_plan(case, case.plan(stem=(2, 3, 11)))
    assert np.array_equal(initializer(small, "head.weight"), initializer(model, "head.weight")[:, [2, 3, 11]])


def test_a_shuffle_added_to_its_own_input_couples_along_its_cycles() -> None:
    """6 = 2 x 3 shuffled: 0 1 2 3 4 5 → 0 3 1 4 2 5; the cycle (1 3 4 2) lives together, 0 and 5 alone."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 6, name="stem")
    case = check_equivalence(net.model(net.conv(net.op("Add", x, shuffled(net, x, 6, 2)), 6, 4)))
    sizes = {g.id: g.size for g in case.groups.values() if g.id in case.groups_of("stem.weight", 0)}
    assert sum(sizes.values()) == 3


def test_a_shuffled_stream_that_a_grouped_convolution_also_reads() -> None:
    """The permutation's cycles cross the groups: no set of groups and inner channels is closed under it."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 10, name="stem")
    y = net.op("Add", shuffled(net, x, 10, 2), x)
    grouped = net.conv(y, 10, 6, 1, 2, name="grouped")
    case = check_equivalence(net.model(net.conv(grouped, 6, 3, name="head"), net.conv(x, 10, 3)))
    assert not case.groups_of("stem.weight", 0)
    assert case.why_frozen("stem.weight", 0)
    assert case.size_of("head.weight", 1) == 3
