"""The edits of one rewriting: of nodes and constants, kept apart from the model until all are known."""

from __future__ import annotations

import numpy as np
import onnx

from ...families.facts import Facts
from ...frontends.onnx.scopes import Scope
from ...frontends.onnx.trace import OnnxSource
from ...graph import Array, Graph, Node
from ...layout import Kept
from .constants import ConstantEdits, uses_of


class Editing:
    """What a rewriting has come to; mends add to it, and ``writing`` makes the model of it.

    ``edited`` holds copies of nodes by their place among the source's operations, ``before`` new nodes to put in front,
    ``dropped`` nodes to leave out; ``replaced`` are nodes edited for good. ``changed`` are values that will differ.
    """

    def __init__(self, graph: Graph, facts: Facts, kept: Kept) -> None:
        self.graph, self.facts, self.kept = graph, facts, kept
        self.source: OnnxSource = graph.source
        self.model = self.source.model if self.source.expansion is None else self.source.given
        self.opset = next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.taken = set(graph.tensors) | {n.proto.name for n in self.source.operations}
        if self.source.expansion is not None:
            self.taken = self.taken.union(*(scope.names for scope in self.source.expansion.main.below()))
        self.constants = ConstantEdits(self.source.constants, uses_of(self.source.operations, graph.outputs))
        self.edited: dict[int, onnx.NodeProto] = {}
        self.before: dict[int, list[onnx.NodeProto]] = {}
        self.dropped: set[int] = set()
        self.replaced: set[int] = set()
        self.shrunken: frozenset[str] | set[str] = frozenset()
        self.changed: dict[str, Array] = {}
        self.concats = {
            n.outputs[0]: (k, n.inputs)
            for k, n in enumerate(self.source.operations)
            if n.op == "Concat" and n.outputs[0] in graph.known
        }
        self.respelled: dict[tuple[str, bytes, int], str] = {}
        self.scope_of: dict[int, Scope] | None = None
        self.arguments: dict[tuple[int, int], Array] = {}
        """What arguments of nodes (node, input) have become so far: each axis that is cut edits its own entry."""

    def proto_index(self, k: int) -> int:
        """Return the place of a node of the graph among the source's operations."""
        return self.source.origin[k][-1]

    def proto(self, k: int) -> onnx.NodeProto:
        """Return an editable copy of the model's node."""
        return self.edit(self.proto_index(k))

    def edit(self, at: int) -> onnx.NodeProto:
        """Return an editable copy of an operation."""
        if at not in self.edited:
            copy = onnx.NodeProto()
            copy.CopyFrom(self.source.operations[at].proto)
            self.edited[at] = copy
        return self.edited[at]

    def argument(self, k: int, node: Node, place: int, attribute: str) -> tuple[Array | None, bool]:
        """Return the value an argument will have at run time, and whether it is an input (else an attribute)."""
        if (k, place) in self.arguments:
            return self.arguments[k, place], place < len(node.inputs) and node.inputs[place] is not None
        name = node.inputs[place] if place < len(node.inputs) else None
        if name is not None:
            if name in self.changed:
                return self.changed[name], True
            if name in self.graph.known:
                return self.graph.known[name].value, True
            return (self.graph.parameter(name), True) if name in self.source.constants else (None, True)
        value = self.source.operations[self.proto_index(k)].attrs.get(attribute)
        return (None if value is None else np.array(value)), False
