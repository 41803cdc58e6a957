"""Plain work on ONNX messages: copying fields, setting attributes, dropping what nothing uses."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

from .onnx_constants import used_in_bodies


def stored_as(value: onnx.ValueInfoProto, tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    """Return a declared type with the sizes of a constant that was edited in place."""
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    for declared, size in zip(result.type.tensor_type.shape.dim, tensor.dims, strict=False):
        if declared.dim_value != size:
            declared.dim_value = size
    return result


def copy_fields(source: Any, target: Any, skip: set[str]) -> None:
    """Copy every set field of a message but some."""
    for descriptor, value in source.ListFields():
        if descriptor.name in skip:
            continue
        if descriptor.is_repeated:
            getattr(target, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(target, descriptor.name).CopyFrom(value)
        else:
            setattr(target, descriptor.name, value)


def with_constant(node: onnx.NodeProto, in_place: dict[str, onnx.TensorProto]) -> onnx.NodeProto:
    """Return a Constant node with its edited value, any other node as it is."""
    if node.op_type != "Constant" or node.output[0] not in in_place:
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    copy.attribute.append(helper.make_attribute("value", in_place[node.output[0]]))
    return copy


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute in its place, or add it at the end."""
    made = helper.make_attribute(name, value)
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.CopyFrom(made)
            return
    node.attribute.append(made)


def drop_unused(small: onnx.ModelProto, before: onnx.ModelProto, candidates: set[str]) -> None:
    """Remove constants and shape arithmetic that nothing uses any more, though something did before."""
    graph = small.graph
    outputs = {o.name for o in graph.output}
    while True:
        used = outputs | {n for node in graph.node for n in (*node.input, *used_in_bodies(node))}
        dead = [
            n
            for n in graph.node
            if n.output and not any(o in used for o in n.output if o) and candidates & set(n.output)
        ]
        candidates |= {name for node in dead for name in node.input}
        for node in dead:
            graph.node.remove(node)
        if not dead:
            break
    idle = {t.name for t in graph.initializer} & candidates - used
    if idle:
        staying = [t for t in graph.initializer if t.name not in idle]
        del graph.initializer[:]
        graph.initializer.extend(staying)
        inputs = [i for i in graph.input if i.name not in idle]
        del graph.input[:]
        graph.input.extend(inputs)
