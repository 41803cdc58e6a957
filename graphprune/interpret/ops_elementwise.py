"""Operators that work entry by entry, with NumPy's broadcasting: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .registry import register, register_all
from .values import flat

register_all({
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Add": torch.add, "And": torch.logical_and,
    "Asin": torch.asin, "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "IsNaN": torch.isnan, "Less": torch.lt, "LessOrEqual": torch.le,
    "Log": torch.log, "Mul": torch.mul, "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or,
    "Reciprocal": torch.reciprocal, "Relu": F.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign,
    "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt,
    "Sub": torch.sub, "Tan": torch.tan, "Tanh": torch.tanh, "Xor": torch.logical_xor, "Mish": F.mish,
    "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not, "HardSwish": F.hardswish,
})  # fmt: skip


@register("Div")
def divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide; integers towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@register("Mod")
def modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """Return the remainder: of the divisor's sign, or with ``fmod`` of the dividend's."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@register("Pow", fixed=["exponent"])
def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Raise to a power; the result has the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


@register("Where")
def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Choose by a condition."""
    return torch.where(condition, a, b)


def _minimum(a: Tensor, b: Tensor) -> Tensor:
    return torch.minimum(a, b)


@register("Min")
def minimum(*operands: Tensor) -> Tensor:
    """Return the smallest of any number of tensors."""
    result = operands[0]
    for other in operands[1:]:
        result = torch.minimum(result, other)
    return result


@register("Max")
def maximum(*operands: Tensor) -> Tensor:
    """Return the largest of any number of tensors."""
    result = operands[0]
    for other in operands[1:]:
        result = torch.maximum(result, other)
    return result


@register("Sum")
def total(*operands: Tensor) -> Tensor:
    """Add any number of tensors."""
    result = operands[0]
    for other in operands[1:]:
        result = result + other
    return result


@register("Mean")
def average(*operands: Tensor) -> Tensor:
    """Average any number of tensors."""
    return total(*operands) / len(operands)


@register("Clip", either=["min", "max"], fixed=["min", "max"])
def clip(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit to [min, max], where ``max`` wins if they cross; both are numbers, or tensors if they are computed."""
    if min is not None:
        x = torch.maximum(x, min) if isinstance(min, Tensor) else x.clamp(min=flat(min)[0])
    if max is not None:
        x = torch.minimum(x, max) if isinstance(max, Tensor) else x.clamp(max=flat(max)[0])
    return x


def resolve(dtype: torch.dtype | str, like: Tensor) -> torch.dtype:
    """Return a type, where the model's own floating type ("main") is what the module has been moved to."""
    return like.dtype if isinstance(dtype, str) else dtype


@register("Cast", carried=["x"])
def cast(x: Tensor, *, to: Any, like: Tensor, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Convert to another type; what an eight-bit float cannot hold becomes its largest value with ``saturate``."""
    return _converted(x, resolve(to, like), saturate)


_EIGHT_BITS = frozenset({torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz})


def _converted(x: Tensor, dtype: torch.dtype, saturate: int) -> Tensor:
    if dtype in _EIGHT_BITS and saturate and x.dtype not in _EIGHT_BITS:
        top = torch.finfo(dtype).max
        x = x.clamp(-top, top)
    return x.to(dtype)


@register("BitCast")
def bit_cast(x: Tensor, *, to: Any, like: Tensor) -> Tensor:
    """Read the same bits as another type."""
    return x.view(resolve(to, like))


@register("CastLike")
def cast_like(x: Tensor, target: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Convert to the type of another tensor."""
    return _converted(x, target.dtype, saturate)


# Activations ----------------------------------------------------------------------------------------------------------


@register("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Return x or alpha x."""
    return F.leaky_relu(x, alpha)


@register("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Return x or slope x; the slope broadcasts."""
    return torch.where(x < 0, slope * x, x)


@register("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x or alpha (exp x - 1)."""
    return F.elu(x, alpha)


@register("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x or alpha (exp(x / alpha) - 1)."""
    return F.celu(x, alpha)


@register("Selu")
def selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    """Return gamma times x or alpha (exp x - 1)."""
    return gamma * F.elu(x, alpha)


@register("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x times the normal distribution function of x, or its tanh approximation."""
    return F.gelu(x, approximate=approximate)


@register("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return alpha x + beta limited to [0, 1]."""
    return (alpha * x + beta).clamp(0, 1)


@register("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where it is above alpha."""
    return torch.where(x > alpha, x, 0)


@register("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Move towards zero by ``bias`` beyond ``lambd``, and be zero within."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


@register("Swish")
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


@register("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Tell where an entry is infinite, of the signs asked for."""
    return ((x == math.inf) & bool(detect_positive)) | ((x == -math.inf) & bool(detect_negative))


@register("BitShift")
def bit_shift(x: Tensor, by: Tensor, *, direction: str) -> Tensor:
    """Shift the bits of integers."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch shifts these signed only
        return bit_shift(x.to(torch.int64), by.to(torch.int64), direction=direction).to(x.dtype)
    return x << by if direction == "LEFT" else x >> by
