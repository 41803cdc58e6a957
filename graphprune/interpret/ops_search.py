"""Searches and orderings along an axis: arg-max, top-k, cumulative sums and products, one-hot, unique, compress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .registry import register


def _register_arg(name: str, search: Callable[..., Tensor]) -> None:
    """Register ArgMax or ArgMin: the first extreme entry along an axis, or the last one."""

    @register(name)
    def arg(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if not select_last_index:
            return search(x, dim=axis, keepdim=bool(keepdims))
        return x.shape[axis] - 1 - search(x.flip(axis), dim=axis, keepdim=bool(keepdims))

    arg.__name__ = arg.__qualname__ = name


_register_arg("ArgMax", torch.argmax)
_register_arg("ArgMin", torch.argmin)


@register("TopK", several=True, host=["k"])
def top_k(
    x: Tensor,
    k: Any,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return the k largest (or smallest) entries along an axis and where they are; of equal ones the first."""
    k = k[0] if isinstance(k, (list, tuple)) else k
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def _moved(x: Tensor, axis: int, reverse: int, exclusive: int, first: int, step: Callable[..., Tensor]) -> Tensor:
    """Accumulate along an axis, from its end if ``reverse``, each entry without itself if ``exclusive``."""
    x = x.flip(axis) if reverse else x
    y = step(x, axis, dtype=x.dtype)
    if exclusive:
        start = torch.full_like(y.narrow(axis, 0, 1), first)
        y = torch.cat([start, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
    return y.flip(axis) if reverse else y


def _axis(axis: Any) -> int:
    return int(axis[0]) if isinstance(axis, (list, tuple)) else int(axis)


@register("CumSum", host=["axis"])
def cumulative_sum(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Add up along an axis."""
    return _moved(x, _axis(axis), reverse, exclusive, 0, torch.cumsum)


@register("CumProd", host=["axis"])
def cumulative_product(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Multiply up along an axis."""
    return _moved(x, _axis(axis), reverse, exclusive, 1, torch.cumprod)


@register("NonZero")
def non_zero(x: Tensor) -> Tensor:
    """Return the positions of the entries that are not zero, (rank, count)."""
    return torch.nonzero(x).T


@register("OneHot", host=["depth"], fixed=["values"])
def one_hot(indices: Tensor, depth: Any, values: Tensor, *, axis: int = -1) -> Tensor:
    """Put values[1] at the index along a new axis, values[0] elsewhere (everywhere for an index out of range)."""
    depth = int(depth[0] if isinstance(depth, (list, tuple)) else depth)
    axis = axis % (indices.dim() + 1)
    indices = indices.to(torch.int64).unsqueeze(axis)
    indices = torch.where(indices < 0, indices + depth, indices)
    counter = torch.arange(depth, device=indices.device).reshape([-1, *[1] * (indices.dim() - 1 - axis)])
    return torch.where(indices == counter, values[1], values[0])


@register("Hardmax", since=13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return one at the first largest entry along an axis, zero elsewhere."""
    return F.one_hot(x.argmax(axis), x.shape[axis]).movedim(-1, axis).to(x.dtype)


@register("Hardmax")
def flat_hardmax(x: Tensor, *, axis: int = 1) -> Tensor:
    """Return one at the first largest entry over all axes from ``axis``, as before opset 13."""
    return hardmax(x.flatten(axis)).reshape(x.shape)


@register("Compress")
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """Keep the slices along an axis (of the flattened x without one) where the condition holds."""
    if axis is None:
        x, axis = x.flatten(), 0
    return x.index_select(axis, condition.nonzero().flatten())


@register("Unique", several=True)
def unique(x: Tensor, *, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:
    """Return the different slices, where each is first, which one each position has, and how often each occurs."""
    if axis is None:
        x, axis = x.flatten(), 0
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    places = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse.flatten(), places, "amin")
    if not sorted:
        order = first.argsort()
        values, first, counts = values.index_select(axis, order), first[order], counts[order]
        inverse = order.argsort()[inverse]
    return values, first, inverse, counts


@register("ReverseSequence")
def reverse_sequence(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Reverse the first ``lengths`` entries of every sequence along the time axis."""
    x = x.movedim((batch_axis, time_axis), (0, 1))
    steps = torch.arange(x.shape[1], device=x.device)
    lengths = lengths.to(torch.int64)[:, None]
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    y = x[torch.arange(x.shape[0], device=x.device)[:, None], index]
    return y.movedim((0, 1), (batch_axis, time_axis))
