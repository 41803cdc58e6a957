"""Checks that data read from a file is what a dataclass says: files are written by others, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def typed(value: T) -> T:
    """Return a dataclass whose fields hold what their annotations say; raises TypeError naming the first that does not.

    Whole numbers will do where real ones are asked for; real ones must be finite.
    """
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        if not _fits(getattr(value, name), hint):
            raise TypeError(f"{name} holds {_brief(getattr(value, name))}")
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotation's kind, all the way down."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and _all_fit(value, arguments)
    if origin is not None and issubclass(origin, Mapping):
        key, inner = arguments
        return isinstance(value, Mapping) and all(_fits(k, key) and _fits(v, inner) for k, v in value.items())
    return _is_plain(value, hint)


def _all_fit(values: tuple[Any, ...], kinds: tuple[Any, ...]) -> bool:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return all(_fits(v, kinds[0]) for v in values)
    return len(values) == len(kinds) and all(map(_fits, values, kinds))


def _is_plain(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a class that has no parameters."""
    if kind in (None, NoneType):
        return value is None
    if kind is float:
        return type(value) in (int, float) and isfinite(value)
    if kind is int:
        return type(value) is int
    if isinstance(kind, type) and is_dataclass(kind):
        return isinstance(value, kind) and all(_fits(getattr(value, n), h) for n, h in _hints(kind).items())
    return isinstance(value, kind)


def _brief(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}..."
