"""Names for the flat layout of a model, and the names in its bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from ..files.tensors import PLAIN, subgraphs
from .scopes import Scope


@dataclass
class Names:
    """Names for the flat layout: the model's own where they occur once."""

    counts: Counter[str]
    taken: set[str]

    @classmethod
    def of(cls, model: ModelProto) -> Names:
        """Return names for a model, of whose graph all are taken."""
        counts = Counter(_defined(model.graph))
        for function in model.functions:
            counts.update([*function.input, *(n for node in function.node for n in _made(node))])
        return cls(counts, set(_defined(model.graph, deep=False)))

    def fresh(self, name: str) -> str:
        """Return a name that nothing has yet."""
        made, k = name, 1
        while made in self.taken:
            made, k = f"{name}#{k}", k + 1
        self.taken.add(made)
        return made

    def own(self, prefix: str, name: str) -> str:
        """Return a name itself where the model has it once, otherwise behind a prefix."""
        return self.fresh(name if self.counts[name] == 1 else f"{prefix}{name}")


def _defined(graph: GraphProto, *, deep: bool = True) -> Iterator[str]:
    yield from (v.name for v in graph.input)
    inputs = {v.name for v in graph.input}
    yield from (t.name for t in graph.initializer if t.name not in inputs)
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        yield from _made(node) if deep else node.output


def _made(node: NodeProto) -> Iterator[str]:
    yield from node.output
    for attribute in node.attribute:
        if attribute.type not in PLAIN:
            for body in subgraphs(attribute):
                yield from _defined(body)


def rename_captured(body: GraphProto, scope: Scope, own: frozenset[str] = frozenset()) -> None:
    """Give what a body captures the names of the flat layout, in place; the body's own names stay."""
    own = own | {v.name for v in body.input} | {t.name for t in body.initializer}
    own |= {n for node in body.node for n in node.output}
    for node in body.node:
        for place, name in enumerate(node.input):
            if name and name not in own:
                node.input[place] = scope.flat(name)
        for attribute in node.attribute:
            for inner in subgraphs(attribute) if attribute.type not in PLAIN else ():
                rename_captured(inner, scope, own)
    for value in body.output:
        if value.name not in own:
            value.name = scope.flat(value.name)


def declared_rank(value: ValueInfoProto) -> int:
    """Return the rank that a result declares, -1 if none."""
    kind = value.type.tensor_type
    return len(kind.shape.dim) if kind.HasField("shape") else -1
