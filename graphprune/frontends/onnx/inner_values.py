"""Other values for constants, wherever a model stores them: in its graph, in a body or in a function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, TensorProto, numpy_helper

from ...graph import Array
from .expand import Expansion
from .functions import key_of, key_of_function
from .scopes import Scope


def with_inner_values(model: ModelProto, expansion: Expansion, values: Mapping[str, Array]) -> ModelProto:
    """Return a copy of a model with other values, of the same shapes and types, by their names in the flat layout."""
    made = ModelProto()
    made.CopyFrom(model)
    for scope in expansion.main.below():
        wanted = dict(_stored(scope))
        if wanted.keys() & values.keys():
            graph = _counterpart(made, scope)
            for name in wanted.keys() & values.keys():
                _write(_tensor(graph, wanted[name]), values[name])
    return made


def _stored(scope: Scope) -> Iterator[tuple[str, str]]:
    """Yield (flat name, own name) of what a scope stores."""
    if scope.graph is not None:
        yield from ((scope.flat(t.name), t.name) for t in scope.graph.initializer)
    for node in scope.nodes:
        if node.op_type == "Constant":
            yield scope.flat(node.output[0]), node.output[0]


def _counterpart(model: ModelProto, scope: Scope) -> GraphProto | FunctionProto:
    """Return the graph or function of a copy that a scope stands for."""
    graph: GraphProto | FunctionProto = model.graph
    functions = {key_of_function(f): f for f in model.functions}
    for place, attribute in zip(scope.path[::2], scope.path[1::2], strict=True):
        node = graph.node[int(place)]
        graph = functions[key_of(node)] if attribute == "" else next(
            a.g for a in node.attribute if a.name == attribute
        )  # fmt: skip
    return graph


def _tensor(graph: GraphProto | FunctionProto, name: str) -> TensorProto:
    for tensor in graph.initializer if isinstance(graph, GraphProto) else ():
        if tensor.name == name:
            return tensor
    node = next(n for n in graph.node if n.op_type == "Constant" and n.output[0] == name)
    if not node.attribute[0].HasField("t"):
        del node.attribute[:]
        node.attribute.add(name="value", type=4).t.SetInParent()
    return node.attribute[0].t


def _write(tensor: TensorProto, value: Array) -> None:
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name or None))
