"""The attributes of a graph's nodes in their world's own words: slopes, limits, strides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph


def attributes_of(graph: Graph, node: int) -> Mapping[str, Any]:
    """Return what a node is set to: ONNX attributes, or the arguments of a captured call that are no tensors.

    Small constants that a node reads as inputs (the limits of a Clip) are there under their input's name. ``world`` is
    "onnx" or "torch". Empty for a graph without a model.
    """
    source = graph.source
    if source is None:
        return {}
    if isinstance(source, OnnxSource):
        return {"world": "onnx", **_of_onnx(graph, node)}
    return {"world": "torch", **_of_torch(source.origin[node][-1])}


def _of_onnx(graph: Graph, node: int) -> dict[str, Any]:
    from ..frontends.onnx.values import attributes

    proto = graph.source.operations[graph.source.origin[node][-1]].proto
    found = dict(attributes(proto))
    if proto.op_type == "Clip":
        for name, position in (("min", 1), ("max", 2)):
            value = constant(graph, graph.nodes[node].inputs[position : position + 1])
            if value is not None:
                found[name] = value
    return found


def _of_torch(call: Any) -> dict[str, Any]:
    schema = getattr(call.target, "_schema", None)
    if schema is None:
        return {}
    names = [argument.name for argument in schema.arguments]
    found = {a.name: a.default_value for a in schema.arguments if a.default_value is not None}
    found.update(zip(names, call.args, strict=False))
    found.update(call.kwargs)
    return {name: value for name, value in found.items() if isinstance(value, (bool, int, float, str, list, tuple))}


def constant(graph: Graph, names: tuple[str | None, ...]) -> float | None:
    """Return the single number that a constant tensor holds, None where it holds more or is computed."""
    name = names[0] if names else None
    if name is None:
        return None
    if name in graph.known:
        value = np.asarray(graph.known[name].value)
    elif graph.tensors[name].kind == "parameter":
        value = np.asarray(graph.parameter(name))
    else:
        return None
    return float(value.ravel()[0]) if value.size == 1 else None
