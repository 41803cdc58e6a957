"""Passes by name, through entry points of the group "graphprune.passes": built-in and third-party alike.

Names come from the packages' metadata alone; a pass is imported when it is asked for. A plug-in that cannot be
imported, or is no pass, is reported by ``problems`` and leaves the others alone.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import GraphpruneError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .scoring import ScoringPass

ENTRY_POINTS = "graphprune.passes"
NEEDS = ("nothing", "data", "labels", "training")

IMPORT_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip
"""What a module that we did not write may raise while it is imported."""


class RegistryError(GraphpruneError):
    """The installed packages do not make a usable set of passes."""


def names() -> tuple[str, ...]:
    """Return the names of all registered passes, ascending, without importing any.

    Raises RegistryError when two packages register one name, or when graphprune itself is not installed.
    """
    return tuple(_entries())


def get(name: str, **options: Any) -> ScoringPass:
    """Return the pass of this name with its options set.

    Raises UsageError for an unknown name or option, a missing option, or a value the pass refuses, and RegistryError
    for a pass that cannot be loaded.
    """
    factory = _load(_entry(name))
    _check_options(name, factory, options)
    return factory(**options)


def _entry(name: str) -> EntryPoint:
    entries = _entries()
    if name not in entries:
        raise UsageError(
            "unknown-method", f"there is no method {name!r}", where=name, hint=_advice(name, tuple(entries), "methods")
        )
    return entries[name]


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of the options that a pass has; raises what ``get`` raises for a name."""
    return tuple(field.name for field in _fields(_load(_entry(name))))


def describe() -> list[dict[str, Any]]:
    """Return every pass that loads as plain data, by name: ``name``, ``needs``, ``summary``, ``package``, ``options``.

    Each option has ``name``, ``type``, ``default``, ``choices`` (empty where any value of the type will do) and
    ``required``, true where there is no default.
    """
    return [_description(entry, loaded) for entry, loaded in _all() if not isinstance(loaded, RegistryError)]


def problems() -> list[dict[str, str]]:
    """Return every pass that does not load as plain data, by name: ``name``, ``package``, ``message``, ``hint``."""
    return [
        {"name": entry.name, "package": _package(entry), "message": loaded.message, "hint": loaded.hint or ""}
        for entry, loaded in _all()
        if isinstance(loaded, RegistryError)
    ]


def _entries() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return _read(entry_points, tuple(sys.path))


@functools.cache
def _read(entry_points: Callable[..., Iterable[EntryPoint]], _path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Go through the metadata of every installed package, which takes its time, once for each path they lie on."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise RegistryError(
                "duplicate-pass",
                f"two passes are called {entry.name!r}: {_origin(other)} and {_origin(entry)}",
                where=entry.name,
                hint="uninstall one of the two packages",
            )
    if not any(entry.value.startswith(f"{ENTRY_POINTS}.") for entry in found.values()):
        raise RegistryError(
            "not-installed",
            "graphprune runs from its source without being installed, so its passes are not registered",
            hint="run 'pip install -e .' in the source folder, or 'pip install graphprune'",
        )
    return dict(sorted(found.items()))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown package"


def _origin(entry: EntryPoint) -> str:
    return f"{entry.value} of {_package(entry)}"


def _all() -> list[tuple[EntryPoint, Callable[..., ScoringPass] | RegistryError]]:
    return [(entry, _load_or_error(entry)) for entry in _entries().values()]


def _load_or_error(entry: EntryPoint) -> Callable[..., ScoringPass] | RegistryError:
    try:
        return _load(entry)
    except RegistryError as error:
        return error


def _load(entry: EntryPoint) -> Callable[..., ScoringPass]:
    """Import a pass: a dataclass, or a functools.partial that fixes some of its options."""
    hint = f"update or uninstall {_package(entry)}"
    try:
        loaded: Callable[..., ScoringPass] = entry.load()
    except IMPORT_FAILURES as error:
        message = f"cannot load the pass: {type(error).__name__}: {error}"
        raise RegistryError("broken-pass", message, where=entry.value, hint=hint) from error
    fault = _fault(_class(loaded))
    if fault:
        raise RegistryError("broken-pass", f"this is not a pass: {fault}", where=entry.value, hint=hint)
    return loaded


