"""Constants at the inputs of contractions of an ONNX model, as biases or as stored maps behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..runtime import session
from .offsets import Borders, Constant, Offset, not_foldable, offsets_of
from .onnx_copy import WITH_BIAS, OnnxCopy
from .operands import Operands, is_floating
from .operators import number


def with_offsets(graph: Graph, constants: Sequence[Constant], borders: Borders) -> Graph:
    """Return the graph of a copy of the model with what constants contribute; see ``with_constants``."""
    operands = Operands(graph)
    offsets = offsets_of(graph, constants, borders, lambda constant: _contribution(graph, operands, constant))
    values: dict[str, Array] = {}
    later: list[Offset] = []
    for offset in offsets:
        name, changed = _in_place(graph, operands, offset)
        if name is not None:
            values[name] = changed
        else:
            later.append(offset)
    made = OnnxCopy(graph, values)
    for offset in later:
        _insert(graph, operands, made, offset)
    return made.traced()


def _contribution(graph: Graph, operands: Operands, constant: Constant) -> Array:
    """Return what a constant adds to the output of its node, at the traced sizes, by running the node alone."""
    source: OnnxSource = graph.source
    node = graph.nodes[constant.node]
    proto = onnx.NodeProto()
    proto.CopyFrom(source.operations[source.origin[constant.node][-1]].proto)
    if node.family != "contraction":
        raise not_foldable(graph, constant.node, "it is no plain sum")
    if proto.op_type in WITH_BIAS:
        del proto.input[2:]
    tensors, kinds = [], {}
    for place, name in enumerate(node.inputs[: len(proto.input)]):
        assert name is not None
        if place == constant.position:
            value = np.broadcast_to(constant.value, graph.shape(name))
        elif operands.parameter_behind(name) is not None:
            value = operands.value(name).astype(np.float64)
        else:
            raise not_foldable(graph, constant.node, "it does not multiply a stored weight")
        proto.input[place] = f"operand.{place}"
        kinds[place] = TYPES.get(graph.tensors[name].dtype, onnx.TensorProto.FLOAT)
        tensors.append(
            numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(kinds[place])), f"operand.{place}")
        )
    return _run(source.model, proto, tensors)


TYPES = {"float64": onnx.TensorProto.DOUBLE}
"""What a node is run in; all other floats are widened to float32, in which every operator is implemented."""


def _run(model: onnx.ModelProto, proto: onnx.NodeProto, tensors: Sequence[onnx.TensorProto]) -> Array:
    out = onnx.ValueInfoProto(name=proto.output[0])
    inputs = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    made = helper.make_model(
        helper.make_graph([proto], "one", inputs, [out]),
        opset_imports=list(model.opset_import), ir_version=model.ir_version,
    )  # fmt: skip
    feeds = {t.name: numpy_helper.to_array(t) for t in tensors}
    (result,) = session(made, optimise=False).run([proto.output[0]], feeds)
    return np.asarray(result, dtype=np.float64)


def _in_place(graph: Graph, operands: Operands, offset: Offset) -> tuple[str | None, Array]:
    """Return the stored bias of a sum that nothing else uses, with the offset in it, if that keeps its shape."""
    node = graph.nodes[offset.node]
    name = node.inputs[2] if node.op in WITH_BIAS and len(node.inputs) > 2 else None
    scale = 1 / number(graph, offset.node, "beta", 1.0) if name is not None else 1.0
    value = offset.as_bias() if node.op in WITH_BIAS and node.op != "Gemm" else offset.value
    if node.op not in WITH_BIAS:
        readers = operands.readers.get(node.outputs[0], [])
        user = graph.nodes[readers[0][0]] if len(readers) == 1 and readers[0][0] >= 0 else None
        if user is not None and user.op == "Add":
            name = user.inputs[1 - readers[0][1]]
    if name is None or value is None or graph.tensors[name].kind != "parameter":
        return None, offset.value
    if len(operands.readers[name]) != 1 or not is_floating(graph.tensors[name].dtype):
        return None, offset.value
    stored = graph.parameter(name)
    shape = np.broadcast_shapes(stored.shape, value.shape)
    if int(np.prod(shape)) != stored.size:
        return None, offset.value
    return name, (stored.astype(np.float64) + value * scale).reshape(stored.shape).astype(stored.dtype)


def _insert(graph: Graph, operands: Operands, made: OnnxCopy, offset: Offset) -> None:
    """Give a sum a bias of its own, or an addition behind it."""
    node, kind = graph.nodes[offset.node], _type_of(graph, offset.node)
    bias = offset.as_bias()
    if node.op not in WITH_BIAS or bias is None:
        made.add(offset.node, offset.value.astype(kind))
        return
    before = node.inputs[2] if len(node.inputs) > 2 else None
    if before is None:
        beta = number(graph, offset.node, "beta", 1.0)
        made.give_bias(offset.node, (bias / beta).astype(kind))
        return
    value = operands.constant(before) if node.op != "Gemm" else None
    if value is None:
        made.add(offset.node, offset.value.astype(kind))
    else:
        made.give_bias(offset.node, (value.astype(np.float64) + bias).astype(kind))


def _type_of(graph: Graph, node: int) -> np.dtype[Any]:
    source: OnnxSource = graph.source
    kind: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(source.dtypes[graph.nodes[node].outputs[0]])
    return kind
