"""Sizes of results without data: tensors that have none, and what an operator makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .fx_mode import Capture

KEEP_SIZES = frozenset({
    "batch_norm", "dropout", "elu", "gelu", "group_norm", "hardsigmoid", "hardswish", "hardtanh", "layer_norm",
    "leaky_relu", "mish", "neg", "relu", "relu6", "sigmoid", "silu", "softmax", "softplus", "tanh",
})  # fmt: skip
"""Operators whose result is of the kind of their first argument, where that is a contiguous tensor of floats."""
KEEP_COMMON_SIZES = frozenset({"add", "mul", "sub"})
"""The same for operators of two tensors of one kind."""

Meta = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]


class UncapturableError(RuntimeError):
    """The forward does something that running it without data cannot follow."""


class Dataless(torch.Tensor):
    """A tensor with sizes, a type and a device, and no data."""

    capture: Capture
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse what comes here without being seen before; but factories detach what they made."""
        if func is torch.ops.aten.detach.default:
            return args[0].capture.twin(args[0])
        raise UncapturableError(f"{func} was called out of sight")


def dataless(meta: Meta, *, requires_grad: bool = False) -> torch.Tensor:
    """Return a tensor of these sizes, strides, type and device, without data."""
    shape, stride, dtype, device = meta
    return torch.Tensor._make_wrapper_subclass(
        Dataless, shape, strides=stride, dtype=dtype, device=device, requires_grad=requires_grad
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


def key(value: Any) -> Any:
    """Return what decides the sizes of a result: sizes of tensors, values of everything else, told apart by type."""
    if isinstance(value, torch.Tensor):
        return meta_of(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(key, value))
    return type(value), value


# What an operator makes ----------------------------------------------------------------------------------------------


def sizes_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operator on the meta device; return sizes and types, with the device it would have had."""
    if _keeps_sizes(func, args, kwargs):
        return meta_of(args[0])
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


def _keeps_sizes(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a result is known to be of the first argument's kind, so that nothing need be run."""
    name, first = func._overloadpacket.__name__.removesuffix("_"), args[0] if args else None
    if not isinstance(first, torch.Tensor) or not first.is_floating_point() or not first.is_contiguous() or kwargs:
        return False
    if name in KEEP_SIZES:
        return name != "softmax" or len(args) < 3 or args[2] is None
    two = name in KEEP_COMMON_SIZES and len(args) == 2 and isinstance(args[1], torch.Tensor)
    return two and meta_of(first) == meta_of(args[1])


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


@cache
def written(func: Any) -> tuple[str, ...]:
    """Return the arguments an operator writes to."""
    arguments = func._schema.arguments if func._schema.is_mutable else ()
    return tuple(a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write)
