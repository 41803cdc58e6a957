"""Masks on quantised tensors: a removed index holds the zero point, the code that stands for zero.

Where a floating tensor comes from DequantizeLinear, its codes are masked, and dequantised once more for the node at
hand: onnxruntime then still sees a quantised operator, computes it on integers as it does in the pruned model, and both
agree to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...families.coding import Coding
from ...graph import Array, Graph

WHERE = {"int8", "uint8", "int32"}
"""Integer types that onnxruntime's Where chooses among."""
WIDER = {"int16", "uint16"}
"""Integer types that it does not, and that fit into 32 bits."""


@dataclass(frozen=True)
class Codes:
    """Codes to be masked before input ``position`` of a node; ``dequantise`` is the node that reads them in between.

    ``zero`` names their zero point, ``spread`` is the shape that lines it up with them (None: it is a scalar).
    """

    tensor: str
    dtype: str
    position: int
    zero: str | None
    spread: tuple[int, ...] | None
    dequantise: onnx.NodeProto | None = None

    @classmethod
    def read(
        cls, graph: Graph, node: int, place: int, position: int, dequantise: onnx.NodeProto | None = None
    ) -> Codes | None:
        """Read the coding of an input of a node; None where its codes cannot be masked."""
        neutral = graph.nodes[node]
        coding: Coding | None = neutral.attrs.get("codes", {}).get(place)
        tensor = neutral.inputs[place] or ""
        dtype = graph.tensors[tensor].dtype
        if coding is None or coding.block or dtype not in WHERE | WIDER:
            return None
        zero = None if coding.zero is None else neutral.inputs[coding.zero]
        long = zero is not None and graph.tensors[zero].size > 1
        rank = len(graph.shape(tensor))
        spread = tuple(-1 if k == coding.axis else 1 for k in range(rank)) if long else None
        return cls(tensor, dtype, position, zero, spread, dequantise)


def masked_codes(before: list[onnx.NodeProto], node: onnx.NodeProto, codes: Codes, mask: str) -> None:
    """Insert before a node what sets its codes to the zero point where the mask is false."""
    copy = f"{node.output[0]}.{codes.position}.dequantised"
    again = next((k for k, n in enumerate(before) if n.name == copy), None)
    if codes.dequantise is None:
        reader, place, at = node, codes.position, len(before)
    elif again is not None:
        reader, place, at = before[again], 0, again
    else:
        reader, place, at = onnx.NodeProto(), 0, len(before)
        reader.CopyFrom(codes.dequantise)
        reader.name = reader.output[0] = node.input[codes.position] = copy
        before.append(reader)
    made = _chosen(codes, reader.input[place], mask, f"{node.output[0]}.{codes.position}.{len(before)}")
    reader.input[place] = made[-1].output[0]
    before[at:at] = made


def _chosen(codes: Codes, current: str, mask: str, prefix: str) -> list[onnx.NodeProto]:
    """Return the nodes that choose between the codes and their zero point; their names begin with a prefix."""
    made: list[onnx.NodeProto] = []

    def add(op: str, *inputs: str, **attrs: object) -> str:
        name = f"{prefix}.{op}.{len(made)}"
        made.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def stored(value: Array) -> str:
        return add("Constant", value=numpy_helper.from_array(value))

    zero = codes.zero if codes.zero is not None else stored(np.zeros((), codes.dtype))
    if codes.spread is not None:
        zero = add("Reshape", zero, stored(np.array(codes.spread, np.int64)))
    wide = codes.dtype in WIDER
    if wide:
        current, zero = (add("Cast", name, to=TensorProto.INT32) for name in (current, zero))
    result = add("Where", mask, current, zero)
    if wide:
        add("Cast", result, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(codes.dtype))))
    return made
