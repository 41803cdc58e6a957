"""Following a forward that runs on tensors without data: which node of a graph every tensor stands for.

What follows sees every operator, finds the nodes of its tensors, and answers with a tensor without data. What is done
with the operator (writing it down, comparing it with one that is expected) is left to who derives from this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
from torch import fx, nn

from .dataless import (
    Dataless,
    Kind,
    Kinds,
    UncapturableError,
    dataless,
    identity,
    meta_of,
    run_on_meta,
    strides_of,
    tensors_in,
    typed,
)
from .modules import modules_of, stored_tensors
from .operators import Operator, operator_of

MAX_NUMBERS = 4096
"""Constants up to this many elements are computed with, so that the forward may read numbers from them."""


class Held:
    """A tensor of the forward, the node it stands for now, its kind once somebody asked, and its value where known.

    ``value`` is that of a small tensor that follows from constants of the module alone.
    """

    __slots__ = ("kind", "node", "tensor", "value")

    def __init__(self, tensor: torch.Tensor, node: fx.Node, kind: Kind | None = None) -> None:
        self.tensor, self.node, self.kind = tensor, node, kind
        self.value: torch.Tensor | None = None


class Following:
    """Answers the operators of one forward; not to be reused."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.held: dict[int, Held] = {}
        self.unread: list[tuple[torch.Tensor, fx.Node, bool]] = []
        """Stored tensors that are not in ``by_storage`` yet."""
        self.by_storage: dict[Any, tuple[fx.Node, bool]] = {}
        """Node of a stored tensor, and whether it is a constant, by where its numbers are."""
        self.stored: dict[str, torch.Tensor] = {}
        self.kinds = Kinds()
        self.results: dict[Any, Any] = {}
        self.attributes: dict[int, str] | None = None
        self.unfinished: list[Any] = []
        self.autocast = _autocast()

    # What is done with it -------------------------------------------------------------------------------------------

    def place(self, name: str, tensor: torch.Tensor, letter: str) -> fx.Node:
        """Return the node of a stored tensor: a parameter ("p"), a buffer ("b") or a constant ("c")."""
        raise NotImplementedError

    def call(self, operator: Operator, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Node:
        """Return the node of an operator on nodes."""
        raise NotImplementedError

    def part(self, node: fx.Node, position: int) -> fx.Node:
        """Return the node that takes one of several results."""
        raise NotImplementedError

    def made(self, node: fx.Node, value: Any) -> None:
        """See what stands for a node's result."""

    # Stored tensors and inputs --------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Give every parameter and buffer its node."""
        for letter, name, tensor in stored_tensors(modules_of(self.module, repeated=True)):
            self._store(name, tensor, letter)

    def _store(self, name: str, tensor: torch.Tensor, letter: str) -> Held:
        node = self.place(name, tensor, letter)
        self.stored[name] = tensor
        self.unread.append((tensor, node, letter == "c"))
        return self.held.setdefault(id(tensor), Held(tensor, node))

    def stand_in(self, node: fx.Node, tensor: torch.Tensor) -> torch.Tensor:
        """Return what stands for an input of the user's."""
        kind = self.kinds[meta_of(tensor)]
        return self._hold(node, kind, dataless(kind, requires_grad=tensor.requires_grad))

    def _hold(self, node: fx.Node, kind: Kind, value: torch.Tensor) -> torch.Tensor:
        self.held[id(value)] = Held(value, node, kind)
        return value

    def twin(self, value: torch.Tensor) -> torch.Tensor:
        """Return another tensor that stands for the same node."""
        held = self.held[id(value)]
        kind = self._kind(held)
        return self._hold(held.node, kind, dataless(kind))

    def _constant(self, tensor: torch.Tensor) -> Held:
        """Give a tensor that the module holds elsewhere, or makes from numbers, its node."""
        if isinstance(tensor, Dataless) or not torch._C._has_storage(tensor) or tensor.device.type == "meta":
            raise UncapturableError("a tensor without data came from out of sight")
        node, constant = self._stored_alike(tensor)
        if node is None:
            if self.attributes is None:
                self.attributes = dict(_plain_attributes(self.module))
            lifted = (f"lifted_tensor_{k}" for k in count())
            wanted = self.attributes.get(id(tensor), next(lifted))
            held = self._store(next(n for n in chain([wanted], lifted) if n not in self.stored), tensor, "c")
        else:
            held = self.held[id(tensor)] = Held(tensor, node)
        if constant and tensor.numel() <= MAX_NUMBERS:
            held.value = tensor
        return held

    def _stored_alike(self, tensor: torch.Tensor) -> tuple[fx.Node | None, bool]:
        """Return the node of a stored tensor over the same numbers, if there is one, and whether it is a constant."""
        for stored, node, constant in self.unread:
            if stored.numel():
                self.by_storage.setdefault(identity(stored), (node, constant))
        self.unread.clear()
        return self.by_storage.get(identity(tensor), (None, True)) if tensor.numel() else (None, True)

    def _kind(self, held: Held) -> Kind:
        if held.kind is None:
            held.kind = self.kinds[meta_of(held.tensor)]
        return held.kind

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        """Return the node that a tensor stands for now."""
        return (self.held.get(id(tensor)) or self._constant(tensor)).node

    # Operators ------------------------------------------------------------------------------------------------------

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Follow an operator and return its result without data."""
        # A forward may catch what its operators raise; then it went another way than with data, and this stays open.
        self.unfinished.append(func)
        result = self._follow(operator_of(func), func, args, kwargs)
        self.unfinished.pop()
        return result

    def _follow(self, operator: Operator, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if operator.reads:
            return self._read(func, args, kwargs)
        if operator.asks_device:
            return args[0].device
        now = _autocast()
        if now != self.autocast and any(n and not before for n, before in zip(now, self.autocast, strict=True)):
            raise UncapturableError("autocast is switched on inside the forward")
        tensors: list[Held] = []
        nodes, kinds = self._places(args, tensors)
        placed = {name: self._places((value,), tensors) for name, value in kwargs.items()} if kwargs else {}
        made = self._ruled(operator, kinds, tensors) if not kwargs else None
        if made is None:
            key = (func, typed(kinds), tuple((name, typed(kind)) for name, (_, kind) in placed.items()))
            made = self.results.get(key)
            if made is None:
                made = self.results[key] = self._asked(func, args, kwargs)
        node = self.call(operator, tuple(nodes), {name: node for name, ([node], _) in placed.items()})
        if operator.written:
            return self._in_place(operator, node, args, made)
        result = self._result(node, made) if isinstance(made, Kind) else self._several(operator, node, made)
        if tensors and tensors[0].value is not None:
            self._compute(func, args, kwargs, tensors, result)
        return result

    def _places(self, values: Sequence[Any], tensors: list[Held]) -> tuple[list[Any], list[Any]]:
        """Put nodes, and kinds, in the place of tensors; note the tensors."""
        nodes, kinds = [], []
        for value in values:
            node = kind = value
            if isinstance(value, torch.Tensor):
                held = self.held.get(id(value)) or self._constant(value)
                tensors.append(held)
                node, kind = held.node, held.kind or self._kind(held)
            elif isinstance(value, (list, tuple)):
                node, kind = self._places(value, tensors)
                node = node if isinstance(value, list) else tuple(node)
            nodes.append(node)
            kinds.append(kind)
        return nodes, kinds

    def _ruled(self, operator: Operator, kinds: Sequence[Any], tensors: Sequence[Held]) -> Kind | None:
        """Return the kind of a result that follows by rule."""
        if operator.rule is None or not tensors:
            return None
        first = tensors[0].kind
        assert first is not None
        if first.plain is None or any(t.kind is None or t.kind.plain != first.plain for t in tensors):
            return None
        shape = operator.rule(kinds)
        if shape is None or shape == first.shape:
            return first if shape is not None else None
        return self.kinds[(shape, strides_of(shape), *first.plain)]

    def _asked(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the kind of a result, or a list of several, as torch's own kernels tell it."""
        metas = run_on_meta(func, args, kwargs)
        return self.kinds[metas] if isinstance(metas, tuple) else [self.kinds[m] for m in metas]

    def _result(self, node: fx.Node, kind: Kind) -> torch.Tensor:
        value = self._hold(node, kind, dataless(kind))
        self.made(node, value)
        return value

    def _several(self, operator: Operator, node: fx.Node, kinds: Sequence[Kind]) -> Any:
        taken = [self._result(self.part(node, i), kind) for i, kind in enumerate(kinds)]
        result = taken if operator.listed else tuple(taken)
        self.made(node, result)
        return result

    def _in_place(self, operator: Operator, node: fx.Node, args: tuple[Any, ...], made: Any) -> Any:
        """Return the argument that the operator changed: from now on it stands for the new value."""
        first = operator.target._schema.arguments[0].name
        if operator.written != (first,) or not args or not isinstance(made, Kind) or made.shape != tuple(args[0].shape):
            raise UncapturableError(f"{operator.target} changes other than its first argument's values")
        target: torch.Tensor = args[0]
        held = self.held[id(target)]
        self.made(node, target if isinstance(target, Dataless) else dataless(self._kind(held)))
        held.node = node
        if held.value is not None:
            for other in self.held.values():  # others may be views of it
                other.value = None
        return target

    # Values ---------------------------------------------------------------------------------------------------------

    def _compute(self, func: Any, args: Any, kwargs: Mapping[str, Any], tensors: Sequence[Held], result: Any) -> None:
        """Compute what an operator makes of constants of the module that are neither parameters nor buffers."""
        if any(t.value is None for t in tensors):
            return
        value = self._run(func, args, kwargs)
        for made, number in zip(tensors_in(result), tensors_in(value), strict=False):
            if number.numel() <= MAX_NUMBERS:
                self.held[id(made)].value = number

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return a number that is the same for every input; raise where data would decide."""
        for tensor in tensors_in((args, tuple(kwargs.values()))):
            held = self.held.get(id(tensor)) or self._constant(tensor)
            if held.value is None:
                raise UncapturableError("the forward reads a number from a tensor")
        return self._run(func, args, kwargs)

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        with torch.no_grad(), torch._C._DisablePythonDispatcher():
            return func(*self._values(args), **{k: self._values(v) for k, v in kwargs.items()})

    def _values(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.held[id(value)].value
        return type(value)(map(self._values, value)) if isinstance(value, (list, tuple)) else value


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _plain_attributes(module: nn.Module) -> Iterator[tuple[int, str]]:
    """Yield (id, name) of tensors that are plain attributes of modules."""
    for path, m in modules_of(module):
        for name, value in vars(m).items():
            if isinstance(value, torch.Tensor):
                yield id(value), f"{path}.{name}" if path else name
