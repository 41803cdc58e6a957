"""Quantisation: integers are carried as floats, so that gradients pass straight through the rounding.

A quantised tensor is a float tensor whose entries are the integers. It becomes a true integer tensor only where an
operator without a notion of carrying reads it, or at an output. The gradient of rounding is taken as one within the
range, as zero beyond it (the straight-through estimator).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .ops_conv import conv
from .registry import register

_RANGE = {
    torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int16: (-32768, 32767), torch.uint16: (0, 65535),
    torch.int32: (-(2**31), 2**31 - 1),
}  # fmt: skip


def settle(x: Tensor, kind: torch.dtype | Tensor) -> Tensor:
    """Return a carried tensor as the integers it stands for; ``kind`` is their type, or a tensor of it."""
    return x.to(kind if isinstance(kind, torch.dtype) else kind.dtype)


def rounded(x: Tensor, dtype: torch.dtype, bits: tuple[int, int] | None = None) -> Tensor:
    """Round to the nearest representable value (halves to even), with the gradient of clamping only."""
    if dtype.is_floating_point:
        top = torch.finfo(dtype).max
        soft = x.clamp(-top, top)
        return soft + (soft.to(dtype).to(x.dtype) - soft).detach()
    soft = x.clamp(*(bits or _RANGE[dtype]))
    return soft + (x.detach().round().clamp(*(bits or _RANGE[dtype])) - soft.detach())


def _spread(v: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Shape a scale or zero point so that it broadcasts: one a tensor, one an index of an axis, or one a block."""
    if block_size:
        return v.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    if v.dim() == 0 or v.numel() == 1:
        return v.reshape(())
    return v.reshape([-1 if k == axis % x.dim() else 1 for k in range(x.dim())])


@register("QuantizeLinear", fixed=["scale", "zero"], makes="zero")
def quantize(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: Any = None, precision: Any = None, saturate: int = 1, kind: torch.dtype | None,
    bits: tuple[int, int] | None = None,
) -> Tensor:  # fmt: skip
    """Return x / scale rounded, plus the zero point, within the integers' range: carried, if ``kind`` is known."""
    if kind is None:
        assert zero is not None
        y = quantize(x, scale, zero, axis=axis, block_size=block_size, kind=zero.dtype)
        return settle(y, zero)
    if not x.is_floating_point():
        x = x.to(scale.dtype)
    y = x / _spread(scale, x, axis, block_size)
    if zero is None:
        return rounded(y, kind, bits)
    zero = _spread(zero, x, axis, block_size).to(y.dtype)
    # Rounded before the zero point is added: an odd one would turn halves the other way.
    y = y + (y.round() - y).detach() + zero if not kind.is_floating_point else y
    return rounded(y, kind, bits)


@register("DequantizeLinear", fixed=["scale", "zero"], carried=["x", "zero"])
def dequantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: Any = None,
) -> Tensor:
    """Return (x - zero point) scale."""
    x = x.to(scale.dtype)
    if zero is not None:
        x = x - _spread(zero, x, axis, block_size).to(scale.dtype)
    return x * _spread(scale, x, axis, block_size)


