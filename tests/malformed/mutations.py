"""Ways to spoil a model file: bytes, names, sizes, attributes, structure. All choices come from one generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

Rng = np.random.Generator
EXTREMES = (0, 1, -1, 2, -2, 7, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
STRINGS = ("", " ", "\0", "a\nb", "../../etc/passwd", "%s%n", "𝄞" * 30, "x" * 100_000, "'\"\\", "-1", "C:\\x", "{0}")
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e30, -1e-30)


def pick(rng: Rng, things: Any) -> Any:
    """One of the things; numpy would make arrays of them."""
    things = list(things)
    return things[int(rng.integers(len(things)))]


# Bytes ----------------------------------------------------------------------------------------------------------------


def flip_bytes(data: bytes, rng: Rng) -> bytes:
    spoiled = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        spoiled[int(rng.integers(len(spoiled)))] = int(rng.integers(256))
    return bytes(spoiled)


def truncate(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(len(data)))]


def insert(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 30))) + data[at:]


def cut_out(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 30)) :]


def repeat(data: bytes, rng: Rng) -> bytes:
    a, b = sorted(rng.integers(len(data), size=2).tolist())
    return data[:b] + data[a:]


def deep(data: bytes, rng: Rng) -> bytes:
    """A body inside a body inside a body ..., deeper than protobuf reads, appended to the model's graph."""
    inner = b""
    for _ in range(pick(rng, (10, 100, 5000))):
        for field in (1, 5, 6):  # node of a graph, attribute of a node, graph of an attribute
            inner = bytes([field << 3 | 2]) + _varint(len(inner)) + inner
    return data + bytes([7 << 3 | 2]) + _varint(len(inner)) + inner


def _varint(n: int) -> bytes:
    return bytes([n & 127 | 128]) + _varint(n >> 7) if n > 127 else bytes([n])


BYTES: list[Callable[[bytes, Rng], bytes]] = [flip_bytes, flip_bytes, truncate, insert, cut_out, repeat, deep]

# Names and structure --------------------------------------------------------------------------------------------------


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all bodies inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def any_node(model: onnx.ModelProto, rng: Rng) -> onnx.NodeProto:
    lists = [g.node for g in graphs(model.graph)] + [f.node for f in model.functions]
    return pick(rng, [n for nodes in lists for n in nodes])


def any_name(model: onnx.ModelProto, rng: Rng) -> str:
    nodes = [n for g in graphs(model.graph) for n in g.node]
    return str(pick(rng, [x for n in nodes for x in (*n.input, *n.output)] + ["nowhere", *STRINGS]))


def other_input(model: onnx.ModelProto, rng: Rng) -> None:
    """An input that dangles, closes a cycle, or is some other tensor."""
    node = any_node(model, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = any_name(model, rng)


def other_output(model: onnx.ModelProto, rng: Rng) -> None:
    node = any_node(model, rng)
    node.output[int(rng.integers(len(node.output)))] = any_name(model, rng)


def more_or_fewer_inputs(model: onnx.ModelProto, rng: Rng) -> None:
    names = pick(rng, (any_node(model, rng).input, any_node(model, rng).output))
    if names and rng.integers(2):
        del names[int(rng.integers(len(names)))]
    else:
        names.extend([any_name(model, rng)] * pick(rng, (1, 2, 50)))


def other_operator(model: onnx.ModelProto, rng: Rng) -> None:
    node, schemas = any_node(model, rng), onnx.defs.get_all_schemas()
    node.op_type = pick(rng, [s.name for s in schemas] + list(STRINGS))
    if rng.integers(4) == 0:
        node.domain = pick(rng, ("com.microsoft", "ai.onnx.ml", "own", *STRINGS))


def move_nodes(model: onnx.ModelProto, rng: Rng) -> None:
    """Drop, repeat or shuffle nodes."""
    nodes = list(pick(rng, list(graphs(model.graph))).node)
    graph = model.graph
    kind = int(rng.integers(3))
    if kind == 0:
        del graph.node[int(rng.integers(len(graph.node)))]
    elif kind == 1:
        graph.node.append(pick(rng, nodes))
    else:
        order = rng.permutation(len(graph.node))
        shuffled = [graph.node[k] for k in order]
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in shuffled]
        del graph.node[:]
        graph.node.extend(kept)


