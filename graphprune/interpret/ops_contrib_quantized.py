"""Quantised operators of onnxruntime's own domain; see ops_quantize for how integers are carried."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .ops_contrib import DOMAIN
from .ops_quantize import centred, dynamic_quantize, requantized
from .registry import register

_BINARY = ["a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero"]
_UNARY = ["x_scale", "x_zero", "y_scale", "y_zero"]


def _real(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return (x.to(scale.dtype) - zero.to(scale.dtype)) * scale


def _back(y: Tensor, scale: Tensor, zero: Tensor, kind: torch.dtype) -> Tensor:
    return requantized(y, 1 / scale, zero, kind)


@register("QLinearAdd", DOMAIN, carried=["a", "a_zero", "b", "b_zero", "y_zero"], fixed=_BINARY, makes="y_zero")
def qlinear_add(
    a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor, y_scale: Tensor,
    y_zero: Tensor, *, kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Add quantised tensors (carried)."""
    return _back(_real(a, a_scale, a_zero) + _real(b, b_scale, b_zero), y_scale, y_zero, kind)


@register("QLinearMul", DOMAIN, carried=["a", "a_zero", "b", "b_zero", "y_zero"], fixed=_BINARY, makes="y_zero")
def qlinear_mul(
    a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor, y_scale: Tensor,
    y_zero: Tensor, *, kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Multiply quantised tensors (carried)."""
    return _back(_real(a, a_scale, a_zero) * _real(b, b_scale, b_zero), y_scale, y_zero, kind)


@register("QLinearGlobalAveragePool", DOMAIN, carried=["x", "x_zero", "y_zero"], fixed=_UNARY, makes="y_zero")
def qlinear_global_average_pool(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, y_scale: Tensor, y_zero: Tensor, *, channels_last: int = 0,
    kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Average the spatial axes of quantised maps (carried)."""
    axes = [*range(1, x.dim() - 1)] if channels_last else [*range(2, x.dim())]
    return _back(_real(x, x_scale, x_zero).mean(axes, keepdim=True), y_scale, y_zero, kind)


@register("QLinearSigmoid", DOMAIN, carried=["x", "x_zero", "y_zero"], fixed=_UNARY, makes="y_zero")
def qlinear_sigmoid(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, y_scale: Tensor, y_zero: Tensor, *, kind: torch.dtype
) -> Tensor:
    """Return the sigmoid of a quantised tensor (carried)."""
    return _back(torch.sigmoid(_real(x, x_scale, x_zero)), y_scale, y_zero, kind)


@register("QLinearLeakyRelu", DOMAIN, carried=["x", "x_zero", "y_zero"], fixed=_UNARY, makes="y_zero")
def qlinear_leaky_relu(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, y_scale: Tensor, y_zero: Tensor, *, alpha: float = 0.01,
    kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Return the leaky ReLU of a quantised tensor (carried)."""
    return _back(F.leaky_relu(_real(x, x_scale, x_zero), alpha), y_scale, y_zero, kind)


_GEMM_FIXED = ["a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero"]


@register("QGemm", DOMAIN, carried=["a", "a_zero", "b", "b_zero", "y_zero"], fixed=_GEMM_FIXED)
def qgemm(
    a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor, c: Tensor | None = None,
    y_scale: Tensor | None = None, y_zero: Tensor | None = None, *, alpha: float = 1.0, transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Tensor:  # fmt: skip
    """Multiply quantised matrices and add integers; quantised again (not carried) where a scale is given."""
    left, right = centred(a, a_zero), centred(b.T if transB else b, b_zero)
    total = (left.T if transA else left) @ right
    total = total if c is None else total + c
    factor = alpha * a_scale * b_scale
    if y_scale is None or y_zero is None:
        return total.to(a_scale.dtype) * factor
    return requantized(total, factor / y_scale, y_zero, y_zero.dtype).to(y_zero.dtype)


@register("DynamicQuantizeMatMul", DOMAIN, carried=["b", "b_zero"], fixed=["b_scale", "b_zero"])
def dynamic_quantize_matmul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Quantise a by its own range, multiply, scale back."""
    q, scale, zero = dynamic_quantize(a)
    y = torch.matmul(centred(q, zero), centred(b, b_zero)).to(a.dtype) * (scale * b_scale)
    return y if bias is None else y + bias


@register("MatMulIntegerToFloat", DOMAIN, carried=["a", "b", "a_zero", "b_zero"],
          fixed=["a_scale", "b_scale", "a_zero", "b_zero"])  # fmt: skip
def matmul_integer_to_float(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Multiply matrices of bytes and scale the result."""
    y = torch.matmul(centred(a, a_zero), centred(b, b_zero)).to(a_scale.dtype) * (a_scale * b_scale)
    return y if bias is None else y + bias
