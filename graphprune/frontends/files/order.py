"""Putting a model's nodes in topological order, for files whose writer did not care."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from ...errors import ModelError
from .tensors import PLAIN, subgraphs

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def sort_nodes(model: ModelProto, where: str) -> ModelProto:
    """Return a copy whose nodes each come after those they read, otherwise in the order they were.

    Raises ModelError ``model-invalid`` when they depend on each other in a circle.
    """
    from onnx import ModelProto

    nodes = model.graph.node
    maker = {name: k for k, node in enumerate(nodes) for name in node.output if name}
    needs = {k: {maker[n] for n in names_read(node) if n in maker} for k, node in enumerate(nodes)}
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        names = " -> ".join(repr(nodes[k].name or nodes[k].op_type) for k in error.args[1][:6])
        words = f"nodes depend on each other in a circle: {names}"
        raise ModelError("model-invalid", words, where=where, hint="export it again") from error
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes[k] for k in _in_order(sorter))
    return copy


def _in_order(sorter: TopologicalSorter[int]) -> Iterator[int]:
    """Yield, at every step, the smallest of those that are ready."""
    ready: list[int] = []
    while sorter.is_active():
        for k in sorter.get_ready():
            heapq.heappush(ready, k)
        first = heapq.heappop(ready)
        yield first
        sorter.done(first)


def names_read(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, itself or in its subgraphs (where some may be the subgraph's own)."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type not in PLAIN:
            for graph in subgraphs(attribute):
                for inner in graph.node:
                    yield from names_read(inner)
                yield from (value.name for value in graph.output)
