"""Random tensors: torch's own generator, so equal to onnxruntime's in distribution only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .ops_elementwise import resolve
from .registry import register


@register("RandomNormal")
def normal(
    *, shape: list[int], mean: float = 0.0, scale: float = 1.0, dtype: Any = "main", seed: float = 0.0, like: Tensor
) -> Tensor:
    """Draw from a normal distribution."""
    return torch.randn(shape, dtype=resolve(dtype, like), device=like.device) * scale + mean


@register("RandomUniform")
def uniform(
    *, shape: list[int], low: float = 0.0, high: float = 1.0, dtype: Any = "main", seed: float = 0.0, like: Tensor
) -> Tensor:
    """Draw from a uniform distribution."""
    return torch.rand(shape, dtype=resolve(dtype, like), device=like.device) * (high - low) + low


@register("RandomNormalLike")
def normal_like(
    x: Tensor, *, mean: float = 0.0, scale: float = 1.0, dtype: Any = None, seed: float = 0.0, like: Tensor
) -> Tensor:
    """Draw from a normal distribution, in the shape of x."""
    return torch.randn_like(x, dtype=x.dtype if dtype is None else resolve(dtype, like)) * scale + mean


@register("RandomUniformLike")
def uniform_like(
    x: Tensor, *, low: float = 0.0, high: float = 1.0, dtype: Any = None, seed: float = 0.0, like: Tensor
) -> Tensor:
    """Draw from a uniform distribution, in the shape of x."""
    return torch.rand_like(x, dtype=x.dtype if dtype is None else resolve(dtype, like)) * (high - low) + low


@register("Bernoulli")
def bernoulli(x: Tensor, *, dtype: Any = None, seed: float = 0.0, like: Tensor) -> Tensor:
    """Draw ones with the probabilities x, and zeros."""
    return torch.bernoulli(x).to(x.dtype if dtype is None else resolve(dtype, like))


@register("Multinomial")
def multinomial(
    x: Tensor, *, dtype: Any = torch.int32, sample_size: int = 1, seed: float = 0.0, like: Tensor
) -> Tensor:
    """Draw classes with the unnormalised log-probabilities x (batch, classes)."""
    return torch.multinomial(x.exp(), sample_size, replacement=True).to(resolve(dtype, like))
