"""Operators that pick entries or put them: slices, gathers, scatters, padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .registry import register
from .values import flat


@register("Slice", host=["starts", "ends", "axes", "steps"])
def cut(
    x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None = None, steps: list[int] | None = None
) -> Tensor:
    """Slice some axes; bounds beyond the ends are clamped, negative steps go backwards."""
    axes = [*range(len(starts))] if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * x.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            index[axis] = slice(start, end, step)
        else:
            x, index[axis] = x.flip(axis), _backwards(start, end, step, x.shape[axis])
    return x[tuple(index)]


def _backwards(start: int, end: int, step: int, size: int) -> slice:
    """Return the slice of the flipped axis that a negative step takes of the axis itself."""
    start = min(start + size if start < 0 else start, size - 1)
    end = max(end + size if end < 0 else end, -1)
    return slice(max(size - 1 - start, 0), max(size - 1 - end, 0), -step)


@register("Gather", either=["indices"])
def gather(x: Tensor, indices: Any, *, axis: int = 0) -> Tensor:
    """Pick slices along an axis; negative indices count from the end."""
    if isinstance(indices, list):
        indices = torch.tensor(indices, device=x.device)
    if not isinstance(indices, Tensor):
        return x.select(axis, indices)
    n = x.shape[axis]
    picked = x.index_select(axis, torch.where(indices < 0, indices + n, indices).reshape(-1))
    axis = axis % x.dim()
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@register("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Pick entries along an axis, each by its own index."""
    return torch.gather(x, axis, _positive(indices, x.shape[axis]))


def _positive(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices).to(torch.int64)


@register("GatherND")
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Pick slices by index vectors over the axes after ``batch_dims``."""
    return x[_leading(indices, x, batch_dims)]


def _leading(indices: Tensor, x: Tensor, batch_dims: int = 0) -> tuple[Tensor, ...]:
    """Return index arrays for the leading axes of x: counters for batch axes, then the entries of index vectors."""
    rank = indices.dim() - 1
    batch = [
        torch.arange(x.shape[k], device=x.device).reshape([-1 if j == k else 1 for j in range(rank)])
        for k in range(batch_dims)
    ]
    picked = [_positive(v, x.shape[batch_dims + k]) for k, v in enumerate(indices.unbind(-1))]
    return *batch, *picked


@register("ScatterND")
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """Put slices at index vectors into a copy of x, or combine them with what is there."""
    leading = _leading(indices, x)
    if reduction in ("none", "add"):
        return x.index_put(leading, updates, accumulate=reduction == "add")
    places = torch.zeros((), dtype=torch.int64, device=x.device)
    for index, n in zip(leading, x.shape, strict=False):
        places = places * n + index
    rest = x.shape[len(leading) :]
    target = x.reshape(-1, *rest)
    where = places.reshape(-1, *[1] * len(rest)).expand(-1, *rest)
    combined = target.scatter_reduce(0, where, updates.reshape(-1, *rest), _REDUCTIONS[reduction])
    return combined.reshape(x.shape)


_REDUCTIONS = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}


@register(["ScatterElements", "Scatter"])
def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """Put entries along an axis into a copy of x, each at its own index, or combine them with what is there."""
    indices = _positive(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, _REDUCTIONS[reduction])


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@register("Pad", host=["pads", "constant_value", "axes"])
def pad(
    x: Tensor, pads: list[int], constant_value: Any = None, axes: list[int] | None = None, *,
    mode: str = "constant", value: float = 0.0,
) -> Tensor:  # fmt: skip
    """Add entries at the ends of axes, or take some away where a pad is negative."""
    rank = x.dim()
    chosen = [*range(rank)] if axes is None else [a % rank for a in axes]
    begin, end = [0] * rank, [0] * rank
    for k, axis in enumerate(chosen):
        begin[axis], end[axis] = pads[k], pads[k + len(chosen)]
    if mode != "constant":
        return _pad_by_index(x, begin, end, mode)
    widths = [n for axis in reversed(range(rank)) for n in (begin[axis], end[axis])]
    return F.pad(x, widths, value=value if constant_value is None else flat(constant_value)[0])


def _pad_by_index(x: Tensor, begin: list[int], end: list[int], mode: str) -> Tensor:
    """Pad axis by axis with entries of x itself."""
    for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
        if before or after:
            n = x.shape[axis]
            index = torch.arange(-before, n + after, device=x.device)
            if mode == "edge":
                index = index.clamp(0, n - 1)
            elif mode == "wrap":
                index = index % n
            else:
                period = max(2 * (n - 1), 1)
                index = n - 1 - (n - 1 - index % period).abs()
            x = x.index_select(axis, index)
    return x
