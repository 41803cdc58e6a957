"""Sequences of tensors, and optional values: a Python tuple, and a value or None."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .registry import register

Tensors = tuple[Tensor, ...]


def index(position: Any) -> int:
    """Return a position, which may be a list of one."""
    return int(position[0] if isinstance(position, list) else position)


@register("SequenceConstruct")
def construct(*tensors: Tensor) -> Tensors:
    """Return a sequence of tensors."""
    return tensors


@register("SequenceEmpty")
def empty(*, dtype: Any = None) -> Tensors:
    """Return a sequence of nothing."""
    return ()


@register("SequenceInsert", host=["position"])
def insert(sequence: Tensors, x: Tensor, position: Any = None) -> Tensors:
    """Insert a tensor before a position, at the end without one."""
    made = list(sequence)
    made.insert(len(made) if position is None else index(position), x)
    return tuple(made)


@register("SequenceErase", host=["position"])
def erase(sequence: Tensors, position: Any = None) -> Tensors:
    """Remove the tensor at a position, the last without one."""
    made = list(sequence)
    del made[-1 if position is None else index(position)]
    return tuple(made)


@register("SequenceAt", host=["position"])
def at(sequence: Tensors, position: Any) -> Tensor:
    """Return the tensor at a position."""
    return sequence[index(position)]


@register("SequenceLength")
def length(sequence: Tensors, *, like: Tensor) -> Tensor:
    """Return how many tensors there are."""
    return torch.tensor(len(sequence), device=like.device)


@register("ConcatFromSequence")
def concat(sequence: Tensors, *, axis: int, new_axis: int = 0) -> Tensor:
    """Join the tensors along an axis, or a new one."""
    return torch.stack(list(sequence), axis) if new_axis else torch.cat(list(sequence), axis)


@register("SplitToSequence", host=["split"])
def split(x: Tensor, split: Any = None, *, axis: int = 0, keepdims: int = 1) -> Tensors:
    """Cut along an axis: into parts of a size or of the sizes given, or into single slices."""
    if split is None:
        return tuple(x.split(1, axis) if keepdims else x.unbind(axis))
    return tuple(torch.split(x, split, axis))


@register("Optional")
def optional(x: Any = None, *, type: Any = None) -> Any:
    """Return the value, or nothing."""
    return x


@register("OptionalHasElement")
def has_element(x: Any = None, *, like: Tensor) -> Tensor:
    """Tell whether there is a value."""
    return torch.tensor(x is not None, device=like.device)


@register("OptionalGetElement")
def get_element(x: Any) -> Any:
    """Return the value."""
    return x
