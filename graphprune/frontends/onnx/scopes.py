"""The scopes of names in an ONNX model: its graph, the bodies of control flow, and every call of one of its functions.

Laid out flat (onnx_expand), every tensor has one name of its own. A scope knows what its names are called there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto

Path = tuple[int | str, ...]
"""Where a node stands: its position, then for each body or call on the way down the attribute ("" for a call) and the
position in there."""
FunctionKey = tuple[str, str, str]
"""(domain, name, overload)"""


@dataclass(eq=False)
class Item:
    """What became of one node of a scope.

    ``node``: the operation ``at``. ``stored``: the constant ``name``. ``call`` and ``taken`` (the one branch of an If
    that can be taken): the nodes of the scope ``inside``. ``control``: the operation ``at``, with a scope a body.
    """

    node: NodeProto
    kind: Literal["node", "stored", "call", "taken", "control"]
    at: int = -1
    name: str = ""
    inside: tuple[tuple[str, Scope], ...] = ()
    dead: GraphProto | None = None


Kind = Literal["main", "call", "taken", "branch", "loop"]


@dataclass(eq=False)
class Scope:
    """Nodes that see the same names; ``names`` maps their own names to those in the flat layout."""

    kind: Kind
    nodes: Sequence[NodeProto]
    opsets: Mapping[str, int]
    parent: Scope | None = None
    prefix: str = ""
    path: Path = ()
    graph: GraphProto | None = None
    function: FunctionProto | None = None
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    preset: dict[str, str] = field(default_factory=dict)
    """The names that results have outside; ``again`` for results that are given back once more."""
    again: list[tuple[str, str]] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    extra: list[int] = field(default_factory=list)
    """Operations that only pass a value on under the name it has outside; they stand at the end."""

    def flat(self, name: str) -> str:
        """Return what a name that is visible here is called in the flat layout."""
        if not name:
            return ""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent if scope.kind != "call" else None
        return name

    @property
    def home(self) -> Scope:
        """The call, or the main graph, that this scope lies in: names outside it are not visible."""
        scope = self
        while scope.parent is not None and scope.kind != "call":
            scope = scope.parent
        return scope

    @property
    def results(self) -> list[str]:
        """The names of what the scope gives back."""
        if self.function is not None:
            return list(self.function.output)
        return [] if self.graph is None else [o.name for o in self.graph.output]

    @property
    def visible(self) -> dict[str, str]:
        """The names that can be used here, by their names in the flat layout."""
        chain = [self]
        while chain[-1].kind != "call" and chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        return {flat: own for scope in reversed(chain) for own, flat in scope.names.items() if flat}

    def below(self) -> Iterator[Scope]:
        """Yield this scope and all inside it."""
        yield self
        for item in self.items:
            for _, scope in item.inside:
                yield from scope.below()

    def operations(self) -> Iterator[int]:
        """Yield the positions of the operations of this scope and all inside it."""
        for scope in self.below():
            yield from (item.at for item in scope.items if item.at >= 0)
            yield from scope.extra


@dataclass(frozen=True)
class Inner:
    """A constant stored inside a body or a function; ``reason`` says why it is frozen, if it is."""

    tensor: TensorProto
    reason: str = ""
