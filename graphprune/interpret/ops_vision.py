"""Detection and sampling: non-maximum suppression, RoiAlign, GridSample, Col2Im, deformable convolution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .registry import register


@register("NonMaxSuppression", host=["most", "overlap", "least"])
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most: Any = None,
    overlap: Any = None,
    least: Any = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Return the (batch, class, box) indices kept, by falling score in each class; boxes (batch, count, 4)."""
    limit, threshold = int(_number(most, 0)), float(_number(overlap, 0.0))
    kept = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch], bool(center_point_box))
        for label in range(scores.shape[1]):
            score = scores[batch, label]
            order = torch.sort(score, descending=True, stable=True).indices
            if least is not None:
                order = order[score[order] > float(_number(least, 0.0))]
            chosen = _suppressed(corners[order], threshold, limit)
            rows = torch.tensor([batch, label], device=boxes.device).expand(len(chosen), 2)
            kept.append(torch.cat([rows, order[chosen][:, None]], 1))
    return torch.cat(kept) if kept else torch.zeros([0, 3], dtype=torch.int64, device=boxes.device)


def _number(value: Any, default: float) -> Any:
    if value is None:
        return default
    return value[0] if isinstance(value, list) else value


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    """Return boxes as (low, low, high, high)."""
    a, b = boxes[:, :2], boxes[:, 2:]
    low, high = (a - b / 2, a + b / 2) if centred else (torch.minimum(a, b), torch.maximum(a, b))
    return torch.cat([low, high], 1)


