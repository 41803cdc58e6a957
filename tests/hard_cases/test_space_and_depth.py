"""Case 14: pixel shuffles, YOLO's focus slices and heads, Swin's window partitions and patch merging."""

from __future__ import annotations

import numpy as np
import pytest
from checks import Coupled, check_equivalence, check_plan, coupled, kept_indices
from onnx_models import Net, initializer


def upscaled(spelling: str) -> Coupled:
    """conv to 5 * 4 channels, pixel shuffle by two, conv."""
    net = Net()
    x = net.conv(net.input(1, 3, 3, 4), 3, 20, name="conv")
    if spelling in ("DCR", "CRD"):
        y = net.op("DepthToSpace", x, blocksize=2, mode=spelling)
    else:
        y = net.transpose(net.reshape(x, 1, 5, 2, 2, 3, 4), 0, 1, 4, 2, 5, 3)
        y = net.reshape(y, 1, 5, 6, 8)
    return coupled(net.model(net.conv(y, 5, 2, name="head")))


@pytest.mark.parametrize("spelling", ["DCR", "CRD", "reshape"])
def test_a_pixel_shuffle_removes_the_four_channels_of_a_pixel_together(spelling: str) -> None:
    case = upscaled(spelling)
    check_equivalence(case.model)
    group = case.group_of("head.weight", 1)
    assert case.group_of("conv.weight", 0) == group
    assert case.groups[group].size == 5
    kept = kept_indices(case, case.plan(**{group: (1, 4)}), "conv.weight", 0).tolist()
    assert kept == ([1, 4, 6, 9, 11, 14, 16, 19] if spelling == "DCR" else [4, 5, 6, 7, 16, 17, 18, 19])


@pytest.mark.parametrize("spelling", ["SpaceToDepth", "reshape"])
def test_space_to_depth_gives_a_channel_four_places(spelling: str) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 6), 3, 5, name="conv")
    if spelling == "SpaceToDepth":
        y = net.op("SpaceToDepth", x, blocksize=2)
    else:
        y = net.reshape(net.transpose(net.reshape(x, 1, 5, 2, 2, 3, 2), 0, 3, 5, 1, 2, 4), 1, 20, 2, 3)
    case = check_equivalence(net.model(net.conv(y, 20, 2, name="head")))
    assert case.group_of("head.weight", 1) == "conv"
    assert kept_indices(case, case.plan(conv=(1, 4)), "head.weight", 1).tolist() == [1, 4, 6, 9, 11, 14, 16, 19]


