"""A copy of the user's module in which sliced tensors and mended attributes take the place of the original ones."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import nn

from ...frontends.fx.modules import modules_of, stored_tensors
from ..fx.cuts import Cut, sliced

COPY_ERRORS = (TypeError, RuntimeError, NotImplementedError, AttributeError)
"""What ``copy.deepcopy`` raises for modules that hold what cannot be copied."""


@dataclass(frozen=True)
class Edit:
    """An attribute of the module at ``path``: ``name`` may go on into an object it holds ("config.num_heads")."""

    path: str
    name: str
    value: Any


def class_copy(module: nn.Module, cuts: Mapping[str, Cut], edits: Iterable[Edit] = ()) -> nn.Module:
    """Return a deep copy of a module with its tensors cut and its attributes edited.

    Whatever refers to a tensor in the original (ties, hooks, plain attributes) refers to its cut in the copy. Raises
    one of COPY_ERRORS for a module that cannot be copied.
    """
    memo: dict[Any, Any] = {}
    modules = modules_of(module, repeated=True)
    stored = ((name, tensor) for _, name, tensor in stored_tensors(modules))
    for name, tensor in chain(stored, _plain_tensors(dict(modules), cuts)):
        if name in cuts and id(tensor) not in memo:
            memo[id(tensor)] = sliced(tensor, cuts[name])
    result: nn.Module = _copied(module, memo)
    apply_edits(result, edits)
    return result


def _copied(value: Any, memo: dict[Any, Any]) -> Any:
    """Do what ``copy.deepcopy`` does, which takes its time over the dozen registries that every module has."""
    kind: type = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict or kind is OrderedDict:
        made = memo[id(value)] = kind()
        _copy_entries(value, made, memo)
        return made
    if kind is nn.Parameter:
        made = memo[id(value)] = nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
        return made
    if kind is torch.Tensor and _is_simple(value, memo):
        made = memo[id(value)] = value.clone()
        memo["torch"][value.untyped_storage()._cdata] = made.untyped_storage()
        return made
    if kind is set and all(type(held) in _ATOMS for held in value):
        memo[id(value)] = set(value)
        return memo[id(value)]
    if kind is tuple and all(type(held) in _ATOMS for held in value):
        return value
    state = value.__getstate__() if isinstance(value, nn.Module) and _is_ordinary(kind) else None
    if type(state) is dict:
        made = memo[id(value)] = object.__new__(kind)
        entries: dict[str, Any] = {}
        _copy_entries(state, entries, memo)
        made.__setstate__(entries)
        return made
    return copy.deepcopy(value, memo)


def _copy_entries(value: Mapping[Any, Any], made: dict[Any, Any], memo: dict[Any, Any]) -> None:
    for key, held in value.items():
        kind = type(held)
        if kind in _ATOMS:
            copied = held
        else:
            copied = memo.get(id(held))
            if copied is None and kind in _CONTAINERS and not held:
                copied = memo[id(held)] = kind()
            elif copied is None:
                copied = _copied(held, memo)
        made[key if type(key) is str else _copied(key, memo)] = copied


def _is_simple(tensor: torch.Tensor, memo: dict[Any, Any]) -> bool:
    """Tell whether a tensor has its storage for itself and nothing else to it; storages that are copied are noted."""
    if tensor.requires_grad or tensor.layout is not torch.strided or tensor.is_quantized or vars(tensor):
        return False
    storage = tensor.untyped_storage()
    alone = storage._cdata not in memo.setdefault("torch", {})
    return alone and tensor.is_contiguous() and bool(storage.nbytes() == tensor.nbytes) and not tensor.is_inference()


@cache
def _is_ordinary(kind: type) -> bool:
    """Tell whether modules of a class are copied by copying their attributes."""
    return not any(name in vars(base) for base in kind.__mro__[:-1] for name in _OWN_WAYS)


_OWN_WAYS = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__", "__new__")
"""What a class has that is copied in a way of its own."""
_CONTAINERS = {dict, OrderedDict, set}
_ATOMS = {type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, torch.Size}


def _plain_tensors(modules: Mapping[str, nn.Module], cuts: Mapping[str, Cut]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield cut tensors that are attributes without being registered."""
    for name in cuts:
        path, _, last = name.rpartition(".")
        held = vars(modules[path]).get(last) if path in modules else None
        if isinstance(held, torch.Tensor):
            yield name, held


def apply_edits(module: nn.Module, edits: Iterable[Edit]) -> None:
    """Set attributes; an object in between (a config that modules share) is copied for the module that needs it."""
    edits = tuple(edits)
    modules = dict(modules_of(module, repeated=True)) if edits else {}
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