def rename(model: onnx.ModelProto, rng: Rng) -> None:
    """Another name, absurd or taken, for a tensor where it is stored or declared."""
    values = [*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info]
    pick(rng, values).name = any_name(model, rng)


def repeat_values(model: onnx.ModelProto, rng: Rng) -> None:
    graph = model.graph
    values = pick(rng, (graph.input, graph.output, graph.initializer, model.opset_import, model.functions))
    if values:
        values.append(pick(rng, values))


def header(model: onnx.ModelProto, rng: Rng) -> None:
    kind = int(rng.integers(4))
    if kind == 0:
        pick(rng, model.opset_import).version = pick(rng, (*EXTREMES, 11, 13, 21, 24))
    elif kind == 1:
        model.ir_version = pick(rng, (*EXTREMES, 3, 8, 12))
    elif kind == 2:
        pick(rng, model.opset_import).domain = pick(rng, ("", "com.microsoft", "own", *STRINGS))
    else:
        model.ClearField(pick(rng, ("graph", "opset_import", "functions", "ir_version")))


def nested(model: onnx.ModelProto, rng: Rng) -> None:
    """If inside If inside If ..., or a function that calls itself."""
    x = model.graph.node[0].output[0]
    if rng.integers(3) == 0:
        call = helper.make_node("Again", ["a"], ["b"], domain="own")
        model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], [call], list(model.opset_import)))
        model.graph.node.append(helper.make_node("Again", [x], ["again"], domain="own"))
        model.opset_import.append(helper.make_opsetid("own", 1))
        return
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [1])
    node = helper.make_node("Identity", [x], ["deep"])
    out = [helper.make_tensor_value_info("deep", TensorProto.FLOAT, None)]
    plain = helper.make_graph([node], "body", [], out)
    for _ in range(pick(rng, (1, 5, 25))):
        body = helper.make_graph([node], "body", [], out)
        node = helper.make_node("If", ["yes"], ["deep"], then_branch=body, else_branch=plain)
    model.graph.initializer.append(yes)
    model.graph.node.append(node)


# Sizes and attributes -------------------------------------------------------------------------------------------------


def tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    nodes = [n for g in graphs(model.graph) for n in g.node]
    held = [a.t for n in nodes for a in n.attribute if a.type == AttributeProto.TENSOR]
    sparse = [t for s in model.graph.sparse_initializer for t in (s.values, s.indices)]
    return [*model.graph.initializer, *held, *sparse]


def dims_of_tensor(model: onnx.ModelProto, rng: Rng) -> None:
    dims = pick(rng, tensors(model)).dims
    spoil_ints(dims, rng)


def spoil_ints(values: Any, rng: Rng) -> None:
    kind = int(rng.integers(4))
    if kind == 0 or not values:
        values.append(pick(rng, EXTREMES))
    elif kind == 1:
        del values[int(rng.integers(len(values)))]
    else:
        values[int(rng.integers(len(values)))] = pick(rng, EXTREMES)


def stored_integers(model: onnx.ModelProto, rng: Rng) -> None:
    """Shapes, axes, repeats, pads, borders, indices: what nodes read as arguments."""
    found = [t for t in tensors(model) if t.data_type == TensorProto.INT64 and len(t.raw_data) >= 8]
    if found:
        tensor = pick(rng, found)
        array = np.frombuffer(tensor.raw_data, np.int64).copy()
        array[int(rng.integers(len(array)))] = pick(rng, (*EXTREMES, 3, 5, 100, 10_000))
        tensor.raw_data = array.tobytes()


def stored_numbers(model: onnx.ModelProto, rng: Rng) -> None:
    found = [t for t in tensors(model) if t.data_type == TensorProto.FLOAT and len(t.raw_data) >= 4]
    tensor = pick(rng, found)
    array = np.frombuffer(tensor.raw_data, np.float32).copy()
    array[rng.integers(len(array), size=int(rng.integers(1, len(array) + 1)))] = pick(rng, FLOATS)
    tensor.raw_data = array.tobytes()


