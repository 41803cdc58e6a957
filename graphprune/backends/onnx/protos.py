"""Plain work on ONNX messages: copying fields, setting attributes, dropping what nothing uses."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx
from onnx import helper

from .constants import Edited, used_in_bodies


def stored_as(value: onnx.ValueInfoProto, edited: Edited) -> onnx.ValueInfoProto:
    """Return a declared type with the sizes of a constant that was edited in place."""
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    for declared, size in zip(result.type.tensor_type.shape.dim, edited.dims, strict=False):
        if declared.dim_value != size:
            declared.dim_value = size
    return result


def add_initializer(graph: onnx.GraphProto, tensor: onnx.TensorProto, edited: Edited | None) -> None:
    """Add a stored tensor to a graph, edited or as it is."""
    if edited is None:
        graph.initializer.append(tensor)
    else:
        edited.write(graph.initializer.add())


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute in its place, or add it at the end."""
    made = helper.make_attribute(name, value)
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.CopyFrom(made)
            return
    node.attribute.append(made)


def drop_unused(small: onnx.ModelProto, candidates: set[str]) -> None:
    """Remove what nothing uses any more of these constants and of the shape arithmetic that makes them."""
    if not candidates:
        return
    graph = small.graph
    reads = [[*node.input, *used_in_bodies(node)] for node in graph.node]
    uses = Counter(name for names in reads for name in names)
    uses.update(o.name for o in graph.output)
    candidates = set(candidates)
    for k in range(len(graph.node) - 1, -1, -1):  # in topological order, so what a dead node used comes later here
        outputs = set(filter(None, graph.node[k].output))
        if outputs and candidates & outputs and not any(uses[o] for o in outputs):
            uses.subtract(reads[k])
            candidates.update(graph.node[k].input)
            del graph.node[k]
    idle = {t.name for t in graph.initializer if t.name in candidates and not uses[t.name]}
    for field in (graph.initializer, graph.input) if idle else ():
        for k in reversed(range(len(field))):
            if field[k].name in idle:
                del field[k]
