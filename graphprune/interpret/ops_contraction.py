"""Matrix products and their relatives."""

from __future__ import annotations

import torch
from torch import Tensor

from .registry import register


@register("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices, with broadcast leading axes."""
    return torch.matmul(a, b)


@register("Gemm")
def gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *,
    alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0, broadcast: int = 0,  # noqa: N803
) -> Tensor:  # fmt: skip
    """Return alpha a b + beta c, with a and b transposed where asked."""
    a, b = (a.T if transA else a), (b.T if transB else b)
    if c is None:
        return alpha * (a @ b) if alpha != 1 else a @ b
    if not a.is_floating_point():
        return alpha * (a @ b) + beta * c
    return torch.addmm(c, a, b, alpha=alpha, beta=beta)


@register("Einsum")
def einsum(*operands: Tensor, equation: str) -> Tensor:
    """Sum products by an equation."""
    return torch.einsum(equation.replace(" ", ""), *operands)


@register("Det")
def determinant(x: Tensor) -> Tensor:
    """Return the determinants of matrices."""
    return torch.linalg.det(x)
