"""The dispatch mode that writes a forward down as ATen operators, while it runs on tensors without data."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.schema_check_mode import SchemaCheckMode

from .fx_dataless import (
    Dataless,
    Meta,
    UncapturableError,
    dataless,
    identity,
    key,
    meta_of,
    sizes_of,
    tensors_in,
    written,
)
from .fx_program import Origin

READS_DATA = frozenset({"item", "_local_scalar_dense", "is_nonzero", "equal", "allclose"})
"""Operators whose result is a Python value."""

MAX_NUMBERS = 4096
"""Constants up to this many elements are computed with, so that the forward may read numbers from them."""


class Capture(SchemaCheckMode):
    """The dispatch mode that writes operators down; not to be reused."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.__dict__["_dispatch_key"] = torch._C.DispatchKey.PreDispatch
        self.graph = fx.Graph()
        self.origins: dict[str, Origin] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.node_of: dict[int, fx.Node] = {}
        self.alive: list[torch.Tensor] = []
        self.by_storage: dict[Any, fx.Node] = {}
        self.numbers: dict[int, torch.Tensor] = {}
        """Values of small tensors that follow from constants of the module alone, by the id of what stands for them."""
        self.results: dict[Any, Any] = {}
        self.stack: list[dict[str, tuple[str, str]]] = [{}]
        self.paths = {id(m): path for path, m in module.named_modules()}
        self.attributes: dict[int, str] | None = None
        self.module = module
        self.unfinished: list[str] = []
        self.autocast = _autocast()
        self.first_input: fx.Node | None = None

    # Placeholders ---------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Give every parameter and buffer its placeholder, under the name ``torch.export`` gives it."""
        for prefix, named in (
            ("p", self.module.named_parameters(remove_duplicate=False)),
            ("b", self.module.named_buffers(remove_duplicate=False)),
        ):
            for name, tensor in named:
                self._stored(f"{prefix}_{name.replace('.', '_')}", name, tensor)

    def _stored(self, title: str, target: str, tensor: torch.Tensor) -> fx.Node:
        node = self.graph.create_node("placeholder", title, name=title)
        node.meta["val"] = tensor
        self.origins[node.name] = Origin("tensor", target)
        self.tensors[target] = tensor
        self.node_of.setdefault(id(tensor), node)
        self.alive.append(tensor)
        if tensor.numel():
            self.by_storage.setdefault(identity(tensor), node)
        return node

    def input(self, title: str, tensor: Any) -> Any:
        """Return what stands for an input of the user's; one that is no tensor stands for itself."""
        if not isinstance(tensor, torch.Tensor):
            self._placed(title, tensor)
            return tensor
        held = dataless(meta_of(tensor), requires_grad=tensor.requires_grad)
        self._placed(title, held)
        return held

    def _placed(self, title: str, value: Any) -> None:
        node = self.graph.create_node("placeholder", title, name=title)
        node.meta["val"] = value
        self.origins[node.name] = Origin("input", title)  # fx gives a node another name than a builtin's
        self.first_input = self.first_input or node
        if isinstance(value, torch.Tensor):
            self._standing_for(node, value)

    def _constant(self, tensor: torch.Tensor) -> fx.Node:
        """Give a tensor that the module holds elsewhere, or makes from numbers, its placeholder."""
        if isinstance(tensor, Dataless) or not torch._C._has_storage(tensor) or tensor.device.type == "meta":
            raise UncapturableError("a tensor without data came from out of sight")
        known = self.by_storage.get(identity(tensor)) if tensor.numel() else None
        if known is None:
            if self.attributes is None:
                self.attributes = dict(_plain_attributes(self.module))
            lifted = (f"lifted_tensor_{k}" for k in count())
            wanted = self.attributes.get(id(tensor), next(lifted))
            name = next(n for n in chain([wanted], lifted) if n not in self.tensors)
            with self.graph.inserting_before(self.first_input):
                known = self._stored(f"c_{name.replace('.', '_')}", name, tensor)
        self.node_of[id(tensor)] = known
        self.alive.append(tensor)
        if known.name.startswith("c_") and tensor.numel() <= MAX_NUMBERS:
            self.numbers[id(tensor)] = tensor
        return known

    # Operators ------------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Write an operator down and return its result without data."""
        # A forward may catch what its operators raise; then it went another way than with data, and this stays open.
        self.unfinished.append(str(func))
        result = self._record(func, args, kwargs or {})
        self.unfinished.pop()
        return result

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = func._overloadpacket.__name__
        if name in READS_DATA:
            return self._read(func, args, kwargs)
        if name == "device" and func.namespace == "prim":
            return args[0].device
        if any(now and not before for now, before in zip(_autocast(), self.autocast, strict=True)):
            raise UncapturableError("autocast is switched on inside the forward")
        call = (func, key(args), tuple((k, key(v)) for k, v in kwargs.items()))
        metas = self.results.get(call)
        if metas is None:
            metas = self.results[call] = sizes_of(func, args, kwargs)
        changed = written(func)
        target = torch.ops.aten.lift_fresh_copy.default if func is torch.ops.aten.lift_fresh.default else func
        node = self.graph.create_node("call_function", target, self._nodes(args), self._nodes(kwargs), name=name)
        node.meta["nn_module_stack"] = self.stack[-1]
        if changed:
            return self._in_place(node, changed, args, kwargs, metas)
        value = self._value(func, args, kwargs)
        result = self._results(node, metas)
        for made, number in zip(tensors_in(result), tensors_in(value), strict=False):
            if number.numel() <= MAX_NUMBERS:
                self.numbers[id(made)] = number
        return result

    def _value(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Compute what an operator makes of constants of the module that are neither parameters nor buffers."""
        given = list(tensors_in((args, tuple(kwargs.values()))))
        if not given or any(id(t) not in self.numbers for t in given):
            return None
        with torch.no_grad(), torch._C._DisablePythonDispatcher():
            return func(*self._numbers(args), **{k: self._numbers(v) for k, v in kwargs.items()})

    def _numbers(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.numbers[id(value)]
        return type(value)(map(self._numbers, value)) if isinstance(value, (list, tuple)) else value

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return a number that is the same for every input; raise where data would decide."""
        for tensor in tensors_in((args, tuple(kwargs.values()))):
            if id(tensor) not in self.numbers:
                self._nodes(tensor)  # a constant that the module holds becomes known
            if id(tensor) not in self.numbers:
                raise UncapturableError("the forward reads a number from a tensor")
        return func(*self._numbers(args), **{k: self._numbers(v) for k, v in kwargs.items()})

    def _nodes(self, value: Any) -> Any:
        """Put the nodes of tensors in their place."""
        if isinstance(value, torch.Tensor):
            node = self.node_of.get(id(value))
            return node if node is not None else self._constant(value)
        if isinstance(value, (list, tuple)):
            return [*map(self._nodes, value)] if isinstance(value, list) else tuple(map(self._nodes, value))
        if isinstance(value, dict):
            return {k: self._nodes(v) for k, v in value.items()}
        return value

    def _results(self, node: fx.Node, metas: Any) -> Any:
        if isinstance(metas, tuple):
            return self._result(node, metas)
        taken = []
        for i, meta in enumerate(metas):
            part = self.graph.create_node("call_function", operator.getitem, (node, i), name="getitem")
            part.meta["nn_module_stack"] = self.stack[-1]
            taken.append(self._result(part, meta))
        listed = node.target._schema.returns[0].type.kind() == "ListType"
        node.meta["val"] = taken if listed else tuple(taken)
        return node.meta["val"]

    def _result(self, node: fx.Node, meta: Meta) -> torch.Tensor:
        value = self._standing_for(node, dataless(meta))
        node.meta["val"] = value
        return value

    def _standing_for(self, node: fx.Node, value: torch.Tensor) -> torch.Tensor:
        value.capture = self
        self.node_of[id(value)] = node
        self.alive.append(value)
        return value

    def twin(self, value: torch.Tensor) -> torch.Tensor:
        """Return another tensor that stands for the same node."""
        return self._standing_for(self.node_of[id(value)], dataless(meta_of(value)))

    def _in_place(
        self, node: fx.Node, changed: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], metas: Any
    ) -> Any:
        """Return the argument that the operator changed: from now on it stands for the new value."""
        first = node.target._schema.arguments[0].name
        if list(changed) != [first] or not args or not isinstance(metas, tuple) or metas[0] != tuple(args[0].shape):
            raise UncapturableError(f"{node.target} changes other than its first argument's values")
        target = args[0]
        node.meta["val"] = target if isinstance(target, Dataless) else dataless(meta_of(target))
        self.node_of[id(target)] = node
        if id(target) in self.numbers:
            self.numbers.clear()  # others may be views of it
        return target

    def finish(self, results: Sequence[Any]) -> None:
        """Write the results down."""
        strange = [type(r).__name__ for r in results if not isinstance(r, (torch.Tensor, int, float, str, type(None)))]
        if strange:
            raise UncapturableError(f"the forward returns a {strange[0]}")
        self.graph.output(tuple(self._nodes(r) for r in results))

    # Modules --------------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: Any) -> None:
        """Remember the module whose forward begins."""
        path, kind = self.paths.get(id(module), ""), type(module)
        entry = (path, f"{kind.__module__}.{kind.__qualname__}")
        self.stack.append({**self.stack[-1], path: entry})

    def leave(self, module: nn.Module, args: Any, result: Any) -> None:
        """Forget the module whose forward ends."""
        self.stack.pop()


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _plain_attributes(module: nn.Module) -> Iterator[tuple[int, str]]:
    """Yield (id, name) of tensors that are plain attributes of modules."""
    for path, m in module.named_modules():
        for name, value in vars(m).items():
            if isinstance(value, torch.Tensor):
                yield id(value), f"{path}.{name}" if path else name
