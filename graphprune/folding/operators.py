"""Numbers among the arguments of operators, which the neutral graph does not carry: Gemm's alpha, a norm's epsilon."""

from __future__ import annotations

from typing import Any

from ..frontends.onnx.trace import OnnxSource
from ..frontends.onnx.values import attributes
from ..graph import Graph


def arguments(graph: Graph, node: int) -> dict[str, Any]:
    """Return the attributes of an ONNX node, or the arguments of a torch operator that are given, by name."""
    source = graph.source
    if isinstance(source, OnnxSource):
        return attributes(source.operations[source.origin[node][-1]].proto)
    from ..frontends.fx.context import parameters_of

    call = source.origin[node][-1]
    names = [name for name, _ in parameters_of(call.target)]
    return {**dict(zip(names, call.args, strict=False)), **call.kwargs}


def number(graph: Graph, node: int, name: str, default: float) -> float:
    """Return an argument that is a number; ``default`` where the node does not give it."""
    value = arguments(graph, node).get(name, default)
    return float(value) if isinstance(value, (int, float)) else default
