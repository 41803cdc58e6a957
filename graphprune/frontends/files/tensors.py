"""Every tensor that an ONNX model stores, wherever it stores it, and copies of a model without their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

EXTERNAL = 1
"""``TensorProto.EXTERNAL``: the bytes lie in another file."""

PLAIN = frozenset({1, 2, 3, 6, 7, 8})
"""``AttributeProto.type`` of numbers and strings, single or in lists."""


BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
"""Bits an element takes in ``raw_data``, by ``TensorProto.DataType``."""


def stored_tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield (key, tensor) for every stored tensor: initializers, attributes, subgraphs, functions; keys are unique.

    The key of an initializer is its name, that of an attribute the name of the node's first output.
    """
    seen: dict[str, int] = {}
    for name, tensor in _all_tensors(model):
        count = seen[name] = seen.get(name, 0) + 1
        yield (name if count == 1 else f"{name}#{count}"), tensor


def _all_tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values
        yield f"{sparse.values.name}.indices", sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[tuple[str, TensorProto]]:
    for attribute in node.attribute:
        if attribute.type in PLAIN:
            continue
        if attribute.HasField("t"):
            yield node.output[0] if node.output else node.name, attribute.t
        for tensor in attribute.tensors:
            yield f"{node.name}.{attribute.name}", tensor
        for graph in subgraphs(attribute):
            yield from _graph_tensors(graph)


def subgraphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    """Yield the graphs that an attribute holds."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def without_bytes(model: ModelProto, drop: Callable[[TensorProto], bool]) -> ModelProto:
    """Copy a model, leaving out the ``raw_data`` of the tensors that ``drop`` selects.

    Asked about are the initializers and Constant nodes of the main graph. Everything else is copied as it is and the
    order stays; the bytes left out are never copied.
    """
    from onnx import ModelProto

    light = ModelProto()
    copy_fields(model, light, {"graph"})
    light.graph.SetInParent()
    copy_fields(model.graph, light.graph, {"initializer", "node"})
    for tensor in model.graph.initializer:
        _copy_tensor(tensor, light.graph.initializer.add(), drop)
    for node in model.graph.node:
        tensor, copy = constant_tensor(node), light.graph.node.add()
        if tensor is None or not drop(tensor):
            copy.CopyFrom(node)
            continue
        copy_fields(node, copy, {"attribute"})
        attribute = copy.attribute.add()
        copy_fields(node.attribute[0], attribute, {"t"})
        _copy_tensor(tensor, attribute.t, drop)
    return light


def is_large(tensor: TensorProto) -> bool:
    """Tell whether a tensor holds more than a thousand elements as raw bytes."""
    return bool(tensor.HasField("raw_data")) and prod(tensor.dims) > 1000


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """Return the tensor that a Constant node holds, if it holds one."""
    if node.op_type != "Constant" or len(node.attribute) != 1 or not node.attribute[0].HasField("t"):
        return None
    return node.attribute[0].t


def _copy_tensor(source: TensorProto, target: TensorProto, drop: Callable[[TensorProto], bool]) -> None:
    if drop(source):
        target.SetInParent()
        copy_fields(source, target, {"raw_data"})
    else:
        target.CopyFrom(source)


def copy_fields(source: Any, target: Any, skip: set[str]) -> None:
    """Copy every set field of a protobuf message but those named."""
    for field, value in source.ListFields():
        if field.name in skip:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def encoded_size(model: ModelProto) -> int:
    """Return the bytes that serialising the model gives, exactly, without serialising the weights.

    ``ModelProto.ByteSize`` costs as much as writing the whole file; this costs as much as copying the nodes. Weights
    that are mapped count with the bytes they would take in a file.
    """
    from .mapped import byte_count, is_mapped

    light = without_bytes(model, is_large)
    extra = 0
    for full, bare in zip(model.graph.initializer, light.graph.initializer, strict=True):
        if is_large(full):
            extra += growth(_raw_size(full), bare)
    for node, copy in zip(model.graph.node, light.graph.node, strict=True):
        tensor = constant_tensor(node)
        if tensor is not None and is_large(tensor):
            attribute = copy.attribute[0]
            extra += growth(_raw_size(tensor), attribute.t, attribute, copy)
    mapped = sum(byte_count(t) for t in model.graph.initializer if is_mapped(t))
    return int(light.ByteSize()) + growth(extra, light.graph) + mapped


def _raw_size(tensor: TensorProto) -> int:
    """Bytes of the ``raw_data`` field, tag and length included."""
    length = len(tensor.raw_data)
    return 1 + _varint_size(length) + length


def growth(extra: int, *messages: Any) -> int:
    """Bytes by which the outermost of nested messages grows, length prefixes included, when the innermost does."""
    for message in messages:
        size = message.ByteSize()
        extra += _varint_size(size + extra) - _varint_size(size)
    return extra


def entry_size(message: Any) -> int:
    """Bytes of a message as an entry of a list in another: with its tag, of a field below 16, and its length."""
    size = int(message.ByteSize())
    return 1 + _varint_size(size) + size


def _varint_size(value: int) -> int:
    """Bytes of a protobuf varint: seven bits each."""
    return max(1, -(-value.bit_length() // 7))


def weights_as_inputs(model: ModelProto, chosen: Callable[[TensorProto], bool] = is_large) -> ModelProto:
    """Copy a model with its large weights turned into inputs of the same names, types and shapes."""
    from onnx import helper

    light = without_bytes(model, chosen)
    large = dict(_chosen(model, chosen))
    for k in reversed(range(len(light.graph.initializer))):
        if light.graph.initializer[k].name in large:
            del light.graph.initializer[k]
    for k in reversed(range(len(light.graph.node))):
        node = light.graph.node[k]
        if node.op_type == "Constant" and node.output[0] in large:
            del light.graph.node[k]
    known = {value.name for value in light.graph.input}
    light.graph.input.extend(
        helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        for name, tensor in large.items()
        if name not in known
    )
    return light


def _chosen(model: ModelProto, chosen: Callable[[TensorProto], bool]) -> Iterator[tuple[str, TensorProto]]:
    yield from ((t.name, t) for t in model.graph.initializer if chosen(t))
    for node in model.graph.node:
        tensor = constant_tensor(node)
        if tensor is not None and chosen(tensor):
            yield node.output[0], tensor
