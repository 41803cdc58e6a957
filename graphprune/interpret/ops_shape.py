"""Operators that change or make shapes: reshape, transpose, expand, tile, concat, and tensors made from nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .ops_elementwise import resolve
from .registry import register
from .values import flat


@register("Reshape", host=["shape"])
def reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    """Reshape; 0 copies the size of the same axis (unless ``allowzero``), one -1 follows from the rest."""
    return x.reshape([x.shape[k] if not allowzero and n == 0 else n for k, n in enumerate(shape)])


@register("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Merge the axes before and from ``axis`` into a matrix."""
    axis = axis + x.dim() if axis < 0 else axis
    rows = 1
    for n in x.shape[:axis]:
        rows = rows * n
    columns = 1
    for n in x.shape[axis:]:
        columns = columns * n
    return x.reshape(rows, columns)


@register("Transpose")
def transpose(x: Tensor, *, perm: list[int] | None = None) -> Tensor:
    """Permute the axes; reverse them without ``perm``."""
    return x.permute([*reversed(range(x.dim()))] if perm is None else perm)


@register("Squeeze", host=["axes"])
def squeeze(x: Tensor, axes: Any = None) -> Tensor:
    """Drop axes of size one: those given, or all."""
    return x.squeeze() if axes is None else x.squeeze(tuple(flat(axes)))


@register("Unsqueeze", host=["axes"])
def unsqueeze(x: Tensor, axes: Any) -> Tensor:
    """Insert axes of size one, at places in the result."""
    axes = flat(axes)
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@register("Expand", host=["shape"])
def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Broadcast against a shape, which may itself be broadcast."""
    missing = len(shape) - x.dim()
    if missing < 0:
        shape = [1] * -missing + list(shape)
    sizes = [1] * max(missing, 0) + list(x.shape)
    return x.expand([m if n == 1 else n for n, m in zip(shape, sizes, strict=True)])


@register("Tile", host=["repeats"])
def tile(x: Tensor, repeats: list[int]) -> Tensor:
    """Repeat along every axis."""
    return x.repeat(repeats)


@register("Concat")
def concat(*parts: Tensor, axis: int = 1) -> Tensor:
    """Join along an axis."""
    return torch.cat(parts, axis)


@register("Split", several=True, host=["split"])
def split(
    x: Tensor, split: list[int] | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int
) -> tuple[Tensor, ...]:
    """Cut along an axis: into parts of the sizes given, or equal ones of which the last may be smaller."""
    if split is not None:
        return tuple(torch.split(x, split, axis))
    step = -(-x.shape[axis] // outputs)
    n = x.shape[axis]
    return tuple(x.narrow(axis, k * step, min(step, n - k * step)) for k in range(outputs))


@register("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes as a tensor; only where they are no use as Python numbers."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


@register("Size")
def size(x: Tensor) -> Tensor:
    """Return the number of elements as a tensor."""
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


@register("ConstantOfShape", host=["shape"])
def constant_of_shape(shape: list[int], *, value: Tensor | None = None, like: Tensor) -> Tensor:
    """Return a tensor of equal entries, zeros without a value."""
    if value is None:
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    return value.reshape(()).expand(shape)


@register("Range", either=["start", "limit", "delta"])
def arange(start: Any, limit: Any, delta: Any, *, like: Tensor) -> Tensor:
    """Count from start to below limit, in the type of the tensors given; of numbers alone, as their kind."""
    given = (start, limit, delta)
    bounds = [v.item() if isinstance(v, Tensor) else flat(v)[0] for v in given]
    typed = [v.dtype for v in given if isinstance(v, Tensor)]
    dtype = typed[0] if typed else like.dtype if any(isinstance(b, float) for b in bounds) else torch.int64
    return torch.arange(*bounds, dtype=dtype, device=like.device)


@register("EyeLike")
def eye_like(x: Tensor, *, dtype: Any = None, k: int = 0, like: Tensor) -> Tensor:
    """Return a matrix of the shape of x with ones on its k-th diagonal."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape)
    return (columns - rows[:, None] == k).to(x.dtype if dtype is None else resolve(dtype, like))


@register("Trilu", host=["k"])
def trilu(x: Tensor, k: int | None = None, *, upper: int = 1) -> Tensor:
    """Keep the upper or lower triangle from the k-th diagonal."""
    return torch.triu(x, k or 0) if upper else torch.tril(x, k or 0)


@register("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move channels into blocks of pixels: depth first (DCR) or column and row first (CRD)."""
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (b * b), h * b, w * b)


@register("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move blocks of pixels into channels."""
    n, c, h, w = x.shape
    b = blocksize
    y = x.reshape(n, c, h // b, b, w // b, b)
    y = y.permute(0, 3, 5, 1, 2, 4) if mode == "DCR" else y.permute(0, 1, 3, 5, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)
