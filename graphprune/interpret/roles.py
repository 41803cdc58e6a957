"""Which stored tensors are weights: those that training should move.

A stored floating tensor is a **parameter** when some node uses it as a weight, directly or behind nodes that only
rearrange it (Identity, Cast, Transpose, Reshape, ...). Every use is one, except

- an input that the operator is registered to hold ``fixed``: running mean and variance, bounds of Clip, scales of
  Resize, scales and zero points of quantisation, the value of Pad;
- an operand of arithmetic with a single element (an epsilon, an exponent, 1/sqrt(d), the halves of a GELU), unless it
  is an initializer of rank 1 or more that is added, subtracted or multiplied: the bias of one channel, a gate;
- the use by a node that no output depends on;
- a single element that is expanded or tiled: it fills a tensor;
- an operand of a comparison or a condition.

An attention mask (entries all zero or below -50) is no weight. What is not a parameter is a **buffer**: it is kept,
moved and saved with the module, but an optimiser does not see it. A file does not say which of its constants were
trained, so tables of positions, anchors or frequencies count as weights; ``to_torch(..., weights=...)`` overrules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from ..frontends.files.order import names_read
from ..frontends.files.tensors import PLAIN, subgraphs
from ..frontends.onnx.shapes import elements
from .registry import fixed_inputs

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
REARRANGING = frozenset({
    "Identity", "Cast", "CastLike", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile",
    "Slice", "Split", "Concat",
})  # fmt: skip
"""Operators behind which a weight is still the same weight."""
FILLING = frozenset({"Expand", "Tile"})
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Where", "Mod", "Reciprocal",
                        "Sqrt", "Exp", "Log", "Neg"})  # fmt: skip
LEARNED_SCALARS = frozenset({"Add", "Sub", "Mul"})
COMPARING = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "IsInf", "Range", "OneHot",
                       "Not", "Sign", "Floor", "Ceil", "Round", "ArgMax", "ArgMin"})  # fmt: skip
MASKED = -50.0
"""Below this an additive mask has silenced its position, whatever the scores."""


@dataclass
class Uses:
    """Who reads each tensor: (node, position of the input)."""

    of: dict[str, list[tuple[NodeProto, int]]] = field(default_factory=dict)
    initializers: set[str] = field(default_factory=set)


def needed(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes of a graph that some output depends on, in order."""
    wanted = {o.name for o in graph.output}
    alive = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            alive.append(node)
            wanted.update(names_read(node))
    return alive[::-1]


def uses_of(graph: GraphProto) -> Uses:
    """Return the uses of every tensor in a graph and the bodies in it, by nodes that some output depends on."""
    uses = Uses()
    for inner in _graphs(graph):
        uses.initializers.update(t.name for t in inner.initializer)
        for node in needed(inner):
            for k, name in enumerate(node.input):
                uses.of.setdefault(name, []).append((node, k))
    return uses


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type not in PLAIN:
                for inner in subgraphs(attribute):
                    yield from _graphs(inner)


def is_weight(name: str, tensor: TensorProto, uses: Uses, versions: Mapping[str, int]) -> bool:
    """Tell whether a stored tensor is a weight, by how it is used (see the top of this file)."""
    if tensor.data_type not in FLOATS or _is_mask(tensor):
        return False
    single = elements(tensor) == 1
    learned = len(tensor.dims) > 0 and name in uses.initializers
    return any(_is_weight_use(node, k, single, learned, versions) for node, k in _final_uses(name, single, uses))


def _final_uses(name: str, single: bool, uses: Uses) -> Iterator[tuple[NodeProto, int]]:
    """Yield the uses of a tensor, looking through nodes that only rearrange it."""
    waiting, seen = [name], {name}
    while waiting:
        for node, k in uses.of.get(waiting.pop(), ()):
            if node.op_type not in REARRANGING or node.domain not in ("", "ai.onnx"):
                yield node, k
            elif single and node.op_type in FILLING:
                continue
            elif k == 0 or node.op_type == "Concat":
                waiting += [o for o in node.output if o not in seen]
                seen.update(node.output)


def _is_weight_use(node: NodeProto, k: int, single: bool, learned: bool, versions: Mapping[str, int]) -> bool:
    if node.domain in ("", "ai.onnx"):
        if node.op_type in COMPARING:
            return False
        if single and node.op_type in ARITHMETIC:
            return learned and node.op_type in LEARNED_SCALARS
    return k not in fixed_inputs(node.domain, node.op_type, versions)


def _is_mask(tensor: TensorProto) -> bool:
    values = np.asarray(numpy_helper.to_array(tensor))
    if not values.size or values.size == 1:
        return False
    silenced = ~(values > MASKED)
    return bool(silenced.any() and (silenced | (values == 0)).all())


def has_other_uses(name: str, uses: Uses) -> bool:
    """Tell whether a tensor has more than one use, directly or under other names."""
    waiting, count = [name], 0
    while waiting:
        for node, _ in uses.of.get(waiting.pop(), ()):
            if node.op_type == "Identity" and node.domain in ("", "ai.onnx"):
                waiting.append(node.output[0])
            else:
                count += 1
    return count > 1
