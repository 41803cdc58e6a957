"""The numbers behind quantised weights: codes minus zero point times scale, read through what only moves elements."""

from __future__ import annotations

import numpy as np

from ..coresets.attributes import attributes_of
from ..folding.operands import Operands, moved_by, moves
from ..graph import Array, Graph

DEQUANTISERS = frozenset({"DequantizeLinear"})


def codes_behind(graph: Graph, operands: Operands, name: str) -> str | None:
    """Return the stored codes that a tensor is dequantised from, None where it is no such tensor."""
    while name in operands.makers:
        node = graph.nodes[operands.makers[name]]
        source = node.inputs[0] or ""
        if node.op in DEQUANTISERS:
            steps = [n for n in node.inputs[1:] if n]
            stored = all(graph.tensors[n].kind == "parameter" for n in (source, *steps))
            return source if stored and source else None
        if not moves(graph, node, 0):
            return None
        name = source
    return None


def dequantised(graph: Graph, operands: Operands, name: str) -> Array:
    """Return the value of a tensor that ``codes_behind`` finds codes for, in float64."""
    node = graph.nodes[operands.makers[name]]
    if node.op not in DEQUANTISERS:
        return moved_by(graph, node, dequantised(graph, operands, node.inputs[0] or ""))[node.outputs.index(name)]
    codes = np.asarray(graph.parameter(node.inputs[0] or ""), dtype=np.float64)
    scale = np.asarray(graph.parameter(node.inputs[1] or ""), dtype=np.float64)
    zero = graph.parameter(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(())
    attributes = attributes_of(graph, operands.makers[name])
    axis, block = int(attributes.get("axis", 1)), int(attributes.get("block_size", 0))
    return (codes - _spread(zero, codes, axis, block)) * _spread(scale, codes, axis, block)


def _spread(step: Array, codes: Array, axis: int, block: int) -> Array:
    """Return scales or zero points as they broadcast to the codes: one for all, one a slice, or one a block of them."""
    step = np.asarray(step, dtype=np.float64)
    if step.size == 1:
        return step.reshape(())
    axis %= codes.ndim
    if step.ndim == 1:
        return step.reshape([-1 if k == axis else 1 for k in range(codes.ndim)])
    return np.repeat(step, block, axis=axis).take(np.arange(codes.shape[axis]), axis=axis)
