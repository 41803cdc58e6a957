"""Parts of an ONNX model as models of their own: some nodes, with what they read from outside as inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..frontends.files.mapped import is_mapped
from ..graph import Array, Graph

RANDOM = frozenset({"RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"})

Described = tuple[np.dtype[Any], Sequence[int | None]]
"""The type and the sizes of a tensor, None for a size that is left open."""


@dataclass(frozen=True)
class Fragments:
    """A model to take parts of. ``reads`` are the tensors that each node reads, ``stored`` the values in the file."""

    graph: Graph
    reads: Sequence[tuple[str, ...]]
    stored: Mapping[str, Any]

    @classmethod
    def of(cls, graph: Graph) -> Fragments:
        """Look at the model behind a graph."""
        model = graph.source.model
        stored: dict[str, Any] = {t.name: t for t in model.graph.initializer}
        stored.update({t.values.name: t for t in model.graph.sparse_initializer})
        return cls(graph, [tuple(dict.fromkeys(reads_of(node))) for node in model.graph.node], stored)

    def model(
        self, nodes: Iterable[int], given: Mapping[str, Described], made: Iterable[str], values: Mapping[str, Array]
    ) -> onnx.ModelProto:
        """Return the model of some nodes, in order; ``values`` are stored in place of what the file holds.

        ``given`` are its inputs, those that these nodes read, and ``made`` its outputs.
        """
        source = self.graph.source.model
        model = onnx.ModelProto(ir_version=source.ir_version)
        model.graph.name = "part"
        model.opset_import.extend(source.opset_import)
        model.functions.extend(source.functions)
        read: dict[str, None] = {}
        for k in nodes:
            node = source.graph.node[k]
            read.update(dict.fromkeys(self.reads[k]))
            if not (node.op_type == "Constant" and node.output[0] in values):
                model.graph.node.append(node)
        for name in read:
            if name in self.stored or name in values:
                self._store(model, name, values)
        described = (helper.make_tensor_value_info(n, _kind(d[0]), list(d[1])) for n, d in given.items() if n in read)
        model.graph.input.extend(described)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
        return model

    def _store(self, model: onnx.ModelProto, name: str, values: Mapping[str, Array]) -> None:
        if name in values:
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values[name]), name))
            return
        held = self.stored[name]
        if isinstance(held, onnx.SparseTensorProto):
            model.graph.sparse_initializer.append(held)
        elif held.data_location == onnx.TensorProto.EXTERNAL and not is_mapped(held):
            model.graph.initializer.append(numpy_helper.from_array(self.graph.parameter(name), name))
        else:
            model.graph.initializer.append(held)


def _kind(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def reads_of(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, those that its bodies take from outside too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            inner = {i.name for i in body.input} | {t.name for t in body.initializer}
            for child in body.node:
                yield from (name for name in reads_of(child) if name not in inner)
                inner.update(child.output)
            yield from (o.name for o in body.output if o.name not in inner)