@pytest.mark.parametrize("both_axes_at_once", [True, False])
def test_focus_slices_of_a_feature_map(both_axes_at_once: bool) -> None:
    """x[..., ::2, ::2] and its three neighbours, concatenated over channels."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 5, name="conv")
    end, two = net.ints(np.iinfo(np.int64).max), net.ints(2)

    def every_other(h: int, w: int) -> str:
        if both_axes_at_once:
            ends = net.ints(np.iinfo(np.int64).max, np.iinfo(np.int64).max)
            return net.op("Slice", x, net.ints(h, w), ends, net.ints(2, 3), net.ints(2, 2))
        return net.op(
            "Slice", net.op("Slice", x, net.ints(h), end, net.ints(2), two), net.ints(w), end, net.ints(3), two
        )

    parts = [every_other(h, w) for w in range(2) for h in range(2)]
    case = check_equivalence(net.model(net.conv(net.op("Concat", *parts, axis=1), 20, 4, name="focus")))
    assert case.group_of("focus.weight", 1) == "conv"
    assert kept_indices(case, case.plan(conv=(2,)), "focus.weight", 1).tolist() == [2, 7, 12, 17]


def test_a_detection_head_keeps_anchors_and_outputs_but_prunes_before() -> None:
    """YOLO: (b, anchors * outputs, h, w) → (b, anchors, h, w, outputs), decoded by slices and grids, concatenated."""
    net = Net()
    image = net.input(1, 3, 4, 4)
    levels = []
    for k, stride in enumerate((1, 2)):
        x = net.conv(image, 3, 8, 3, name=f"neck{k}", strides=[stride, stride])
        size = 4 // stride
        y = net.reshape(net.conv(x, 8, 2 * 7, name=f"detect{k}"), 1, 2, 7, size, size)
        y = net.op("Sigmoid", net.transpose(y, 0, 1, 3, 4, 2))
        xy, wh, rest = net.ops("Split", y, net.ints(2, 2, 3), outputs=3, axis=4)
        xy = net.op("Add", net.op("Mul", xy, net.scalar(2.0)), net.stored(net.random(1, 1, size, size, 2), f"grid{k}"))
        wh = net.op("Mul", net.op("Pow", wh, net.scalar(2.0)), net.stored(net.random(1, 2, 1, 1, 2), f"anchors{k}"))
        levels.append(net.reshape(net.op("Concat", xy, wh, rest, axis=4), 1, -1, 7))
    case = check_equivalence(net.model(net.op("Concat", *levels, axis=1)))
    assert sorted(case.groups) == ["neck0", "neck1"]
    assert case.why_frozen("detect0.weight", 0)


def test_a_distribution_over_bins_stays_whole() -> None:
    """YOLOv8's DFL: reshape to (4, 16, n), softmax over 16, a convolution with weights 0 … 15."""
    net = Net()
    x = net.conv(net.input(1, 3, 3, 3), 3, 8, 3, name="neck")
    y = net.reshape(net.conv(x, 8, 4 * 6, name="box"), 1, 4, 6, 9)
    y = net.op("Softmax", net.transpose(y, 0, 2, 1, 3), axis=1)
    bins = net.stored(np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1), "bins")
    case = check_equivalence(net.model(net.reshape(net.op("Conv", y, bins), 1, 4, 9)))
    assert list(case.groups) == ["neck"]
    assert not case.groups_of("bins", 1)


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_windows_are_cut_from_space_and_put_back(batch: int | str) -> None:
    """Swin: (b, h, w, c) → windows of 2 x 2 as a batch → attention there → back, around a residual."""
    net = Net()
    first = batch if isinstance(batch, int) else -1
    x = net.transpose(net.conv(net.input(batch, 3, 4, 4, name="x"), 3, 8, name="embed"), 0, 2, 3, 1)
    windows = net.transpose(net.reshape(x, first, 2, 2, 2, 2, 8), 0, 1, 3, 2, 4, 5)
    windows = net.reshape(windows, -1, 4, 8)
    qkv = net.reshape(net.linear(windows, 8, 18, name="qkv"), -1, 4, 3, 2, 3)
    qkv = net.transpose(qkv, 2, 0, 3, 1, 4)
    q, k, v = (net.op("Gather", qkv, net.stored(np.array(i)), axis=0) for i in range(3))
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), -1, 4, 6)
    y = net.reshape(net.linear(y, 6, 8, name="proj"), -1, 2, 2, 2, 2, 8)
    y = net.reshape(net.transpose(y, 0, 1, 3, 2, 4, 5), first, 4, 4, 8)
    y = net.op("Add", x, y)
    others = [{"x": (3, 3, 4, 4)}] if batch == "n" else []
    case = check_equivalence(net.model(net.linear(y, 8, 2, name="head")), others=others)
    assert case.group_of("embed.weight", 0) == case.group_of("proj.weight", 1) == case.group_of("head.weight", 0)
    assert {case.groups[g].size for g in case.groups_of("qkv.weight", 1)} == {2, 3}


def test_patch_merging_gives_a_channel_four_rows_of_the_reduction() -> None:
    net = Net()
    x = net.transpose(net.conv(net.input(1, 3, 4, 4), 3, 5, name="embed"), 0, 2, 3, 1)
    y = net.transpose(net.reshape(x, 1, 2, 2, 2, 2, 5), 0, 1, 3, 4, 2, 5)
    y = net.reshape(y, 1, 4, 20)
    case = check_equivalence(net.model(net.linear(y, 20, 4, bias=False, name="reduction")))
    assert kept_indices(case, case.plan(embed=(3,)), "reduction.weight", 0).tolist() == [3, 8, 13, 18]


def test_a_cyclic_shift_of_space_by_slices() -> None:
    """torch.roll: two slices, concatenated the other way round."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="embed")
    front = net.op("Slice", x, net.ints(0), net.ints(1), net.ints(2))
    back = net.op("Slice", x, net.ints(1), net.ints(2**62), net.ints(2))
    case = check_equivalence(net.model(net.conv(net.op("Concat", back, front, axis=2), 5, 2)))
    assert case.size_of("embed.weight", 0) == 5


def test_the_original_is_untouched() -> None:
    case = upscaled("reshape")
    before = case.model.SerializeToString()
    small = check_plan(case, case.plan(**{case.group_of("head.weight", 1): (0,)}))
    assert case.model.SerializeToString() == before
    assert initializer(small, "conv.weight").shape == (4, 3, 1, 1)
