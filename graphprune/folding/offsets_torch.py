"""Constants at the inputs of contractions of a torch module, as biases of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..backends.fx.masked import ORDER
from ..frontends.fx.context import op_name, parameters_of
from ..frontends.fx.trace import TorchSource, array_of
from ..graph import Array, Graph
from .offsets import Borders, Constant, Offset, not_foldable, offsets_of
from .operands import Operands
from .operators import number
from .torch_copy import TorchCopy


def with_offsets(graph: Graph, constants: Sequence[Constant], borders: Borders) -> Graph:
    """Return the graph of a copy of the module with what constants contribute; see ``with_constants``."""
    operands = Operands(graph)
    offsets = offsets_of(graph, constants, borders, lambda constant: _contribution(graph, operands, constant))
    made = TorchCopy(graph)
    for offset in offsets:
        made.store(_stored(graph, operands, made, offset))
    return made.traced()


def _contribution(graph: Graph, operands: Operands, constant: Constant) -> Array:
    """Return what a constant adds to the output of its node, by calling the operator alone, in float64."""
    source: TorchSource = graph.source
    call, node = source.origin[constant.node][-1], graph.nodes[constant.node]
    names = [name for name, _ in parameters_of(call.target)]
    order = ORDER.get(op_name(call), tuple(names))
    given: dict[str, Any] = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    if node.op == "einsum" or node.family != "contraction":
        raise not_foldable(graph, constant.node, "it is no plain sum")
    for place, name in enumerate(node.inputs[:2]):
        if place == constant.position:
            value = np.broadcast_to(constant.value, graph.shape(name or ""))
        elif name is not None and operands.parameter_behind(name) is not None:
            value = operands.value(name).astype(np.float64)
        else:
            raise not_foldable(graph, constant.node, "it does not multiply a stored weight")
        given[order[place]] = torch.from_numpy(np.ascontiguousarray(value))
    if "bias" in given:
        given["bias"] = None
    if op_name(call) == "addmm":
        given["self"] = torch.zeros((), dtype=torch.float64)
    args = [given.pop(name) for name in names[: len(call.args)]]
    with torch.no_grad():
        result = call.target(*args, **given)
    return array_of(result)


def _stored(graph: Graph, operands: Operands, made: TorchCopy, offset: Offset) -> dict[str, Array]:
    """Return the bias with the offset in it, or give the layer one."""
    source: TorchSource = graph.source
    node, rank = graph.nodes[offset.node], offset.value.ndim
    channels = 1 if "spatial" in node.attrs else rank - 1
    if any(n > 1 for k, n in enumerate(offset.value.shape) if k != channels):
        hint = 'borders="interior" takes what holds away from the borders, or export the model to ONNX'
        raise not_foldable(graph, offset.node, "it differs by position (zero padding), and a bias does not", hint)
    vector, bias = offset.value.ravel(), node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None and made.give_bias(source.paths[offset.node], vector):
        return {}
    if bias is None:
        raise not_foldable(graph, offset.node, "it has no bias, and is no layer that can be given one")
    if graph.tensors[bias].kind != "parameter" or len(operands.readers[bias]) != 1:
        raise not_foldable(graph, offset.node, "its bias is shared with something else")
    return {bias: graph.parameter(bias).astype(np.float64) + vector / number(graph, offset.node, "beta", 1.0)}
