"""Every tensor that an ONNX graph stores, wherever it is, under a key that no other has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ..frontends.files.tensors import PLAIN, subgraphs
from ..frontends.onnx.shapes import elements
from ..frontends.onnx.values import MAX_FLOATS, MAX_INTEGERS
from .roles import FLOATS
from .tensors import DTYPES

Holder: TypeAlias = TensorProto | AttributeProto
"""Where an ONNX model keeps a stored tensor: a message of its own, or numbers in an attribute of a Constant."""
Place: TypeAlias = tuple[str, ...]
"""Which graph: () is the model's, (..., output of a node, attribute) a body in it."""


@dataclass(frozen=True)
class Stored:
    """A stored tensor: an initializer, or what a Constant node holds.

    ``key`` is its name; where bodies repeat one, ``#2`` and so on follow it, in the order of the file.
    """

    key: str
    name: str
    place: Place
    holder: Holder


def stored(model: ModelProto) -> Iterator[Stored]:
    """Yield every stored tensor of the graph and of the bodies in it."""
    seen: dict[str, int] = {}
    for place, name, holder in _in_graph(model.graph, ()):
        count = seen[name] = seen.get(name, 0) + 1
        yield Stored(name if count == 1 else f"{name}#{count}", name, place, holder)


def _in_graph(graph: GraphProto, place: Place) -> Iterator[tuple[Place, str, Holder]]:
    for tensor in graph.initializer:
        yield place, tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            for holder in _in_constant(node):
                yield place, node.output[0], holder
        for attribute in node.attribute:
            if attribute.type not in PLAIN:
                for body in subgraphs(attribute):
                    yield from _in_graph(body, (*place, node.output[0], attribute.name))


def _in_constant(node: NodeProto) -> Iterator[Holder]:
    for attribute in node.attribute:
        if attribute.name == "value":
            yield attribute.t
        elif attribute.name.startswith("value_"):
            yield attribute


def literal_of(tensor: TensorProto) -> Any:
    """Return a small stored tensor of rank 0 or 1 as a number or a list; None for any other."""
    dtype = DTYPES.get(tensor.data_type)
    most = MAX_FLOATS if tensor.data_type in FLOATS else MAX_INTEGERS
    if dtype is None or len(tensor.dims) > 1 or elements(tensor) > most or tensor.data_location == TensorProto.EXTERNAL:
        return None
    return numpy_helper.to_array(tensor).tolist()


def length_of(value: Any) -> int | None:
    """Return the length of a list, None for a number."""
    return len(value) if isinstance(value, list) else None
