"""Case 3: depthwise with a multiplier, grouped convolutions: whole groups, and channels within all groups."""

from __future__ import annotations

import pytest
from checks import check_equivalence, check_plan, coupled, kept_indices
from onnx_models import Net, attribute, initializer, node


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_depthwise_channels_take_their_multiples_with_them(factor: int) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 5, name="stem")
    y = net.op("Relu", net.conv(x, 5, 5 * factor, 3, 5, name="dw"))
    model = net.model(net.conv(y, 5 * factor, 4, name="head"))
    case = check_equivalence(model)
    channels = case.group_of("stem.weight", 0)
    assert channels in case.groups_of("dw.weight", 0)
    small = check_plan(case, case.plan(**{channels: (0, 3)}))
    assert attribute(node(small, "dw"), "group") == 2
    assert initializer(small, "dw.weight").shape == (2 * factor, 1, 3, 3)


def test_the_multiplier_itself_may_shrink() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 5, name="stem")
    case = coupled(net.model(net.conv(net.conv(x, 5, 10, 3, 5, name="dw"), 10, 4, name="head")))
    (copies,) = case.groups_of("dw.weight", 0) - {"stem"}
    assert case.groups[copies].size == 2
    small = check_plan(case, case.plan(**{copies: (1,)}))
    assert attribute(node(small, "dw"), "group") == 5
    assert initializer(small, "head.weight").shape == (4, 5, 1, 1)


def test_a_grouped_convolution_loses_whole_groups_or_channels_of_every_group() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    case = check_equivalence(net.model(net.conv(net.conv(x, 12, 8, 3, 4, name="g"), 8, 5, name="head")))
    ins, outs = case.groups_of("stem.weight", 0), case.groups_of("head.weight", 1)
    (groups,) = ins & outs
    (inner,), (outer,) = ins - {groups}, outs - {groups}
    assert [case.groups[name].size for name in (groups, inner, outer)] == [4, 3, 2]
    plan = case.plan(**{groups: (0, 2), inner: (1, 2), outer: (0,)})
    assert kept_indices(case, plan, "stem.weight", 0).tolist() == [1, 2, 7, 8]
    assert kept_indices(case, plan, "g.weight", 0).tolist() == [0, 4]
    assert kept_indices(case, plan, "g.weight", 1).tolist() == [1, 2]
    assert attribute(node(check_plan(case, plan), "g"), "group") == 2


def test_a_grouped_residual_block_refines_the_stream() -> None:
    """The stream of a ResNeXt without projections: all its channels are cut alike in every group."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    y = net.op("Add", x, net.conv(net.op("Relu", net.conv(x, 12, 12, 3, 3, name="g")), 12, 12, name="mix"))
    case = check_equivalence(net.model(net.conv(y, 12, 5)))
    assert {case.groups[g].size for g in case.groups_of("stem.weight", 0)} == {3, 4}
    assert case.groups_of("stem.weight", 0) == case.groups_of("mix.weight", 0)


def test_two_groupings_of_one_axis_meet_in_their_common_refinement() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    a, b = net.conv(x, 12, 6, 3, 2, name="two"), net.conv(x, 12, 6, 3, 6, name="six")
    case = check_equivalence(net.model(net.conv(a, 6, 2), net.conv(b, 6, 2)))
    assert sorted(case.groups[g].size for g in case.groups_of("stem.weight", 0)) == [2, 2, 3]


def test_groupings_without_a_common_refinement_freeze() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 12, name="stem")
    a, b = net.conv(x, 12, 8, 3, 4, name="four"), net.conv(x, 12, 6, 3, 3, name="three")
    case = check_equivalence(net.model(net.conv(a, 8, 2, name="c"), net.conv(b, 6, 2, name="d")))
    assert not case.groups_of("stem.weight", 0)
    assert "no common refinement" in case.why_frozen("stem.weight", 0)
    assert len(case.groups) == 2, "channels within the groups' outputs are still free"


def test_transposed_convolution_plain_and_with_groups() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 5, 5), 3, 6, name="stem")
    y = net.op(
        "ConvTranspose", x, net.weight(6, 8, 2, 2, name="plain.weight"), net.vector(8), strides=[2, 2], name="plain"
    )
    z = net.op("ConvTranspose", y, net.weight(8, 3, 2, 2, name="grouped.weight"), net.vector(12, "grouped.bias"),
               group=4, strides=[2, 2], name="grouped")  # fmt: skip
    case = check_equivalence(net.model(net.conv(z, 12, 2)))
    assert case.group_of("plain.weight", 0) == case.group_of("stem.weight", 0)
    assert {case.groups[g].size for g in case.groups_of("grouped.weight", 0)} == {4, 2}
    assert case.size_of("grouped.weight", 1) == 3
    assert case.groups_of("grouped.bias", 0) > case.groups_of("grouped.weight", 1)


def test_depthwise_transposed_convolution() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 5, 5), 3, 6, name="stem")
    y = net.op("ConvTranspose", x, net.weight(6, 1, 2, 2, name="up.weight"), group=6, strides=[2, 2], name="up")
    case = check_equivalence(net.model(net.conv(y, 6, 2)))
    small = check_plan(case, case.plan(stem=(5,)))
    assert attribute(node(small, "up"), "group") == 1


def test_convolutions_of_one_and_three_spatial_axes() -> None:
    net = Net()
    x = net.op("Conv", net.input(1, 4, 9), net.weight(8, 2, 3), net.vector(8), group=2, name="line", pads=[1, 1])
    y = net.op("Conv", net.op("Relu", x), net.weight(2, 8, 3))
    z = net.op("Conv", net.input(1, 3, 4, 4, 4), net.weight(6, 3, 2, 2, 2), name="volume")
    case = check_equivalence(net.model(y, net.op("Conv", net.op("Relu", z), net.weight(2, 6, 1, 1, 1))))
    assert sorted(g.size for g in case.groups.values()) == [4, 6]
    assert all(g.kind == "channel" for g in case.groups.values())
