"""A changed copy of an ONNX model: other stored values, further nodes; traced again at the same sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..backends.onnx.protos import drop_unused
from ..errors import UsageError
from ..frontends.files.tensors import constant_tensor, without_bytes
from ..frontends.onnx.inner_values import with_inner_values
from ..frontends.onnx.trace import OnnxSource, trace
from ..graph import Array, Graph

ARRAYS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "raw_data")
WITH_BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"})


class OnnxCopy:
    """Collects changes to a copy of a graph's model. Node positions are those of the graph; not to be reused."""

    def __init__(self, graph: Graph, values: Mapping[str, Array] | None = None) -> None:
        self.graph = graph
        self.source: OnnxSource = graph.source
        self.values = changed = dict(values or {})
        # The bytes of what changes are not copied first.
        self.model = without_bytes(self.source.model, lambda tensor: tensor.name in changed)
        self.taken = {*graph.tensors, *(n.name for n in self.model.graph.node)}
        self.taken |= {n for node in self.model.graph.node for n in (*node.input, *node.output)}
        self.protos = list(self.model.graph.node)
        self.before: dict[int, list[onnx.NodeProto]] = {}
        self.after: dict[int, list[onnx.NodeProto]] = {}
        self.dropped: set[int] = set()
        self.renamed: set[str] = set()
        self.grown = False
        self.idle: set[str] = set()
        self._store(changed)

    def _store(self, changed: Mapping[str, Array]) -> None:
        for tensor in self.model.graph.initializer:
            if tensor.name in changed:
                write(tensor, changed[tensor.name])
        for at, node in enumerate(self.protos):
            held = constant_tensor(node)
            value = changed.get(node.output[0]) if node.op_type == "Constant" else None
            if value is None and held is not None and held.name in changed:
                node.CopyFrom(self.source.model.graph.node[at])  # another tensor's name: its bytes were left out
            elif value is not None and held is None:
                node.attribute[0].CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
            elif value is not None:
                write(held, value)

    def proto(self, node: int) -> onnx.NodeProto:
        """Return the proto that a node of the graph ends with, to be changed in place."""
        return self.protos[self._at(node)]

    def fresh(self, hint: str) -> str:
        """Return a name that nothing has yet."""
        name, k = hint, 1
        while name in self.taken:
            name, k = f"{hint}.{k}", k + 1
        self.taken.add(name)
        return name

    def add_tensor(self, hint: str, value: Array) -> str:
        """Store a further tensor and return its name."""
        name = self.fresh(hint)
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        self.model.graph.initializer.append(tensor)
        self.grown = True
        if self.model.ir_version < 4:  # until then every initializer had to be an input as well
            made = helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            self.model.graph.input.append(made)
        return name

    def multiply(self, node: int, position: int, vector: Array) -> None:
        """Multiply an input of a node by a stored tensor that broadcasts."""
        proto, name = self.proto(node), self.graph.nodes[node].name
        made = self.fresh(f"{name}.scaled")
        inputs = [proto.input[position], self.add_tensor(f"{name}.scale", vector)]
        self.before.setdefault(self._at(node), []).append(helper.make_node("Mul", inputs, [made], name=made))
        proto.input[position] = made

    def add(self, node: int, addend: Array) -> None:
        """Add a stored tensor that broadcasts to the first output of a node, before whatever was added already."""
        proto, name = self.proto(node), self.graph.nodes[node].name
        inner, stored = self.fresh(f"{name}.sum"), self.add_tensor(f"{name}.addend", addend)
        made = helper.make_node("Add", [inner, stored], [proto.output[0]], name=self.fresh(f"{name}.add"))
        self.after.setdefault(self._at(node), []).insert(0, made)
        proto.output[0] = inner

    def give_bias(self, node: int, bias: Array) -> None:
        """Give a contraction a bias, shape (channels,), on the second axis of its output, instead of what it has."""
        proto = self.proto(node)
        if proto.op_type in WITH_BIAS:
            self.idle.update(n for n in proto.input[2:] if n)
            del proto.input[2:]
            proto.input.append(self.add_tensor(f"{self.graph.nodes[node].name}.bias", bias))
        else:
            rank = len(self.graph.shape(self.graph.nodes[node].outputs[0]))
            self.add(node, bias.reshape([-1 if k == 1 else 1 for k in range(rank)]))

    def drop(self, node: int) -> None:
        """Leave a node out: what it made must come from the node before it, which takes over the name."""
        gone, name = self.proto(node), self.proto(node).input[0]
        self._maker(name).output[0] = gone.output[0]
        self.renamed.add(name)
        for proto in self.protos:  # others may ask for its shape
            for place, read in enumerate(proto.input):
                if read == name and proto is not gone:
                    proto.input[place] = gone.output[0]
        self.dropped.add(self._at(node))
        self.idle.update(n for n in gone.input[1:] if n)

    def _at(self, node: int) -> int:
        at = self.source.origin[node][-1]
        if at >= len(self.protos):
            name = self.graph.nodes[node].name
            words = "it lies inside a branch or a loop, where nothing is folded"
            raise UsageError("inside-a-body", words, where=name, hint="take another method, or --keep it")
        return at

    def _maker(self, name: str) -> onnx.NodeProto:
        added = (n for nodes in (*self.before.values(), *self.after.values()) for n in nodes)
        return next(n for n in (*added, *self.protos) if name in n.output)

    def traced(self) -> Graph:
        """Trace the copy."""
        made = self._in_its_own_form()
        if self.before or self.after or self.dropped:
            self._assemble()
        if self.idle:
            drop_unused(self.model, self.idle)
        loaded = self.source.loaded
        model = made if loaded is None else replace(loaded, model=made)
        return trace(model, input_shapes=self.source.input_sizes)

    def _in_its_own_form(self) -> onnx.ModelProto:
        """Return the copy; where only values change, with the functions and bodies that the given model has."""
        expansion, given = self.source.expansion, self.source.given
        if expansion is None or given is None or self.before or self.dropped or self.idle or self.grown:
            return self.model
        return with_inner_values(given, expansion, self.values)

    def _assemble(self) -> None:
        """Put the nodes in order. Nodes without a name get the one they are known by, which counts positions."""
        for at, node in enumerate(self.protos):
            node.name = node.name or f"{node.op_type}_{at}"
        kept = ((at, node) for at, node in enumerate(self.protos))
        nodes = [
            n
            for at, node in kept
            for n in (*self.before.get(at, ()), *(() if at in self.dropped else (node,)), *self.after.get(at, ()))
        ]
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
        known = self.model.graph.value_info
        for k in reversed(range(len(known))):
            if known[k].name in self.renamed:
                del known[k]


def write(tensor: TensorProto, value: Array) -> None:
    """Put a value of the same shape and type into a stored tensor, as raw bytes, whatever form it had."""
    made = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
    for name in (*ARRAYS, "data_location", "external_data"):
        tensor.ClearField(name)
    tensor.raw_data = made.raw_data
