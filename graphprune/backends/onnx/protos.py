"""Plain work on ONNX messages: copying fields, setting attributes, dropping what nothing uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import helper

from .constants import Edited, used_in_bodies

Names = tuple[Sequence[str], Sequence[str]]
"""What a node reads, its bodies included, and what it makes."""


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


def names_of(node: onnx.NodeProto) -> Names:
    """Return what a node reads and makes."""
    return [*node.input, *used_in_bodies(node)], list(node.output)


def drop_unused(small: onnx.ModelProto, candidates: set[str], names: Iterable[Names] | None = None) -> None:
    """Remove what nothing uses any more of these constants and of the shape arithmetic that makes them.

    ``names`` are those of every node of the model, where they are known.
    """
    if not candidates:
        return
    graph = small.graph
    reads, made = [], []
    for read, outputs in map(names_of, graph.node) if names is None else names:
        reads.append(read)
        made.append([name for name in outputs if name])
    uses = Counter(name for each in reads for name in each)
    uses.update(o.name for o in graph.output)
    candidates = set(candidates)
    for k in range(len(made) - 1, -1, -1):  # in topological order, so what a dead node used comes later here
        if not candidates.isdisjoint(made[k]) and not any(uses[o] for o in made[k]):
            uses.subtract(reads[k])
            candidates.update(graph.node[k].input)
            del graph.node[k]
    idle = {t.name for t in graph.initializer if t.name in candidates and not uses[t.name]}
    for field in (graph.initializer, graph.input) if idle else ():
        for k in reversed(range(len(field))):
            if field[k].name in idle:
                del field[k]
