"""Shapes and element types of the outputs of onnxruntime's quantised operators, which onnx does not infer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from .context import Context, Operation, Shape

Sizes = list[Shape] | None


def _first(c: Context) -> Sizes:
    return [c.shape()]


def _broadcast(*places: int) -> Callable[[Context], Sizes]:
    def sizes(c: Context) -> Sizes:
        return [np.broadcast_shapes(*(c.shape(p) for p in places))]

    return sizes


def _product(right: int) -> Callable[[Context], Sizes]:
    def sizes(c: Context) -> Sizes:
        a, b = c.shape(), c.shape(right)
        (m, k) = a[-2:][:: -1 if c.attrs.get("transA") else 1]
        (p, n) = b[-2:][:: -1 if c.attrs.get("transB") else 1]
        return [(*np.broadcast_shapes(a[:-2], b[:-2]), m, n)] if k == p else None

    return sizes


def _concat(c: Context) -> Sizes:
    shapes = [c.shape(p) for p in range(2, len(c.node.inputs), 3)]
    axis = c.attrs["axis"] % len(shapes[0])
    return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]


def _global_pool(c: Context) -> Sizes:
    return None if c.attrs.get("channels_last") else [(*c.shape()[:2], *(1 for _ in c.shape()[2:]))]


def _reduced(c: Context) -> Sizes:
    gone = {a % len(c.shape()) for a in c.attrs.get("axes") or range(len(c.shape()))}
    keep = c.attrs.get("keepdims", 1)
    return [tuple(1 if k in gone else n for k, n in enumerate(c.shape()) if keep or k not in gone)]


def _packed_product(c: Context) -> Sizes:
    return [(*c.shape()[:-1], c.attrs["N"])]


def _attention(c: Context) -> Sizes:
    return None if len([n for n in c.node.outputs if n]) > 1 else [(*c.shape()[:2], c.shape(1)[1] // 3)]


def _recurrent(c: Context) -> Sizes:
    (steps, batch, _), (directions, hidden, _) = c.shape(), c.shape(2)
    state = (directions, batch, hidden)
    return [(steps, *state), state, state]


SIZES: dict[str, Callable[[Context], Sizes]] = {
    **dict.fromkeys(["DequantizeLinear", "QuantizeLinear"], _first),
    **dict.fromkeys(["QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"], _first),
    **dict.fromkeys(["QLinearAdd", "QLinearMul"], _broadcast(0, 3)),
    **dict.fromkeys(["DynamicQuantizeMatMul", "MatMulIntegerToFloat"], _product(1)),
    "DynamicQuantizeLSTM": _recurrent,
    "MatMulNBits": _packed_product,
    "QAttention": _attention,
    "QGemm": _product(3),
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _global_pool,
    "QLinearReduceMean": _reduced,
    "QLinearWhere": _broadcast(0, 1, 4),
}  # fmt: skip
"""Operator of com.microsoft → the shapes of its outputs."""

FROM_INPUT = {
    "DequantizeLinear": 1, "MatMulIntegerToFloat": 2, "QAttention": 3, "QLinearConcat": 2,
    "QLinearWhere": 1, "QuantizeLinear": 2,
}  # fmt: skip
"""Operators of com.microsoft whose outputs have the element type of another input than the first."""


def output_type(node: Operation, types: Mapping[str, int]) -> int | None:
    """Return the element type of an operator in ``SIZES``; None where it is not known."""
    if node.op == "QGemm":
        stepped = len(node.inputs) > 8 and node.inputs[8]
        return types.get(node.inputs[8]) if stepped else int(TensorProto.FLOAT)
    place = FROM_INPUT.get(node.op, 0)
    return types.get(node.inputs[place]) if place < len(node.inputs) else None