def _class(factory: Any) -> Any:
    return factory.func if isinstance(factory, functools.partial) else factory


def _fault(cls: Any) -> str:
    """Say what a class lacks to be a pass, nothing if it is one."""
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return "it is not a dataclass"
    calls = (vars(base)["__call__"] for base in cls.__mro__ if "__call__" in vars(base))
    if next(calls, None) is None:
        return "it cannot be called"
    kinds: Mapping[str, type] = {"name": str, "summary": str, "needs": str, "scale_equivariant": bool}
    found = {attribute: getattr(cls, attribute, None) for attribute in kinds}
    missing = [attribute for attribute, kind in kinds.items() if not isinstance(found[attribute], kind)]
    if missing:
        return f"it has no {missing[0]}"
    return "" if found["needs"] in NEEDS else f"needs is none of {', '.join(NEEDS)}"


def _fields(factory: Any) -> list[dataclasses.Field[Any]]:
    """Return the options that a user may set."""
    fixed = factory.keywords if isinstance(factory, functools.partial) else {}
    return [f for f in dataclasses.fields(_class(factory)) if f.init and f.name not in fixed]


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_options(name: str, factory: Any, options: Mapping[str, Any]) -> None:
    known = {f.name: f for f in _fields(factory)}
    for option in options:
        if option not in known:
            hint = _advice(option, tuple(known), f"options of {name}")
            raise UsageError("unknown-option", f"{name} has no option {option!r}", where=option, hint=hint)
    for option, field in known.items():
        if _required(field) and option not in options:
            raise UsageError("missing-option", f"{name} needs the option {option!r}", where=name, hint=f"give {option}")


def _advice(word: str, known: Sequence[str], what: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), known, n=1)
    listing = f"the {what} are {', '.join(known)}" if known else f"there are no {what}"
    return f"did you mean {close[0]!r}? {listing}" if close else listing


def _description(entry: EntryPoint, factory: Callable[..., ScoringPass]) -> dict[str, Any]:
    cls = _class(factory)
    fixed = factory.keywords if isinstance(factory, functools.partial) else {}
    note = f" ({', '.join(f'{k}={v!r}' for k, v in fixed.items())})" if fixed else ""
    return {
        "name": entry.name,
        "needs": cls.needs,
        "summary": cls.summary + note,
        "package": _package(entry),
        "options": [_option(cls, field) for field in _fields(factory)],
    }


def _option(cls: type, field: dataclasses.Field[Any]) -> dict[str, Any]:
    hint = _hint(cls, field.name)
    choices = list(get_args(hint)) if get_origin(hint) is Literal else []
    kind = type(choices[0]).__name__ if choices else _kind(hint, str(field.type))
    return {
        "name": field.name,
        "type": kind,
        "default": None if field.default is dataclasses.MISSING else field.default,
        "choices": choices,
        "required": _required(field),
    }


def _kind(hint: Any, written: str) -> str:
    """Return what a value may be: the names of types and, beside them, words such as auto."""
    if get_origin(hint) not in (Union, UnionType):
        return getattr(hint, "__name__", written)
    parts = (get_args(part) if get_origin(part) is Literal else (part,) for part in get_args(hint))
    return " | ".join(_word(part) for each in parts for part in each)


def _word(part: Any) -> str:
    return "None" if part is type(None) else str(getattr(part, "__name__", part))


def _hint(cls: type, name: str) -> Any:
    """Resolve the annotation of a field; None where it names what only a type checker imports."""
    owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
    alone = SimpleNamespace(__annotations__={name: inspect.get_annotations(owner)[name]})
    try:
        return get_type_hints(alone, vars(sys.modules[owner.__module__]))[name]
    except (NameError, AttributeError, TypeError, KeyError):
        return None
