"""Resize and Upsample: separable interpolation with every coordinate rule of ONNX.

Every axis is a matrix product with a small matrix of weights (one row an output position), or a gather where the
nearest entry is taken; so gradients are exact and any axis may be resized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .registry import register
from .values import single


@dataclass(frozen=True)
class Rule:
    """How positions of the output lie on the input, and how values between entries are made."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude: bool
    antialias: bool
    outside: float


@register("Resize", since=11, host=["scales", "sizes", "roi"])
def resize(
    x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None, *,
    mode: str = "nearest", coordinate_transformation_mode: str = "half_pixel", nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, antialias: int = 0, extrapolation_value: float = 0.0,
    axes: list[int] | None = None, keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:  # fmt: skip
    """Resize by ``scales`` or to ``sizes``."""
    axes = [*range(x.dim())] if axes is None else [a % x.dim() for a in axes]
    before = [x.shape[a] for a in axes]
    if sizes:
        scales, sizes = _scales_of(before, sizes, keep_aspect_ratio_policy)
    else:
        sizes = [int(n * s) for n, s in zip(before, scales, strict=True)]
    rule = Rule(
        mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(exclude_outside), bool(antialias),
        extrapolation_value,
    )  # fmt: skip
    roi = roi if roi and rule.coordinates == "tf_crop_and_resize" else [0.0] * len(axes) + [1.0] * len(axes)
    for k, (axis, n, m, scale) in enumerate(zip(axes, before, sizes, scales, strict=True)):
        span = (roi[k], roi[k + len(axes)])
        if n != m or scale != 1 or span != (0.0, 1.0):
            x = _along(x, axis, m, float(scale), span, rule)
    return x


def _scales_of(before: list[int], sizes: list[int], policy: str) -> tuple[list[float], list[int]]:
    scales = [m / n for n, m in zip(before, sizes, strict=True)]
    if policy == "stretch":
        return scales, list(sizes)
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(scales), [int(n * scale + 0.5) for n in before]


@register("Resize", host=["scales"])
def resize_10(x: Tensor, scales: Any, *, mode: str = "nearest") -> Tensor:
    """Resize by scales as opset 10 does."""
    return resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@register("Upsample", host=["scales"])
def upsample(x: Tensor, scales: Any = None, *, mode: str = "nearest") -> Tensor:
    """Enlarge by scales: an input, or an attribute before opset 9."""
    return resize_10(x, scales, mode=mode)


def _along(x: Tensor, axis: int, size: int, scale: float, span: tuple[float, float], rule: Rule) -> Tensor:
    """Resize one axis."""
    n = x.shape[axis]
    place = _positions(n, size, scale, span, rule.coordinates, x.device)
    outside = (place < 0) | (place > n - 1) if rule.coordinates == "tf_crop_and_resize" else None
    if rule.mode == "nearest":
        y = x.index_select(axis, _nearest(place, rule.nearest).clamp(0, n - 1))
    else:
        weights = _weights(place, n, min(scale, 1.0) if rule.antialias else 1.0, rule).to(x.dtype)
        y = torch.matmul(x.movedim(axis, -1), weights.T).movedim(-1, axis)
    if outside is None:
        return y
    shape = [-1 if k == axis else 1 for k in range(x.dim())]
    return torch.where(outside.reshape(shape), torch.full_like(y, rule.outside), y)


def _positions(n: int, size: int, scale: float, span: tuple[float, float], rule: str, device: torch.device) -> Tensor:
    """Return where the output's positions lie on the input, (size,), float32 as onnxruntime computes them."""
    k = torch.arange(size, device=device, dtype=torch.float32)
    if rule == "asymmetric":
        return k / scale
    if rule == "align_corners":
        return k * ((n - 1) / (size - 1)) if size > 1 else torch.zeros_like(k)
    if rule == "pytorch_half_pixel" and size == 1:
        return torch.zeros_like(k)
    if rule == "tf_half_pixel_for_nn":
        return (k + 0.5) / scale
    if rule == "tf_crop_and_resize":
        start, end = span
        if size == 1:
            return torch.full_like(k, 0.5 * (start + end) * (n - 1))
        return start * (n - 1) + k * ((end - start) * (n - 1) / (size - 1))
    place = (k + 0.5) / scale - 0.5
    if rule == "half_pixel_symmetric":
        centre = single(n / 2) * single(1 - single(size / single(scale * n)))
        return single(centre) + (k + 0.5) / scale - 0.5
    return place


def _nearest(place: Tensor, rule: str) -> Tensor:
    """Round positions to entries."""
    if rule == "floor":
        index = place.floor()
    elif rule == "ceil":
        index = place.ceil()
    elif rule == "round_prefer_ceil":
        index = (place + 0.5).floor()
    else:
        index = (place - 0.5).ceil()
    return index.to(torch.int64)


def _weights(place: Tensor, n: int, scale: float, rule: Rule) -> Tensor:
    """Return the matrix (size, n) of how much every entry adds to every output position.

    ``scale`` below one widens the kernel, which smooths what a smaller grid cannot hold. What falls outside goes to
    the entry at the edge, or with ``exclude`` to nobody.
    """
    if rule.antialias:
        place = place.to(torch.float64)
    reach = 2.0 if rule.mode == "cubic" else 1.0
    width = int(-(-reach // scale)) + 1
    first = place.floor().to(torch.int64)
    taps = first[:, None] + torch.arange(-width, width + 1, device=place.device)
    distance = (taps - place[:, None]).abs() * scale
    value = _cubic(distance, rule.cubic) if rule.mode == "cubic" else (1 - distance).clamp(min=0)
    inside = (taps >= 0) & (taps < n)
    if rule.exclude:
        value = torch.where(inside, value, 0)
    value = value / value.sum(1, keepdim=True)
    return torch.zeros([len(place), n], dtype=value.dtype, device=place.device).scatter_add(
        1, taps.clamp(0, n - 1), value
    )


def _cubic(d: Tensor, a: float) -> Tensor:
    """Return Keys' cubic kernel at a distance."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
