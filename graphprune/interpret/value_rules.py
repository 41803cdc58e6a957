"""Which nodes do shape arithmetic: operator → what it means for Python values, and what kind of value it makes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .tensors import DTYPES
from .values import (
    INTEGERS,
    Host,
    Value,
    cast,
    concat,
    cut,
    filled,
    gather,
    length_of,
    product,
    reshape,
    single,
    squeeze,
    unsqueeze,
)


@dataclass(frozen=True, slots=True)
class ValueOperator:
    """A function of Python values, and what it makes of what kinds of inputs (None: it cannot)."""

    function: Callable[..., Value]
    kind: Callable[[Sequence[Host], Mapping[str, Any]], Host | None]


def _each(function: Any) -> Callable[..., Value]:
    """Return a function of numbers as one of numbers and lists, with broadcasting."""

    def broadcast(*values: Value) -> Value:
        lists = [v for v in values if isinstance(v, list)]
        if not lists:
            return single(function(*values))
        n = max(map(len, lists)) if all(map(len, lists)) else 0
        columns = [
            v * n if isinstance(v, list) and len(v) == 1 else v if isinstance(v, list) else [v] * n for v in values
        ]
        return [single(function(*row)) for row in zip(*columns, strict=True)]

    broadcast.__name__ = broadcast.__qualname__ = f"each_{function.__name__.strip('_')}"
    return broadcast


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def _where(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


def _power(a: Any, b: Any) -> Any:
    return type(a)(a**b)


def _not(a: Any) -> Any:
    return not a


def _and(a: Any, b: Any) -> Any:
    return bool(a) and bool(b)


def _or(a: Any, b: Any) -> Any:
    return bool(a) or bool(b)


def _floor(a: Any) -> Any:
    return float(math.floor(a))


def _ceil(a: Any) -> Any:
    return float(math.ceil(a))


def _alike(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host:
    return Host(max(k.rank for k in kinds), kinds[-1].dtype)


def _truth(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host:
    return Host(max(k.rank for k in kinds), torch.bool)


def _same(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host:
    return kinds[0]


def _cast_kind(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    to = DTYPES.get(attrs["to"])
    return Host(kinds[0].rank, to) if to in (*INTEGERS, torch.float32) else None


def _gather_kind(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    data, index = kinds
    return Host(index.rank, data.dtype) if data.rank == 1 and index.rank < 2 else None


def _list(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    return Host(1, kinds[0].dtype) if all(k.rank == 1 for k in kinds) else None


def _sliced(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    return kinds[0] if kinds[0].rank == 1 else None


def _raised(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    count = len(attrs["axes"]) if len(kinds) < 2 else kinds[1].length if kinds[1].rank else 1
    return Host(1, kinds[0].dtype, 1) if kinds[0].rank == 0 and count == 1 else None


def _lowered(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    told = len(kinds) > 1 or "axes" in attrs
    return Host(0, kinds[0].dtype) if kinds[0].rank == 1 and (told or kinds[0].length == 1) else None


def _filled_kind(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    dtype = DTYPES.get(attrs["value"].data_type) if "value" in attrs else torch.float32
    return Host(1, dtype) if kinds[0].rank == 1 and kinds[0].length == 1 and dtype in INTEGERS else None


def _reshaped(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    shape = kinds[1].length if len(kinds) > 1 else len(attrs["shape"])
    return Host(shape, kinds[0].dtype) if shape in (0, 1) else None


def _one(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    return Host(1, torch.int64, 1) if kinds[0].rank == 1 and not attrs else None


def _mod_kind(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    return None if attrs.get("fmod") else _alike(kinds, attrs)


def _reduced(kinds: Sequence[Host], attrs: Mapping[str, Any]) -> Host | None:
    return Host(1 if attrs.get("keepdims", 1) else 0, kinds[0].dtype) if kinds[0].rank == 1 else None


VALUES: dict[str, ValueOperator] = {
    "Gather": ValueOperator(gather, _gather_kind),
    "Concat": ValueOperator(concat, _list),
    "Slice": ValueOperator(cut, _sliced),
    "Squeeze": ValueOperator(squeeze, _lowered),
    "Unsqueeze": ValueOperator(unsqueeze, _raised),
    "Reshape": ValueOperator(reshape, _reshaped),
    "Shape": ValueOperator(length_of, _one),
    "ConstantOfShape": ValueOperator(filled, _filled_kind),
    "Cast": ValueOperator(cast, _cast_kind),
    "ReduceProd": ValueOperator(product, _reduced),
    **{name: ValueOperator(_each(f), _alike) for name, f in {
        "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": _divide, "Neg": operator.neg,
        "Abs": abs, "Min": min, "Max": max, "Where": _where, "Sqrt": math.sqrt, "Floor": _floor, "Ceil": _ceil,
    }.items()},
    "Mod": ValueOperator(_each(operator.mod), _mod_kind),
    "Pow": ValueOperator(_each(_power), _same),
    **{name: ValueOperator(_each(f), _truth) for name, f in {
        "Equal": operator.eq, "Less": operator.lt, "LessOrEqual": operator.le, "Greater": operator.gt,
        "GreaterOrEqual": operator.ge, "Not": _not, "And": _and, "Or": _or,
    }.items()},
}  # fmt: skip
"""Operator → its meaning for Python values."""
