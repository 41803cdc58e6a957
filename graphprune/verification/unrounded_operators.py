"""What stands for each quantised operator where nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .unrounded_writer import CONTRIB, SMALLEST, Attributes, Writer

Body = Callable[[Writer, onnx.NodeProto, Attributes], None]


def _given(node: onnx.NodeProto, place: int) -> str:
    return node.input[place] if place < len(node.input) else ""


def _plain(attrs: Attributes, leave: Sequence[str] = ()) -> dict[str, Any]:
    return {name: helper.get_attribute_value(a) for name, a in attrs.items() if name not in leave}


def _quantise(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    axis, rank = w.along(node.input[0], node.input[1], attrs)
    w.coded(node.input[0], node.input[1], _given(node, 2), node.output[0], axis, rank)


def _dequantise(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    axis, rank = w.along(node.input[0], node.input[1], attrs)
    w.add("Identity", [w.real(node.input[0], node.input[1], _given(node, 2), axis, rank)], node.output[0])


def _range(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Write DynamicQuantizeLinear: the range with zero in it, one part in 255 of it, and where zero lies."""
    x, (y, scale, zero) = node.input[0], node.output
    low, high = (w.add(op, [x], keepdims=0) for op in ("ReduceMin", "ReduceMax"))
    low, high = w.add("Min", [low, w.stored(0)]), w.add("Max", [high, w.stored(0)])
    w.add("Max", [w.add("Div", [w.add("Sub", [high, low]), w.stored(255)]), w.stored(SMALLEST)], scale)
    w.add("Div", [w.add("Neg", [low]), scale], zero)
    w.add("Add", [w.add("Div", [x, scale]), zero], y)