def data_type(model: onnx.ModelProto, rng: Rng) -> None:
    pick(rng, tensors(model)).data_type = pick(rng, (*range(28), -1, 2**31 - 1))


def other_bytes(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = pick(rng, tensors(model))
    tensor.raw_data = pick(rng, (b"", tensor.raw_data[:-1], tensor.raw_data * 2, tensor.raw_data + b"\0"))
    if rng.integers(3) == 0:
        tensor.float_data.extend([1.0, 2.0])


def outside(model: onnx.ModelProto, rng: Rng) -> None:
    """Weights said to lie in some other file, at some offset."""
    tensor = pick(rng, tensors(model))
    tensor.data_location = TensorProto.EXTERNAL
    for key in ("location", "offset", "length", "location"):
        words = ("model.onnx", *STRINGS) if key == "location" else (*map(str, EXTREMES), *STRINGS, "0", "8")
        if rng.integers(4):
            tensor.external_data.add(key=key, value=pick(rng, words))


def dims_of_value(model: onnx.ModelProto, rng: Rng) -> None:
    """Sizes, ranks and types of inputs and outputs."""
    value = pick(rng, (*model.graph.input, *model.graph.output))
    kind = value.type.tensor_type
    what = int(rng.integers(5))
    if what == 0:
        kind.elem_type = pick(rng, (*range(28), -1, 2**31 - 1))
    elif what == 1:
        kind.shape.dim.add().dim_value = pick(rng, EXTREMES)
    elif what == 2:
        value.ClearField("type")
    elif kind.shape.dim:
        dim = pick(rng, kind.shape.dim)
        if what == 3:
            dim.dim_value = pick(rng, (*EXTREMES, 3, 50, 5000))
        else:
            dim.dim_param = pick(rng, STRINGS)


def attribute(model: onnx.ModelProto, rng: Rng) -> None:
    """Another value, type or name; gone, or there twice."""
    node = any_node(model, rng)
    if not node.attribute:
        node.attribute.append(helper.make_attribute(pick(rng, ("axis", "axes", "group")), pick(rng, EXTREMES)))
        return
    at = int(rng.integers(len(node.attribute)))
    a, what = node.attribute[at], int(rng.integers(8))
    if what == 0:
        del node.attribute[at]
    elif what == 1:
        node.attribute.append(a)
    elif what == 2:
        a.name = pick(rng, ("axis", "axes", "perm", "to", "value", *STRINGS))
    elif what == 3:
        a.type = pick(rng, range(15))
    elif a.type == AttributeProto.INTS:
        spoil_ints(a.ints, rng)
    elif a.type == AttributeProto.FLOAT:
        a.f = pick(rng, FLOATS)
    elif a.type == AttributeProto.STRING:
        a.s = pick(rng, (b"\xff\xfe", b"VALID", *(s.encode() for s in STRINGS)))
    else:
        a.i = pick(rng, EXTREMES)


PROTOS: list[Callable[[onnx.ModelProto, Rng], None]] = [
    other_input, other_output, more_or_fewer_inputs, other_operator, move_nodes, rename, repeat_values, header, nested,
    dims_of_tensor, stored_integers, stored_integers, stored_numbers, data_type, other_bytes, outside, dims_of_value,
    dims_of_value, attribute, attribute, attribute,
]  # fmt: skip


def spoiled(model: onnx.ModelProto, seed: int) -> tuple[str, bytes]:
    """Return what was done, and the bytes of the spoiled file; one mutation, now and then two."""
    rng = np.random.default_rng(seed)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    words = []
    if rng.integers(4) == 0:
        change = pick(rng, BYTES)
        return change.__name__, change(copy.SerializeToString(), rng)
    for _ in range(pick(rng, (1, 1, 2))):
        if not copy.graph.node:
            break
        edit = pick(rng, PROTOS)
        words.append(edit.__name__)
        try:
            edit(copy, rng)
        except ValueError:  # protobuf refuses a value out of the range of its type
            words.append("refused")
    return "+".join(words), copy.SerializeToString()
