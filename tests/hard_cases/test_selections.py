"""Pad, Slice, Split, Gather and Resize on an axis that is pruned, with every way to write their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_equivalence, check_plan, coupled, kept_indices
from onnx_models import Net, attribute, initializer, node, ops_of

LOW, HIGH = np.iinfo(np.int64).min, np.iinfo(np.int64).max
SLICES = [
    (2, 7, 1), (-8, -2, 1), (0, HIGH, 2), (1, HIGH, 3), (HIGH, LOW, -1), (-1, -HIGH, -2), (8, 1, -3), (-100, 100, 1),
    (3, 4, 1), (9, LOW, -4),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end", "step"), SLICES)
def test_a_slice_of_the_channels(start: int, end: int, step: int) -> None:
    taken = len(
        range(10)[slice(start if start != HIGH or step > 0 else None, None if end in (LOW, -HIGH) else end, step)]
    )
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 10, name="conv")
    y = net.op("Slice", x, *(net.ints(v) for v in (start, end, 1, step)))
    outputs = [net.conv(y, taken, 2, name="head"), net.conv(x, 10, 2)]
    check_equivalence(net.model(*outputs), plans=("random", "random", "random", "one-kept", "one-removed"))


def test_a_slice_whose_kept_positions_are_no_longer_evenly_spaced_becomes_a_gather() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 10, name="conv")
    y = net.op("Slice", x, net.ints(0), net.ints(10), net.ints(1), net.ints(2), name="even")
    case = coupled(net.model(net.conv(y, 5, 2, name="head"), net.conv(x, 10, 2)))
    (even,) = case.groups_of("head.weight", 1)
    (odd,) = case.groups_of("conv.weight", 0) - {even}
    assert "Slice" in ops_of(check_plan(case, case.plan(**{even: (0, 1, 2, 3)}))), (
        "still every other one of what is left"
    )
    assert "Gather" in ops_of(check_plan(case, case.plan(**{odd: (0, 2)})))
    small = check_plan(case, case.plan(**{odd: (0,), even: (1, 2, 4)}))
    assert initializer(small, "head.weight").shape == (2, 3, 1, 1)


def test_a_slice_of_channels_and_rows_in_one_node() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 10, name="conv")
    y = net.op("Slice", x, net.ints(1, 0, 1), net.ints(9, 6, 5), net.ints(2, 1, -1), net.ints(3, 2, 1))
    outputs = [net.conv(y, 3, 2, name="head"), net.conv(x, 10, 2)]
    check_equivalence(net.model(*outputs), plans=("random",) * 5)


def test_a_slice_of_two_pruned_axes_at_once() -> None:
    """Scores between two pruned widths: rows and columns are cut by the same node."""
    net = Net()
    x = net.input(4, 3)
    a, b = net.linear(x, 3, 6, name="a"), net.linear(x, 3, 8, name="b")
    table = net.op("MatMul", net.transpose(a, 1, 0), b)  # (6, 8)
    y = net.op("Slice", table, net.ints(1, 0), net.ints(6, 8), net.ints(0, 1), net.ints(1, 2))
    y = net.op("MatMul", net.stored(net.random(2, 5), "left"), y)
    y = net.op("MatMul", y, net.stored(net.random(4, 2), "right"))
    case = check_equivalence(net.model(y, net.linear(a, 6, 2), net.linear(b, 8, 2)), plans=("random",) * 6)
    assert case.groups_of("left", 1) < case.groups_of("a.weight", 1)


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_unequal_splits(opset: int) -> None:
    net = Net(opset=opset)
    x = net.conv(net.input(1, 3, 4, 4), 3, 9, name="conv")
    sizes = {"split": [2, 4, 3]} if opset < 13 else {}
    extra = [net.ints(2, 4, 3)] if opset >= 13 else []
    parts = net.ops("Split", x, *extra, outputs=3, axis=-3 if opset >= 11 else 1, name="cut", **sizes)
    case = check_equivalence(
        net.model(*(net.conv(p, n, 2, name=f"h{n}") for p, n in zip(parts, (2, 4, 3), strict=True)))
    )
    groups = [case.group_of(f"h{n}.weight", 1) for n in (2, 4, 3)]
    small = check_plan(case, case.plan(**{groups[0]: (1,), groups[1]: (0, 3)}))
    made = node(small, "cut")
    assert (attribute(made, "split") if opset < 13 else initializer(small, made.input[1]).tolist()) == [1, 2, 3]


@pytest.mark.parametrize(("opset", "parts", "channels"), [(9, 2, 8), (13, 2, 8), (18, 2, 8), (18, 3, 10), (20, 4, 11)])
def test_splits_without_sizes(opset: int, parts: int, channels: int) -> None:
    """Equal parts, or with num_outputs a smaller last one; unequal parts are spelled out once they differ."""
    each = -(-channels // parts)
    widths = [each] * (parts - 1) + [channels - each * (parts - 1)]
    net = Net(opset=opset)
    x = net.conv(net.input(1, 3, 4, 4), 3, channels, name="conv")
    attrs = {"num_outputs": parts} if opset >= 18 else {}
    made = net.ops("Split", x, outputs=parts, axis=1, name="cut", **attrs)
    outputs = [net.conv(p, n, 2, name=f"head{k}") for k, (p, n) in enumerate(zip(made, widths, strict=True))]
    case = check_equivalence(
        net.model(*outputs), plans=("random", "random", "random", "one-kept", "one-removed", "one-group")
    )
    assert len(case.groups) == parts


def test_halves_that_stay_equal_need_no_sizes() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="conv")
    a, b = net.ops("Split", x, outputs=2, axis=1, name="cut")
    case = coupled(net.model(net.conv(net.op("Mul", a, net.op("Sigmoid", b)), 4, 2)))
    small = check_plan(case, case.plan(conv=(1, 3)))
    assert node(small, "cut") == node(case.model, "cut")


@pytest.mark.parametrize("value", ["zero", "half"])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_padding_the_channel_axis(opset: int, value: str) -> None:
    """ResNet's shortcut A: channels of zeros around those of the stream. Padded channels are units of their own."""
    net = Net(opset=opset)
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="conv")
    pads = [0, 2, 1, 0, 0, 3, 0, 0]
    if opset < 11:
        y = net.op("Pad", x, pads=pads, value=0.5 if value == "half" else 0.0)
    elif opset < 18:
        y = net.op("Pad", x, net.ints(*pads), net.scalar(0.5 if value == "half" else 0.0))
    else:
        y = net.op("Pad", x, net.ints(1, 2, 0, 3), net.scalar(0.5 if value == "half" else 0.0), net.ints(-2, 1))
    branch = net.conv(net.op("Relu", net.conv(x, 5, 4, name="in")), 4, 10, 3, name="out", pads=[2, 1, 1, 1])
    case = check_equivalence(net.model(net.conv(net.op("Add", y, branch), 10, 2, name="head")))
    stream = case.groups_of("conv.weight", 0)
    assert stream < case.groups_of("head.weight", 1)
    assert sum(case.groups[g].size for g in case.groups_of("head.weight", 1)) == 10