def _product(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Write MatMulInteger; the zero point of the right side may run along its columns, as arrays broadcast."""
    left = w.centred(node.input[0], _given(node, 2))
    w.add("MatMul", [left, w.centred(node.input[1], _given(node, 3))], node.output[0])


def _product_to_float(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    a, b, a_scale, b_scale = node.input[:4]
    value = w.add("MatMul", [w.real(a, a_scale, _given(node, 4)), w.real(b, b_scale, _given(node, 5))])
    _with_bias(w, value, _given(node, 6), node.output[0])


def _dynamic_product(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    a, b, b_scale = node.input[:3]
    _with_bias(w, w.add("MatMul", [a, w.real(b, b_scale, _given(node, 3))]), _given(node, 4), node.output[0])


def _with_bias(w: Writer, value: str, bias: str, output: str) -> None:
    w.add("Add" if bias else "Identity", [value, bias] if bias else [value], output)


def _stepped_product(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    a, b = w.triple(node.input[:3]), w.triple(node.input[3:6])
    w.coded(w.add("MatMul", [a, b]), node.input[6], node.input[7], node.output[0])


def _dense(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Write QGemm: with transB, the scales of the right side run along its rows."""
    rows = 0 if "transB" in attrs and attrs["transB"].i else 1
    operands = [w.triple(node.input[:3]), w.triple(node.input[3:6], rows, 2)]
    if _given(node, 6):
        operands.append(w.add("Mul", [w.number(node.input[6]), w.add("Mul", [node.input[1], node.input[4]])]))
    value = w.add("Gemm", operands, **_plain(attrs))
    if _given(node, 8):
        w.coded(value, node.input[7], node.input[8], node.output[0])
    else:
        w.add("Identity", [value], node.output[0])


def _convolution(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    rank = len(w.shapes[node.input[1]])
    weight = w.centred(node.input[1], _given(node, 3), 0 if _given(node, 3) else None, rank)
    w.add("Conv", [w.centred(node.input[0], _given(node, 2)), weight], node.output[0], **_plain(attrs))


def _stepped_convolution(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    rank = len(w.shapes[node.input[3]])
    operands = [w.triple(node.input[:3]), w.triple(node.input[3:6], 0, rank)]
    if _given(node, 8):
        operands.append(w.add("Mul", [w.number(node.input[8]), w.add("Mul", [node.input[1], node.input[4]])]))
    value = w.add("Conv", operands, **_plain(attrs))
    w.coded(value, node.input[6], node.input[7], node.output[0])


def _with(op: str, count: int, domain: str = "") -> Body:
    """Return how an operator on ``count`` quantised operands is written, its result's scale and zero point behind."""

    def body(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
        operands = [w.triple(triple) for triple in _triples(node.input[: 3 * count])]
        scale, zero = _given(node, 3 * count), _given(node, 3 * count + 1)
        value = w.add(op, operands, domain=domain, **_plain(attrs, ("channels_last", "opset")))
        w.coded(value, scale, zero, node.output[0])

    return body


def _triples(names: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (names[k : k + 3] for k in range(0, len(names), 3))


def _attention(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Write QAttention as onnxruntime's floating operator, whose attributes it has."""
    data = w.real(node.input[0], node.input[3], _given(node, 6))
    matrix = w.real(node.input[1], node.input[4], _given(node, 7))
    mask = [_given(node, 5)] if _given(node, 5) else []
    w.add("Attention", [data, matrix, node.input[2], *mask], node.output[0], CONTRIB, **_plain(attrs))


def _recurrent(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Write DynamicQuantizeLSTM as LSTM, whose weights are turned."""
    weights = []
    for place, scale in ((1, 8), (2, 10)):
        steps = [w.add("Unsqueeze", [w.number(node.input[k]), w.stored([1], np.int64)]) for k in (scale, scale + 1)]
        if len(w.shapes[node.input[scale]]) == 1:
            steps = [w.add("Unsqueeze", [step, w.stored([2], np.int64)]) for step in steps]
        value = w.add("Mul", [w.add("Sub", [w.number(node.input[place]), steps[1]]), steps[0]])
        weights.append(w.add("Transpose", [value], perm=[0, 2, 1]))
    copy = onnx.NodeProto(op_type="LSTM", input=[node.input[0], *weights, *node.input[3:8]], output=node.output)
    copy.attribute.extend(attrs.values())
    w.nodes.append(copy)


def _mean(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    value = w.triple(node.input[:3])
    count = w.stored(np.prod([w.shapes[node.input[0]][a] for a in attrs["axes"].ints]))
    total = w.add("ReduceSum", [value, w.stored(list(attrs["axes"].ints), np.int64)], **_plain(attrs, ("axes",)))
    w.coded(w.add("Div", [total, count]), node.input[3], _given(node, 4), node.output[0])


def _concat(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    parts = [w.triple(triple) for triple in _triples(node.input[2:])]
    w.coded(w.add("Concat", parts, **_plain(attrs)), node.input[0], node.input[1], node.output[0])


def _choice(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    parts = [w.triple(triple) for triple in _triples(node.input[1:7])]
    w.coded(w.add("Where", [node.input[0], *parts]), node.input[7], node.input[8], node.output[0])


BODIES: dict[str, Body] = {
    "ConvInteger": _convolution,
    "DequantizeLinear": _dequantise,
    "DynamicQuantizeLinear": _range,
    "DynamicQuantizeMatMul": _dynamic_product,
    "DynamicQuantizeLSTM": _recurrent,
    "MatMulInteger": _product,
    "MatMulInteger16": _product,
    "MatMulIntegerToFloat": _product_to_float,
    "QAttention": _attention,
    "QGemm": _dense,
    "QLinearAdd": _with("Add", 2),
    "QLinearAveragePool": _with("AveragePool", 1),
    "QLinearConcat": _concat,
    "QLinearConv": _stepped_convolution,
    "QLinearGlobalAveragePool": _with("GlobalAveragePool", 1),
    "QLinearLeakyRelu": _with("LeakyRelu", 1),
    "QLinearMatMul": _stepped_product,
    "QLinearMul": _with("Mul", 2),
    "QLinearReduceMean": _mean,
    "QLinearSigmoid": _with("Sigmoid", 1),
    "QLinearSoftmax": _with("Softmax", 1),
    "QLinearWhere": _choice,
    "QuantizeLinear": _quantise,
}
"""Operator → how it is written in floating numbers."""
ROUNDING = frozenset(BODIES) - {"DequantizeLinear"}
"""Operators that round what they make."""
