"""Reductions over axes, searches along one, and cumulative sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .registry import register
from .values import flat

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep).trunc().to(x.dtype)


def _max(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amax(axes, keepdim=keep) if x.numel() else _of_nothing(x, axes, keep, largest=False)


def _min(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amin(axes, keepdim=keep) if x.numel() else _of_nothing(x, axes, keep, largest=True)


def _of_nothing(x: Tensor, axes: list[int], keep: bool, *, largest: bool) -> Tensor:
    """Return the extreme of no entries: the value that every other beats."""
    shape = _sum(x.to(torch.int64), axes, keep).shape
    if x.dtype == torch.bool:
        value: float | bool = largest
    elif x.is_floating_point():
        value = math.inf if largest else -math.inf
    else:
        value = torch.iinfo(x.dtype).max if largest else torch.iinfo(x.dtype).min
    return torch.full(shape, value, dtype=x.dtype, device=x.device)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % max(x.dim(), 1) for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.linalg.vector_norm(x, 2, axes, keepdim=keep)
    return _sum_square(x, axes, keep).to(torch.float64).sqrt().to(x.dtype)


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x, axes, keep).log()


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep)


def _sum_square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x.square(), axes, keep)


def _register(name: str, reduce: Reduction) -> None:
    """Register a reduction: over the axes given as an attribute or an input; over all of them without."""

    @register(name, host=["axes"])
    def reduction(x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        axes = [] if axes is None else flat(axes)
        if not axes:
            if noop_with_empty_axes:
                return reduce(x.unsqueeze(-1), [-1], False)
            axes = [*range(x.dim())]
        return reduce(x, axes, bool(keepdims))

    reduction.__name__ = reduction.__qualname__ = name


for _name, _reduce in {
    "ReduceSum": _sum, "ReduceMean": _mean, "ReduceMax": _max, "ReduceMin": _min, "ReduceProd": _prod, "ReduceL1": _l1,
    "ReduceL2": _l2, "ReduceLogSum": _log_sum, "ReduceLogSumExp": _log_sum_exp, "ReduceSumSquare": _sum_square,
}.items():  # fmt: skip
    _register(_name, _reduce)