def test_padding_two_pruned_axes_at_once() -> None:
    net = Net()
    x = net.input(4, 3)
    a, b = net.linear(x, 3, 6, name="a"), net.linear(x, 3, 7, name="b")
    table = net.op("Pad", net.op("MatMul", net.transpose(a, 1, 0), b), net.ints(1, 2, 0, 1))
    y = net.op(
        "MatMul", net.op("MatMul", net.stored(net.random(2, 7), "left"), table), net.stored(net.random(10, 2), "right")
    )
    case = check_equivalence(net.model(y), plans=("random",) * 6)
    assert case.groups_of("left", 1) > {case.group_of("a.weight", 1)}


def test_reflection_on_the_channel_axis_freezes() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="conv")
    y = net.op("Pad", x, net.ints(0, 1, 0, 0, 0, 1, 0, 0), mode="reflect")
    case = check_equivalence(net.model(net.conv(y, 7, 2)), prunable=False)
    assert "repeats" in case.why_frozen("conv.weight", 0)


def test_reflection_of_space_only() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="conv")
    y = net.op("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
    assert check_equivalence(net.model(net.conv(y, 5, 2))).size_of("conv.weight", 0) == 5


@pytest.mark.parametrize("index", [[3, 0, 5], [-1, -6, 2, 2], [5, 4, 3, 2, 1, 0], [1]])
def test_gathering_channels_with_constant_indices(index: list[int]) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    y = net.op("Gather", x, net.stored(np.array(index, np.int32), "index"), axis=1)
    case = check_equivalence(net.model(net.conv(y, len(index), 2, name="head"), net.conv(x, 6, 2, name="other")))
    full = case.plan()
    units = {g.id: tuple(range(g.size)) for g in case.groups.values()}
    first = next(iter(units))
    if len(units[first]) > 1:
        small = check_plan(case, case.plan(**{first: units[first][1:]}))
        assert initializer(small, "index").dtype == np.int32
    assert check_plan(case, full).SerializeToString() == case.model.SerializeToString()


def test_gathering_one_channel_freezes_that_one_only() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    y = net.op("Unsqueeze", net.op("Gather", x, net.stored(np.array(-2), "index"), axis=1), net.ints(1))
    case = check_equivalence(net.model(net.op("Add", y, net.scalar(1.0)), net.conv(x, 6, 2, name="head")))
    assert case.size_of("conv.weight", 0) == 5
    plan = case.plan(conv=(2, 3))
    assert kept_indices(case, plan, "conv.weight", 0).tolist() == [2, 3, 4]
    assert initializer(check_plan(case, plan), "index") == 2


@pytest.mark.parametrize("form", ["sizes", "sizes of two axes", "scales"])
def test_resizing_by_sizes_that_spell_the_channels(form: str) -> None:
    net = Net(opset=18)
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    if form == "sizes":
        y = net.op("Resize", x, "", "", net.ints(1, 6, 8, 7), mode="nearest")
    elif form == "sizes of two axes":
        y = net.op("Resize", x, "", "", net.ints(8, 7), mode="nearest", axes=[2, 3])
    else:
        y = net.op("Resize", x, "", net.stored(np.array([1, 1, 2, 1.75], np.float32)), mode="linear")
    case = check_equivalence(net.model(net.conv(y, 6, 2)))
    assert case.size_of("conv.weight", 0) == 6


def test_tiling_and_expanding_the_channels() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 4, name="conv")
    y = net.op("Tile", x, net.ints(1, 3, 1, 1))
    case = check_equivalence(net.model(net.conv(y, 12, 2, name="head")))
    assert kept_indices(case, case.plan(conv=(0, 3)), "head.weight", 1).tolist() == [0, 3, 4, 7, 8, 11]
