"""What lowering an ATen operator may ask, and the steps it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import fx

from ...graph import Array

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One node of the graph: a family with its attributes, and the tensors it reads and makes."""

    family: str
    attrs: Mapping[str, Any]
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


@dataclass
class Names:
    """What the walk over the nodes knows so far: a tensor's name for every fx node, shapes, dtypes, small values."""

    of_node: dict[fx.Node, str] = field(default_factory=dict)
    outputs: dict[fx.Node, tuple[str, ...]] = field(default_factory=dict)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    dynamic: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def fresh(self, wanted: str) -> str:
        """Reserve a name that no tensor has yet."""
        name, k = wanted, 0
        while name in self.taken:
            k += 1
            name = f"{wanted}.{k}"
        self.taken.add(name)
        return name


@cache
def parameters_of(target: Any) -> tuple[tuple[str, Any], ...]:
    """Return (name, default) of every argument of an operator, in the order of its schema."""
    return tuple((a.name, a.default_value) for a in target._schema.arguments)


@cache
def defaults_of(target: Any) -> dict[str, Any]:
    """Return the defaults of an operator's arguments by name, in the order of its schema; not to be changed."""
    return dict(parameters_of(target))


@dataclass(frozen=True)
class Context:
    """A node of the captured graph whose tensors all have known shapes."""

    node: fx.Node
    names: Names

    @cached_property
    def args(self) -> dict[str, Any]:
        """Arguments by their name in the operator's schema, defaults filled in."""
        defaults = defaults_of(self.node.target)
        return {**defaults, **dict(zip(defaults, self.node.args, strict=False)), **self.node.kwargs}

    @property
    def op(self) -> str:
        """The operator's name without namespace, overload and the underscore of what works in place."""
        return op_name(self.node)

    def name(self, argument: str) -> str | None:
        """Return the tensor given for an argument, None where there is none."""
        value = self.args.get(argument)
        return self.names.of_node.get(value) if isinstance(value, fx.Node) else None

    def shape(self, argument: str = "self") -> Shape:
        """Return the shape of a tensor argument."""
        return self.shape_of(self.name(argument))

    def shape_of(self, name: str | None) -> Shape:
        """Return the shape of a tensor by name."""
        shape = self.names.shapes[name] if name is not None else None
        assert shape is not None, name
        return shape

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the results."""
        return self.names.outputs[self.node]

    def out_shape(self, position: int = 0) -> Shape:
        """Return the shape of a result."""
        return self.shape_of(self.outputs[position])

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensor arguments in the order of the schema."""
        items = [v for value in self.args.values() for v in (value if isinstance(value, (list, tuple)) else (value,))]
        of_node = self.names.of_node
        return tuple(of_node[v] for v in items if isinstance(v, fx.Node) and v in of_node)

    def listed(self, argument: str) -> list[str | None]:
        """Return the tensors given as a list."""
        return [self.names.of_node.get(v) if isinstance(v, fx.Node) else None for v in self.args[argument]]

    def integer(self, argument: str, default: int = 0) -> int:
        """Return an integer argument at the traced sizes."""
        value = self.args[argument]
        return default if value is None else size_of(value)

    def integers(self, argument: str) -> list[int]:
        """Return a list of integers, or a single one as a list, at the traced sizes."""
        value = self.args[argument]
        values = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
        return [size_of(v) for v in values]

    def value(self, name: str | None) -> Array | None:
        """Return the value of a tensor of integers that is the same for every input."""
        held = self.names.values.get(name) if name is not None else None
        return None if held is None else held.numpy()

    def one(
        self, family: str, attrs: Mapping[str, Any] | None = None, inputs: Sequence[str | None] | None = None
    ) -> list[Step]:
        """Return a single step; its inputs are all tensor arguments unless given."""
        return [Step(family, attrs or {}, tuple(self.tensors if inputs is None else inputs), self.outputs)]

    def by_argument(self, family: str, attrs: Mapping[str, Any], *arguments: str) -> list[Step]:
        """Return a single step that reads these arguments; absent ones are None."""
        return self.one(family, attrs, [self.name(a) for a in arguments])

    def temporary(self, shape: Sequence[int], like: str, suffix: str) -> str:
        """Make a tensor between two steps."""
        name = self.names.fresh(f"{self.outputs[0]}.{suffix}")
        self.names.shapes[name] = tuple(shape)
        self.names.dtypes[name] = self.names.dtypes[like]
        self.names.dynamic[name] = (False,) * len(shape)
        return name


Lowering = Callable[[Context], Iterable[Step]]


def op_name(node: fx.Node) -> str:
    """Return an operator's name without namespace, overload and the underscore of what works in place."""
    return _op_name(node.target)


@cache
def _op_name(target: Any) -> str:
    schema = getattr(target, "_schema", None)
    name: str = schema.name.partition("::")[2] if schema is not None else getattr(target, "__name__", str(target))
    return name.removesuffix("_") if name.endswith("_") and not name.endswith("__") else name


def size_of(value: Any) -> int:
    """Return an integer, a symbolic one at the traced size."""
    if isinstance(value, fx.Node):
        value = value.meta["val"]
    if isinstance(value, torch.SymInt):
        hint = value.node.hint
        return -1 if hint is None else int(hint)
    return int(value)
