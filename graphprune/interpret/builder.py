"""The walk over the nodes of one ONNX graph that builds its fx graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper
from torch import fx, nn

from ..errors import ModelError
from ..frontends.onnx.shapes import constant_of
from ..frontends.onnx.values import MAX_INTEGERS
from . import control, values
from .names import OWN
from .registry import ANY, Operator, find
from .roles import has_other_uses
from .scope import Scope
from .tensors import DTYPES, dense, dtype_of
from .value_rules import VALUES
from .values import INTEGERS, Host

MAIN = "main"
"""Stands in ``to`` and ``dtype`` for the model's own floating type, which follows ``module.to(dtype)``."""
NARROW = {TensorProto.INT4: (-8, 7), TensorProto.UINT4: (0, 15)}
"""Ranges of types that torch keeps in a wider one."""
TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "output_datatype", "softmax_precision", "stash_type"})


class Builder(Scope):
    """Builds the fx graph of one ONNX graph; not to be reused."""

    def run(self, graph: GraphProto | None = None) -> None:
        """Walk over the nodes (of another graph that is part of this one, if given)."""
        graph = self.source if graph is None else graph
        for tensor in graph.initializer:
            self.store(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self.constants[sparse.values.name] = dense(sparse)
        for node in graph.node:
            self.apply(node)

    def inside(self, graph: GraphProto, node: NodeProto, attribute: str) -> Builder:
        """Return a builder for a body of a node."""
        return Builder(self.shared, graph, self, (*self.place, node.output[0], attribute))

    def inline(self, graph: GraphProto, node: NodeProto, attribute: str) -> None:
        """Build a body that is certain to run as a part of this graph."""
        place, self.place = self.place, (*self.place, node.output[0], attribute)
        self.forget([t.name for t in graph.initializer] + [n for inner in graph.node for n in inner.output])
        self.run(graph)
        self.place = place
        for value, name in zip(graph.output, node.output, strict=True):
            if name and value.name != name:
                self.alias(value.name, name)

    def apply(self, node: NodeProto) -> None:
        """Add one ONNX node to the graph."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain == "" and node.op_type == "Constant":
            self._constant(node)
        elif domain == "" and node.op_type == "Identity":
            self.alias(node.input[0], node.output[0])
        elif domain == "" and node.op_type in control.CONTROL:
            control.add(self, node)
        elif domain != "" or not self._as_value(node):
            operator_ = find(domain, node.op_type, self.shared.versions.get(domain, 1), node.name or node.output[0])
            self._call(node, operator_)

    def _constant(self, node: NodeProto) -> None:
        tensor = constant_of(node)
        if tensor is None:
            raise ModelError(
                "type-unsupported", "the Constant holds neither numbers nor a dense tensor",
                where=f"node {node.name!r}", hint="store it as a dense tensor",
            )  # fmt: skip
        self.store(node.output[0], tensor)

    def _as_value(self, node: NodeProto) -> bool:
        """Do shape arithmetic on Python values, if that is what the node is; tell whether."""
        name = node.output[0]
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in ("Shape", "Size") and self.kind(node.input[0]) is None:
            function = values.shape_of if node.op_type == "Shape" else values.size_of
            self._make(node, function, (self.tensor(node.input[0]),), attrs)
            self.hosts[name] = Host(1 if node.op_type == "Shape" else 0, torch.int64)
            return True
        kind = self._value_kind(node, attrs)
        if kind is None:
            return False
        arguments = tuple(self.value(n) if n else None for n in node.input)
        self.hosts[name] = kind
        function = VALUES[node.op_type].function
        keywords = {k: values.plain(v) for k, v in attrs.items() if k not in values.SPENT}
        if any(isinstance(a, fx.Node) for a in arguments):
            self._make(node, function, arguments, keywords)
        else:
            self.literals[name] = function(*arguments, **keywords)
        return True

    def _value_kind(self, node: NodeProto, attrs: dict[str, Any]) -> Host | None:
        """Return the kind of Python value a node makes; None if it works on tensors."""
        if node.op_type not in VALUES or (node.op_type == "ConstantOfShape" and self._is_large(node.input[0])):
            return None
        given = [n for n in node.input if n]
        computed = any(self.kind(n) is not None and n in self.hosts for n in given)
        kinds = [self.kind(n, floats=computed) for n in given]
        known = [k for k in kinds if k is not None]
        if len(known) < len(kinds) or any(k.dtype not in (*INTEGERS, torch.float32) for k in known):
            return None
        return VALUES[node.op_type].kind(known, attrs)

    def _is_large(self, name: str) -> bool:
        if self.kind(name) is None:
            return False
        shape = self.value(name)
        return isinstance(shape, list) and any(not isinstance(n, fx.Node) and n > MAX_INTEGERS for n in shape)

    def _make(self, node: NodeProto, function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> fx.Node:
        made = self.graph.call_function(function, arguments, keywords)
        made.meta["onnx"] = (node.output[0],)
        self.nodes[node.output[0]] = made
        return made

    def _call(self, node: NodeProto, op: Operator) -> None:
        arguments = tuple(self._argument(op, k, name, node.output[0]) for k, name in enumerate(node.input))
        while arguments and arguments[-1] is None:
            arguments = arguments[:-1]
        keywords = self._keywords(node, op)
        carried = None
        if op.makes is not None:
            carried, bits = self._quantised(node, op)
            keywords |= {k: v for k, v in (("kind", carried), ("bits", bits)) if k in op.keywords}
        if op.is_module:
            at_call = {"like": keywords.pop("like")} if "like" in keywords else {}
            made = self.call_module(node.op_type, op.function(**keywords), arguments, at_call)
        else:
            made = self.graph.call_function(op.function, arguments, keywords)
        self.give(node.output, made, several=op.several)
        if carried is not None:
            self.carried[node.output[0]] = carried

    def _quantised(self, node: NodeProto, op: Operator) -> tuple[torch.dtype | None, tuple[int, int] | None]:
        """Return the type of the integers that an operator makes, and their range where it is narrower than that.

        There is none if it is the type of a zero point that is computed.
        """
        if isinstance(op.makes, torch.dtype):
            return op.makes, None
        element = next((a.i for a in node.attribute if a.name == "output_dtype"), TensorProto.UNDEFINED)
        assert op.makes is not None
        name = node.input[op.makes] if len(node.input) > op.makes else ""
        element = self.element(name) if name else element or TensorProto.UINT8
        if not element:
            return None, None
        return dtype_of(element, f"node {node.name or node.output[0]!r}"), NARROW.get(element)

    def _argument(self, op: Operator, k: int, name: str, output: str) -> Any:
        if not name:
            return None
        if k in op.host:
            return self.value(name)
        if k in op.updated and self._needs_copy(name):
            return self.own_copy(name, output, k)
        if k in op.either and self._is_plain(name):
            return self.value(name)
        return self.tensor(name, carried=k in op.carried)

    def _is_plain(self, name: str) -> bool:
        """Tell whether a Python value says all about a tensor: a 64-bit integer, or a float of the model's own type."""
        kind = self.kind(name, floats=True)
        return kind is not None and kind.dtype in (torch.int64, DTYPES[self.shared.main])

    def _needs_copy(self, name: str) -> bool:
        """Tell whether a tensor that a node updates while training is stored for other nodes as well."""
        source = self.aliases.get(name, name)
        stored_here = self.parent is None and self.shared.as_given and self.keys.get(source) is not None
        return stored_here and has_other_uses(source, self.shared.uses)

    def _keywords(self, node: NodeProto, op: Operator) -> dict[str, Any]:
        """Return the attributes under their names, and what else the operator asks for."""
        keywords = {}
        for attribute in node.attribute:
            if attribute.name not in op.keywords and ANY not in op.keywords:
                words = f"no torch implementation of the attribute {attribute.name!r} of {node.op_type}"
                raise ModelError("attribute-unknown", words, where=f"node {node.name or node.output[0]!r}")
            keywords[attribute.name] = self._attribute(attribute, node)
        if "like" in op.keywords:
            keywords["like"] = self.anchor()
        if "outputs" in op.keywords:
            keywords["outputs"] = len(node.output)
        if "opset" in op.keywords:
            keywords["opset"] = self.shared.versions.get("" if node.domain == "ai.onnx" else node.domain, 1)
        return keywords

    def _attribute(self, attribute: AttributeProto, node: NodeProto) -> Any:
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            return self.anonymous(value, node.output[0])
        if attribute.type == AttributeProto.TYPE_PROTO:
            return None
        if attribute.type == AttributeProto.STRING:
            return value.decode()
        if attribute.type == AttributeProto.STRINGS:
            return [v.decode() for v in value]
        if attribute.name in TYPE_ATTRIBUTES and attribute.type == AttributeProto.INT:
            return MAIN if value == self.shared.main else dtype_of(value, f"node {node.name or node.output[0]!r}")
        return list(value) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value

    def call_module(
        self, kind: str, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> fx.Node:
        """Call a module: kept beside the graph it is part of, in a body within that."""
        name = f"{kind}_{len(list(self.own.children()))}"
        self.own.add_module(name, module)
        return self.graph.create_node("call_module", f"{OWN}.{name}", arguments, keywords)

    def give(self, names: Sequence[str], made: fx.Node, *, several: bool) -> None:
        """Let ONNX names stand for what a node yields: itself, or the entries of a tuple."""
        if not several:
            made.meta["onnx"] = (names[0],)
            self.nodes[names[0]] = made
            return
        for k, name in enumerate(names):
            if name:
                self.nodes[name] = entry = self.graph.call_function(operator.getitem, (made, k))
                entry.meta["onnx"] = (name,)
