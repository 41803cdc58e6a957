"""A quantised model without its rounding: codes become floating numbers that are cut off at the ends of their range.

Two models of the same function round alike only where they add alike: one number at the edge between two codes may fall
to either side, and what comes after differs by a step. So where outputs differ, both models are compared once more in
this form, in which they have to agree as any floating model does. Scales, zero points and stored codes are used as they
are, so that a wrong slice of any of them still shows. Written for proofs, not for speed.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from .unrounded_operators import BODIES, ROUNDING
from .unrounded_writer import RANGES, Attributes, Shape, Writer


def rounds(model: onnx.ModelProto) -> bool:
    """Tell whether a model rounds numbers to codes as it runs."""
    return any(node.op_type in ROUNDING for node in model.graph.node)


def unrounded(model: onnx.ModelProto, types: Mapping[str, int], shapes: Mapping[str, Shape]) -> onnx.ModelProto | None:
    """Return the model in floating numbers, given the element types and shapes of the tensors it had at first.

    None where it rounds to a type that is not known here.
    """
    rounded = [name for n in model.graph.node if n.op_type == "QuantizeLinear" for name in n.output]
    if any(types.get(name) not in RANGES for name in rounded):
        return None
    writer = Writer(dict(types), dict(shapes))
    for tensor in model.graph.initializer:
        writer.types[tensor.name], writer.shapes[tensor.name] = tensor.data_type, tuple(tensor.dims)
    for node in model.graph.node:
        _convert(writer, node)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(writer.nodes)
    for value in result.graph.output:
        if value.name in writer.floating:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return result


def _convert(w: Writer, node: onnx.NodeProto) -> None:
    """Write what stands for a node."""
    attrs = {a.name: a for a in node.attribute}
    _learn(w, node, attrs)
    if node.op_type in BODIES and not _is_stored(w, node):
        BODIES[node.op_type](w, node, attrs)
        w.floating.update(node.output)
    elif w.floating.isdisjoint(node.input):
        w.nodes.append(node)
    elif node.op_type == "Cast" and node.input[0] in w.floating:
        w.add("Cast", [node.input[0]], node.output[0], to=TensorProto.FLOAT)
        w.floating.add(node.output[0])
    else:
        _keep(w, node)


def _keep(w: Writer, node: onnx.NodeProto) -> None:
    """Write a node that moves codes, or takes the larger of them, as it is: now of floating numbers."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for k, name in enumerate(node.input):
        is_code = w.types.get(name) in RANGES or (node.op_type == "Where" and k > 0)
        copy.input[k] = w.number(name) if name and is_code else name
    w.nodes.append(copy)
    w.floating.update(name for name in node.output if w.types.get(name) in (*RANGES, TensorProto.INT32))


def _learn(w: Writer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Note the element type of what masks are made of, which the model did not have at first."""
    if node.op_type == "Constant" and "value" in attrs:
        w.types.setdefault(node.output[0], attrs["value"].t.data_type)
    elif node.op_type == "Cast":
        w.types.setdefault(node.output[0], attrs["to"].i)
    elif node.op_type in ("Where", "Reshape"):
        w.types.setdefault(node.output[0], w.types.get(node.input[node.op_type == "Where"], 0))


def _is_stored(w: Writer, node: onnx.NodeProto) -> bool:
    """Tell whether a node only dequantises what the model stores."""
    return node.op_type == "DequantizeLinear" and w.floating.isdisjoint(node.input)
