"""Operators of onnxruntime's own domain, com.microsoft: fusions that optimised files contain."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .ops_contraction import gemm
from .ops_conv import conv
from .registry import register

DOMAIN = "com.microsoft"


@register("Gelu", DOMAIN)
def gelu(x: Tensor) -> Tensor:
    """Return x times the normal distribution function of x."""
    return F.gelu(x)


@register("QuickGelu", DOMAIN)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """Return x sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


@register("FastGelu", DOMAIN)
def fast_gelu(x: Tensor, b: Tensor | None = None) -> Tensor:
    """Return the tanh approximation of GELU of x + b."""
    return F.gelu(x if b is None else x + b, approximate="tanh")


@register("BiasGelu", DOMAIN)
def bias_gelu(x: Tensor, b: Tensor) -> Tensor:
    """Return GELU of x + b."""
    return F.gelu(x + b)


@register("BiasSplitGelu", DOMAIN)
def bias_split_gelu(x: Tensor, b: Tensor) -> Tensor:
    """Return the first half of x + b times GELU of the second."""
    left, right = (x + b).chunk(2, -1)
    return left * F.gelu(right)


@register("BiasSoftmax", DOMAIN)
def bias_softmax(x: Tensor, b: Tensor, *, axis: int = 1, is_inner_broadcast: int = 1) -> Tensor:
    """Return the softmax of x + b over all axes from ``axis``."""
    y = x + b
    return torch.softmax(y.flatten(axis), -1).reshape(y.shape)


@register("BiasDropout", DOMAIN, several=True, fixed=["ratio", "training"])
def bias_dropout(
    x: Tensor, b: Tensor, residual: Tensor | None = None, ratio: Any = None, training: Any = None, *, seed: int = 0
) -> tuple[Tensor, ...]:
    """Add bias and residual (the dropout of inference drops nothing)."""
    y = x + b if residual is None else x + b + residual
    return y, torch.ones_like(y, dtype=torch.bool)


@register("FusedMatMul", DOMAIN)
@register("TransposeMatMul", DOMAIN)
def fused_matmul(
    a: Tensor, b: Tensor, *, alpha: float = 1.0, transA: int = 0, transB: int = 0,  # noqa: N803
    transBatchA: int = 0, transBatchB: int = 0,  # noqa: N803
) -> Tensor:  # fmt: skip
    """Return alpha a b, each transposed where asked."""
    a, b = _turned(a, transA, transBatchA), _turned(b, transB, transBatchB)
    return alpha * torch.matmul(a, b)


def _turned(x: Tensor, trans: int, batch: int) -> Tensor:
    """Transpose the last two axes; with ``batch`` the first moves before them too."""
    if batch and x.dim() > 2:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if trans and x.dim() > 1 else x


_ACTIVATIONS = {
    "Relu": F.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "LeakyRelu": F.leaky_relu,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "Clip": lambda x, low=-math.inf, high=math.inf: x.clamp(low, high), "HardSwish": F.hardswish,
}  # fmt: skip


@register("FusedConv", DOMAIN)
def fused_conv(
    x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None, *, activation: str = "",
    activation_params: list[float] | None = None, **attributes: Any,
) -> Tensor:  # fmt: skip
    """Convolve, add ``z``, activate."""
    y = conv(x, w, b, **attributes)
    y = y if z is None else y + z
    return _ACTIVATIONS[activation](y, *(activation_params or ())) if activation else y


@register("FusedGemm", DOMAIN)
def fused_gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, activation: str = "", activation_alpha: float | None = None,
    activation_beta: float | None = None, activation_gamma: float | None = None, **attributes: Any,
) -> Tensor:  # fmt: skip
    """Return an activation of a Gemm."""
    y = gemm(a, b, c, **attributes)
    given = [v for v in (activation_alpha, activation_beta) if v is not None]
    return _ACTIVATIONS[activation](y, *given) if activation else y


# Normalisation --------------------------------------------------------------------------------------------------------


def _normalised(x: Tensor, scale: Tensor, b: Tensor | None, epsilon: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], scale, b, epsilon)


def _rms(x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * scale


@register("SkipLayerNormalization", DOMAIN, several=True)
def skip_layer_norm(
    x: Tensor,
    skip: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Tensor | None, ...]:
    """Normalise x + skip + bias over the last axis; the last output is that sum."""
    total = x + skip if bias is None else x + skip + bias
    return _normalised(total, scale, b, epsilon), None, None, total


@register("SkipSimplifiedLayerNormalization", DOMAIN, several=True)
def skip_rms_norm(
    x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None, *, epsilon: float = 1e-5
) -> tuple[Tensor | None, ...]:
    """Divide x + skip + bias by its root mean square; the last output is that sum."""
    total = x + skip if bias is None else x + skip + bias
    return _rms(total, scale, epsilon), None, None, total


@register("SimplifiedLayerNormalization")
@register("SimplifiedLayerNormalization", DOMAIN)
def simplified_layer_norm(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: Any = None
) -> Tensor:
    """Divide by the root mean square over the last axis."""
    return _rms(x, scale, epsilon)


@register("EmbedLayerNormalization", DOMAIN, several=True)
def embed_layer_norm(
    words: Tensor, segments: Tensor | None, word_table: Tensor, position_table: Tensor, segment_table: Tensor | None,
    gamma: Tensor, beta: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, *,
    epsilon: float = 1e-12, mask_index_type: int = 0,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Add word, position and segment embeddings and normalise; the mask index counts each sample's tokens."""
    places = torch.arange(words.shape[1], device=words.device) if positions is None else positions
    total = word_table[words] + position_table[places]
    if segments is not None and segment_table is not None:
        total = total + segment_table[segments]
    if mask is None:
        counted = torch.zeros(words.shape[0], dtype=torch.int32, device=words.device)
    else:
        counted = (mask == 1).sum(1).to(torch.int32)
    return _normalised(total, gamma, beta, epsilon), counted, total
