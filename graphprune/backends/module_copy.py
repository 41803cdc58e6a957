"""A copy of the user's module in which sliced tensors and mended attributes take the place of the original ones."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .fx_cuts import Cut, sliced

COPY_ERRORS = (TypeError, RuntimeError, NotImplementedError, AttributeError)
"""What ``copy.deepcopy`` raises for modules that hold what cannot be copied."""


@dataclass(frozen=True)
class Edit:
    """An attribute of the module at ``path``: ``name`` may go on into an object it holds ("config.num_heads")."""

    path: str
    name: str
    value: Any


def stored_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every parameter and buffer under every name it has."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def class_copy(module: nn.Module, cuts: Mapping[str, Cut], edits: Iterable[Edit] = ()) -> nn.Module:
    """Return a deep copy of a module with its tensors cut and its attributes edited.

    Whatever refers to a tensor in the original (ties, hooks, plain attributes) refers to its cut in the copy. Raises
    one of COPY_ERRORS for a module that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for name, tensor in (*stored_tensors(module), *_plain_tensors(module, cuts)):
        if name in cuts and id(tensor) not in memo:
            memo[id(tensor)] = sliced(tensor, cuts[name])
    result: nn.Module = _copied(module, memo)
    apply_edits(result, edits)
    return result


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Do what ``copy.deepcopy`` does, which takes its time over the dozen registries that every module has."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict or kind is OrderedDict:
        made = memo[id(value)] = kind()
        made.update((_copied(k, memo), _copied(v, memo)) for k, v in value.items())
        return made
    if kind is set and all(type(held) in _ATOMS for held in value):
        memo[id(value)] = set(value)
        return memo[id(value)]
    if kind is tuple and all(type(held) in _ATOMS for held in value):
        return value
    if isinstance(value, nn.Module) and not any(name in vars(base) for base in kind.__mro__[:-1] for name in _OWN_WAYS):
        state = value.__getstate__()
        if type(state) is dict:
            module = memo[id(value)] = object.__new__(kind)
            module.__setstate__({name: _copied(held, memo) for name, held in state.items()})
            return module
    return copy.deepcopy(value, memo)


_OWN_WAYS = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__", "__new__")
"""What a class has that is copied in a way of its own."""
_ATOMS = {type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, torch.Size}


def _plain_tensors(module: nn.Module, cuts: Mapping[str, Cut]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield cut tensors that are attributes without being registered."""
    modules = dict(module.named_modules(remove_duplicate=False))
    for name in cuts:
        path, _, last = name.rpartition(".")
        held = vars(modules[path]).get(last) if path in modules else None
        if isinstance(held, torch.Tensor):
            yield name, held


def apply_edits(module: nn.Module, edits: Iterable[Edit]) -> None:
    """Set attributes; an object in between (a config that modules share) is copied for the module that needs it."""
    modules = dict(module.named_modules(remove_duplicate=False))
    own: set[tuple[str, str]] = set()
    for edit in edits:
        home: Any = modules[edit.path]
        holder, _, last = edit.name.rpartition(".")
        if holder:
            if (edit.path, holder) not in own:
                own.add((edit.path, holder))
                setattr(home, holder, copy.copy(getattr(home, holder)))
            home = getattr(home, holder)
        setattr(home, last, edit.value)