def _suppressed(boxes: Tensor, threshold: float, limit: int) -> Tensor:
    """Return the positions, in order of score, of the boxes that no better one overlaps too much."""
    low, high = torch.maximum(boxes[:, None, :2], boxes[:, :2]), torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    clashes = (both > threshold * (area[:, None] + area - both)).cpu()
    free = torch.ones(len(boxes), dtype=torch.bool)
    kept: list[int] = []
    for k in range(len(boxes)):
        if len(kept) == limit:
            break
        if free[k]:
            kept.append(k)
            free &= ~clashes[k]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def _bilinear(x: Tensor, y_at: Tensor, x_at: Tensor) -> Tensor:
    """Sample maps x (count, C, H, W) at positions (count, P), zero from one entry outside on: (count, C, P)."""
    h, w = x.shape[-2:]
    valid = (y_at >= -1) & (y_at <= h) & (x_at >= -1) & (x_at <= w)
    y_at, x_at = y_at.clamp(0, h - 1), x_at.clamp(0, w - 1)
    y0, x0 = y_at.floor().to(torch.int64), x_at.floor().to(torch.int64)
    y1, x1 = (y0 + 1).clamp(max=h - 1), (x0 + 1).clamp(max=w - 1)
    fy, fx = (y_at - y0)[:, None], (x_at - x0)[:, None]
    flat = x.flatten(2)

    def entry(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(2, (row * w + column)[:, None].expand(-1, x.shape[1], -1))

    top = entry(y0, x0) * (1 - fx) + entry(y0, x1) * fx
    bottom = entry(y1, x0) * (1 - fx) + entry(y1, x1) * fx
    return (top * (1 - fy) + bottom * fy) * valid[:, None]


@register("RoiAlign")
def roi_align(
    x: Tensor, rois: Tensor, batch: Tensor, *, mode: str = "avg", output_height: int = 1, output_width: int = 1,
    sampling_ratio: int = 0, spatial_scale: float = 1.0, coordinate_transformation_mode: str | None = None, opset: int,
) -> Tensor:  # fmt: skip
    """Average (or take the largest of) samples in the cells of every region (count, 4)."""
    half = (coordinate_transformation_mode or ("half_pixel" if opset >= 16 else "output_half_pixel")) == "half_pixel"
    made = [
        _aligned(x[int(b)], roi * spatial_scale - (0.5 if half else 0.0), half, (output_height, output_width),
                 sampling_ratio, mode)
        for roi, b in zip(rois, batch, strict=True)
    ]  # fmt: skip
    return torch.stack(made) if made else x.new_zeros(0, x.shape[1], output_height, output_width)


def _aligned(x: Tensor, roi: Tensor, half: bool, cells: tuple[int, int], ratio: int, mode: str) -> Tensor:
    """Pool one region of one map (C, H, W)."""
    left, top, right, bottom = roi
    sizes = [bottom - top, right - left]
    if not half:
        sizes = [s.clamp(min=1.0) for s in sizes]
    steps = [s / n for s, n in zip(sizes, cells, strict=True)]
    counts = [ratio if ratio > 0 else max(math.ceil(float(s)), 1) for s in steps]
    places = [
        start
        + (torch.arange(n * c, device=x.device) // c + (torch.arange(n * c, device=x.device) % c + 0.5) / c) * step
        for start, step, n, c in zip((top, left), steps, cells, counts, strict=True)
    ]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    if mode == "max":  # onnxruntime takes the largest of the weighted corners; ONNX' text agrees for its cases
        sampled = _largest_corner(x, rows.flatten(), columns.flatten())
    else:
        sampled = _bilinear(x[None], rows.flatten()[None], columns.flatten()[None])[0]
    grid = sampled.reshape(x.shape[0], cells[0], counts[0], cells[1], counts[1])
    return grid.amax((2, 4)) if mode == "max" else grid.mean((2, 4))


def _largest_corner(x: Tensor, y_at: Tensor, x_at: Tensor) -> Tensor:
    """Return, for every position, the largest of the four entries around it times their weights (C, P)."""
    h, w = x.shape[-2:]
    valid = (y_at >= -1) & (y_at <= h) & (x_at >= -1) & (x_at <= w)
    y_at, x_at = y_at.clamp(0, h - 1), x_at.clamp(0, w - 1)
    y0, x0 = y_at.floor().to(torch.int64), x_at.floor().to(torch.int64)
    y1, x1 = (y0 + 1).clamp(max=h - 1), (x0 + 1).clamp(max=w - 1)
    fy, fx = y_at - y0, x_at - x0
    corners = [
        x[:, y0, x0] * (1 - fy) * (1 - fx), x[:, y0, x1] * (1 - fy) * fx, x[:, y1, x0] * fy * (1 - fx),
        x[:, y1, x1] * fy * fx,
    ]  # fmt: skip
    return torch.stack(corners).amax(0) * valid


_SAMPLING = {"linear": "bilinear", "cubic": "bicubic"}


@register("GridSample")
def grid_sample(
    x: Tensor, grid: Tensor, *, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0
) -> Tensor:
    """Sample x (N, C, *S) at the places a grid (N, *T, rank) names, from -1 to 1 along every axis."""
    return F.grid_sample(x, grid, _SAMPLING.get(mode, mode), padding_mode, bool(align_corners))


@register("Col2Im", host=["image_shape", "block_shape"])
def col2im(
    x: Tensor, image_shape: list[int], block_shape: list[int], *, dilations: list[int] | None = None,
    pads: list[int] | None = None, strides: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """Add up overlapping blocks x (N, C * block, count) into images."""
    rank = len(image_shape)
    dilations, strides, pads = dilations or [1] * rank, strides or [1] * rank, pads or [0] * (2 * rank)
    full = [n + pads[k] + pads[k + rank] for k, n in enumerate(image_shape)]
    flat = torch.zeros((), dtype=torch.int64, device=x.device)
    for k, (n, block, stride, dilation) in enumerate(zip(full, block_shape, strides, dilations, strict=True)):
        count = (n - (block - 1) * dilation - 1) // stride + 1
        inside = torch.arange(block, device=x.device) * dilation
        places = inside[:, None] + torch.arange(count, device=x.device) * stride
        shape = [1] * (2 * rank)
        shape[k], shape[rank + k] = block, count
        flat = flat * n + places.reshape(shape)
    y = x.reshape(x.shape[0], -1, math.prod(block_shape) * x.shape[2])
    image = y.new_zeros([*y.shape[:2], math.prod(full)]).index_add(2, flat.flatten(), y).reshape(*y.shape[:2], *full)
    for k, n in enumerate(image_shape):
        image = image.narrow(2 + k, pads[k], n)
    return image


@register("DeformConv")
def deform_conv(
    x: Tensor, w: Tensor, offset: Tensor, b: Tensor | None = None, mask: Tensor | None = None, *,
    dilations: Any = None, group: int = 1, kernel_shape: Any = None, offset_group: int = 1, pads: Any = None,
    strides: Any = None,
) -> Tensor:  # fmt: skip
    """Convolve x (N, C, H, W) at places moved by offsets (N, groups * kh * kw * 2, oh, ow), weighted by a mask."""
    (kh, kw), (dh, dw) = w.shape[2:], dilations or (1, 1)
    (sh, sw), (top, left) = strides or (1, 1), (pads or (0, 0, 0, 0))[:2]
    n, c = x.shape[:2]
    oh, ow = offset.shape[2:]
    offset = offset.reshape(n, offset_group, kh * kw, 2, oh, ow)
    rows = torch.arange(kh, device=x.device).repeat_interleave(kw)[:, None, None] * dh
    columns = torch.arange(kw, device=x.device).repeat(kh)[:, None, None] * dw
    rows = rows + torch.arange(oh, device=x.device)[:, None] * sh - top + offset[:, :, :, 0]
    columns = columns + torch.arange(ow, device=x.device) * sw - left + offset[:, :, :, 1]
    maps = x.reshape(n * offset_group, c // offset_group, *x.shape[2:])
    sampled = _zero_padded(maps, rows.flatten(2).flatten(0, 1), columns.flatten(2).flatten(0, 1))
    sampled = sampled.reshape(n, offset_group, c // offset_group, kh * kw, oh, ow)
    if mask is not None:
        sampled = sampled * mask.reshape(n, offset_group, 1, kh * kw, oh, ow)
    patches = sampled.reshape(n, group, c // group * kh * kw, oh * ow)
    y = torch.einsum("gok,ngkp->ngop", w.reshape(group, w.shape[0] // group, -1), patches)
    y = y.reshape(n, w.shape[0], oh, ow)
    return y if b is None else y + b[:, None, None]


def _zero_padded(x: Tensor, y_at: Tensor, x_at: Tensor) -> Tensor:
    """Sample maps (count, C, H, W) at positions (count, ...) with zeros all around: (count, C, P)."""
    h, w = x.shape[-2:]
    grid = torch.stack([2 * x_at / max(w - 1, 1) - 1, 2 * y_at / max(h - 1, 1) - 1], -1)
    if min(h, w) > 1:
        return F.grid_sample(x, grid.flatten(1, -2)[:, None], "bilinear", "zeros", True)[:, :, 0]
    return _zero_padded(F.pad(x, (0, 1, 0, 1)), y_at, x_at)
