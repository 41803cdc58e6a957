"""Shape arithmetic in plain Python: what exporters leave between a Shape and the Reshape that uses it.

Sizes stay Python numbers (symbolic ones under ``torch.compile``) and lists of them, never tensors: nothing waits for a
GPU, and a module works at other sizes than it was traced with. A value of rank 0 is a number, of rank 1 a list. What
does not fit, rank 2 for one, becomes a tensor and goes on as one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from .tensors import DTYPES

Value = Any
"""A number or a list of numbers."""
SPENT = frozenset({"axis", "fmod", "allowzero"})
"""Attributes that say nothing about numbers and lists, or that only their one meaning gets this far with."""
INTEGERS = (torch.int64, torch.int32, torch.bool)


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of a Python value while the module is built: rank, ONNX type, and the length of a list if known."""

    rank: int
    dtype: torch.dtype
    length: int | None = None


def single(x: Value) -> Value:
    """Round a number to float32, as the model would; symbolic ones are left alone."""
    if isinstance(x, list):
        return [single(v) for v in x]
    return float(np.float32(x)) if isinstance(x, float) and not torch.compiler.is_compiling() else x


def shape_of(x: torch.Tensor, start: int = 0, end: int | None = None) -> list[int]:
    """Return the sizes of a tensor."""
    return list(x.shape[start:end])


def size_of(x: torch.Tensor) -> int:
    """Return the number of elements of a tensor."""
    count: int = x.numel()
    return count


def flat(x: Value) -> list[Any]:
    """Return a value as a list."""
    return list(x) if isinstance(x, (list, tuple)) else [x]


def length_of(x: list[Any]) -> list[int]:
    """Return the shape of a list."""
    return [len(x)]


def cast(x: Value, to: int) -> Value:
    """Convert to another kind of number."""
    dtype = DTYPES[to]
    convert = float if dtype.is_floating_point else bool if dtype == torch.bool else int
    return [convert(v) for v in x] if isinstance(x, list) else convert(x)


def gather(x: list[Any], index: Value) -> Value:
    """Pick entries of a list."""
    return [x[i] for i in index] if isinstance(index, list) else x[index]


def concat(*values: list[Any]) -> list[Any]:
    """Join lists."""
    return [v for part in values for v in part]


def cut(x: list[Any], starts: list[int], ends: list[int], axes: Any = None, steps: Any = None) -> list[Any]:
    """Slice a list, with ONNX' bounds."""
    step = flat(steps)[0] if steps is not None else 1
    start, end = flat(starts)[0], flat(ends)[0]
    if step < 0 and end < -len(x):
        end = None
    return x[start:end:step]


def squeeze(x: Value, axes: Any = None) -> Value:
    """Make a list of one entry a number."""
    return x[0] if isinstance(x, list) and len(x) == 1 else x


def unsqueeze(x: Value, axes: Any) -> list[Any]:
    """Make a number a list."""
    return [x]


def reshape(x: Value, shape: list[int]) -> Value:
    """Reshape between a number and a list of one entry."""
    return flat(x) if len(shape) else flat(x)[0]


def filled(shape: list[int], value: Any = 0) -> list[Any]:
    """Return a list of equal entries."""
    return [value] * shape[0]


def plain(attribute: Any) -> Any:
    """Return an attribute as Python values: a tensor of one element as that element."""
    return numpy_helper.to_array(attribute).ravel()[0].item() if isinstance(attribute, TensorProto) else attribute


def product(x: Value, axes: Any = None, keepdims: int = 1) -> Value:
    """Multiply the entries of a list."""
    result = math.prod(flat(x))
    return [result] if keepdims else result


def lift(value: Value, dtype: torch.dtype, like: torch.Tensor) -> torch.Tensor:
    """Make a Python value a tensor on the module's device; floats take the module's own type."""
    return torch.tensor(value, dtype=like.dtype if dtype.is_floating_point else dtype, device=like.device)


def lower(x: torch.Tensor) -> Value:
    """Read a tensor's values: waits for the device, so only where a shape truly depends on data."""
    return x.tolist()
