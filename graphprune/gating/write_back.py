"""What a differentiable copy has learned becomes a graph again, of the model that it was made from."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..folding.values import with_values
from ..frontends.fx.trace import array_of
from ..frontends.onnx.trace import OnnxSource, trace
from ..graph import Array, Graph
from ..interpret.flow_back import from_torch


def written_back(graph: Graph, module: nn.Module) -> Graph:
    """Return the graph of a copy of the model with the values that ``module``'s parameters and buffers have now.

    ``module`` is what ``differentiable(graph)`` gave, trained, perhaps with gates inserted, which are left out.
    """
    if isinstance(graph.source, OnnxSource):
        source = graph.source
        model = from_torch(module, source.model)
        given = model if source.loaded is None else replace(source.loaded, model=model)
        return trace(given, input_shapes=source.input_sizes)
    return with_values(graph, _changed(graph, module))


def _changed(graph: Graph, module: nn.Module) -> dict[str, Array]:
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    stored = {t.name for t in graph.parameters}
    found = {name: array_of(tensor) for name, tensor in held.items() if name in stored}
    return {name: value for name, value in found.items() if value.tobytes() != graph.parameter(name).tobytes()}