@register("DynamicQuantizeLinear", several=True, makes=torch.uint8)
def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise to bytes by the range of x itself; return also the scale and the zero point (carried)."""
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round().clamp(0, 255)
    y = x / scale
    return rounded(y + (y.round() - y).detach() + zero, torch.uint8), scale, zero.to(torch.uint8)


def centred(x: Tensor, zero: Tensor | None, axis: int | None = None) -> Tensor:
    """Return x minus its zero point in float64, where sums of products of bytes are exact."""
    x = x.to(torch.float64)
    if zero is None:
        return x
    zero = zero.to(torch.float64)
    if zero.numel() == 1:
        return x - zero.reshape(())
    return x - (zero if axis is None else zero.reshape([-1 if k == axis % x.dim() else 1 for k in range(x.dim())]))


def _exact(w: Tensor) -> torch.dtype:
    """Return the narrowest type in which a convolution of bytes by w is exact: float32 adds integers up to 2**24."""
    return torch.float32 if math.prod(w.shape[1:]) * 255 * 255 < 2**24 else torch.float64


@register("MatMulInteger", carried=["a", "b", "a_zero", "b_zero"], makes=torch.int32)
def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """Multiply matrices of bytes (carried)."""
    rows = -2 if a_zero is not None and a_zero.dim() == 1 else None
    product = torch.matmul(centred(a, a_zero, rows), centred(b, b_zero))
    return product.to(a.dtype if a.is_floating_point() else torch.float32)


@register("ConvInteger", carried=["x", "w", "x_zero", "w_zero"], makes=torch.int32)
def conv_integer(
    x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None, *, auto_pad: str = "NOTSET",
    dilations: Any = None, group: int = 1, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Tensor:  # fmt: skip
    """Convolve maps of bytes (carried)."""
    dtype = _exact(w)
    product = conv(
        centred(x, x_zero).to(dtype), centred(w, w_zero, 0).to(dtype), auto_pad=auto_pad, dilations=dilations,
        group=group, pads=pads, strides=strides,
    )  # fmt: skip
    return product.to(x.dtype if x.is_floating_point() else torch.float32)


def requantized(y: Tensor, factor: Tensor, zero: Tensor, kind: torch.dtype, axis: int | None = None) -> Tensor:
    """Scale exact sums (float64) to another quantisation, as onnxruntime does: in float32, rounded before the zero."""
    if axis is not None and factor.numel() > 1:
        factor = factor.reshape([-1 if k == axis % y.dim() else 1 for k in range(y.dim())])
    y = y.to(torch.float32) * factor.to(torch.float32)
    return rounded(y + (y.round() - y).detach() + zero.to(torch.float32), kind)


_CONV_FIXED = ["x_scale", "x_zero", "w_scale", "w_zero", "y_scale", "y_zero"]


@register("QLinearConv", carried=["x", "x_zero", "w", "w_zero", "y_zero"], fixed=_CONV_FIXED, makes="y_zero")
def qlinear_conv(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor, w_zero: Tensor, y_scale: Tensor,
    y_zero: Tensor, b: Tensor | None = None, *, auto_pad: str = "NOTSET", dilations: Any = None, group: int = 1,
    kernel_shape: Any = None, pads: Any = None, strides: Any = None, kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Convolve quantised maps (carried)."""
    dtype = _exact(w)
    y = conv(
        centred(x, x_zero).to(dtype), centred(w, w_zero, 0).to(dtype), auto_pad=auto_pad, dilations=dilations,
        group=group, pads=pads, strides=strides,
    ).to(torch.float64)  # fmt: skip
    y = y if b is None else y + b.reshape(-1, *[1] * (y.dim() - 2))
    return requantized(y, x_scale * w_scale / y_scale, y_zero, kind, 1)


_MATMUL_FIXED = ["a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero"]


@register("QLinearMatMul", carried=["a", "a_zero", "b", "b_zero", "y_zero"], fixed=_MATMUL_FIXED, makes="y_zero")
@register(
    "QLinearMatMul", "com.microsoft", carried=["a", "a_zero", "b", "b_zero", "y_zero"], fixed=_MATMUL_FIXED,
    makes="y_zero",
)  # fmt: skip
def qlinear_matmul(
    a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor, y_scale: Tensor,
    y_zero: Tensor, *, kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Multiply quantised matrices (carried)."""
    rows = -2 if a_zero.dim() == 1 and a_zero.numel() > 1 else None
    y = torch.matmul(centred(a, a_zero, rows), centred(b, b_zero))
    a_factor = a_scale[:, None] if a_scale.dim() == 1 and a_scale.numel() > 1 else a_scale
    return requantized(y, a_factor * b_scale / y_scale, y_zero, kind)
