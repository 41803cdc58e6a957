"""Tensors without data: what is known of one, and what an operator makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from .dispatch import handler

Meta = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]
"""Sizes, strides, type and device."""


class UncapturableError(RuntimeError):
    """The forward does something that running it without data cannot follow."""


class Kind:
    """What is known of tensors without data; one object for all that are of one kind, so that ``is`` compares them.

    ``plain`` is (type, device) of kinds of floats in the order of their axes without gaps or axes of size 0, else None.
    """

    __slots__ = ("device", "dtype", "plain", "shape", "stride")

    def __init__(self, meta: Meta) -> None:
        self.shape, self.stride, self.dtype, self.device = meta
        fits = self.dtype.is_floating_point and 0 not in self.shape and self.stride == strides_of(self.shape)
        self.plain = (self.dtype, self.device) if fits else None


class Kinds(dict[Meta, Kind]):
    """Every kind that was met."""

    def __missing__(self, meta: Meta) -> Kind:
        """Make one."""
        made = self[meta] = Kind(meta)
        return made


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor in the order of its axes without gaps."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class Dataless(torch.Tensor):
    """A tensor with sizes, a type and a device, and no data."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse what comes here without being seen before; but factories detach what they made."""
        follower = handler()
        if func is torch.ops.aten.detach.default and follower is not None:
            return follower.twin(args[0])
        raise UncapturableError(f"{func} was called out of sight")

    def _touch(self, *_: Any) -> Any:
        raise UncapturableError("the forward touches single numbers of a tensor")

    apply_ = map_ = map2_ = _touch  # torch would look for the numbers, where there are none


def dataless(kind: Kind, *, requires_grad: bool = False) -> torch.Tensor:
    """Return a tensor of a kind, without data."""
    return torch.Tensor._make_wrapper_subclass(
        Dataless, kind.shape, strides=kind.stride, dtype=kind.dtype, device=kind.device, requires_grad=requires_grad
    )


def meta_of(tensor: torch.Tensor) -> Meta:
    """Return a tensor's sizes, strides, type and device."""
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device


def identity(tensor: torch.Tensor) -> Any:
    """Return what two tensor objects over the same numbers share."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors among nested arguments."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)


def typed(kinds: Any) -> Any:
    """Return what decides the kind of a result: kinds of tensors, values of everything else, told apart by type."""
    if isinstance(kinds, Kind):
        return kinds
    return tuple(map(typed, kinds)) if isinstance(kinds, (list, tuple)) else (type(kinds), kinds)


def run_on_meta(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operator on the meta device; return the result's Meta, or a list of them, on the device it would be on.

    Raises UncapturableError where the result is something else, and what the operator raises.
    """
    device = _device_of(args, kwargs)
    swapped = {k: _on_meta(v) for k, v in kwargs.items()}
    placed = list(_on_meta(args))
    for place, argument in enumerate(func._schema.arguments):
        if argument.name != "device":
            continue
        given = args[place] if place < len(args) else kwargs.get("device")
        device = device if given is None else torch.device(given)
        if place < len(args):
            placed[place] = torch.device("meta")
        else:
            swapped["device"] = torch.device("meta")
    with torch.no_grad(), torch._C._DisablePythonDispatcher():
        result = func(*placed, **swapped)
    if isinstance(result, torch.Tensor):
        return (*meta_of(result)[:3], device)
    if isinstance(result, (list, tuple)) and all(isinstance(r, torch.Tensor) for r in result):
        return [(*meta_of(r)[:3], device) for r in result]
    raise UncapturableError(f"{func} does not return tensors")


def _on_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return tuple(map(_on_meta, value)) if isinstance(value, tuple) else [*map(_on_meta, value)]
    return value


def _device_of(args: Any, kwargs: Mapping[str, Any]) -> torch.device:
    """Return the device of the first tensor that has axes, else of the first tensor, else the default one."""
    found = list(tensors_in((args, tuple(kwargs.values()))))
    found.sort(key=lambda t: t.dim() == 0)
    return found[0].device if found else torch.get_default_device()
