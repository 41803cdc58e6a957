"""A copy of a model in single precision, to run what onnxruntime cannot run in half precision on a CPU.

Every tensor of float16 or bfloat16 becomes one of float32: what nodes make, what goes in and out, what casts aim at.
Stored weights stay as they are and are widened by a Cast, so that the copy is not larger than the model. The copy
computes the same function, but for the roundings that it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from .frontends.files.order import names_read
from .frontends.files.tensors import PLAIN, subgraphs

BFLOAT = int(TensorProto.BFLOAT16)
HALVES = frozenset({int(TensorProto.FLOAT16), BFLOAT})
SINGLE = int(TensorProto.FLOAT)
TYPES = frozenset({"to", "dtype", "output_dtype"})
"""Attributes that hold an element type."""
CASTING = frozenset({
    "Bernoulli", "Cast", "DequantizeLinear", "EyeLike", "If", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Scan", "SequenceMap",
})  # fmt: skip
"""Operators with such an attribute, or with a body that may have one."""
HALF = ".half"


def in_float32(model: ModelProto) -> ModelProto:
    """Return a copy that computes in float32 what the model computes in float16 or bfloat16."""
    copy = ModelProto()
    copy.CopyFrom(model)
    _widen_graph(copy.graph)
    for function in copy.functions:
        _widen_nodes(function)
        for value in function.value_info:
            _widen_type(value.type)
    return copy


def computes_in(model: ModelProto, kinds: Iterable[int]) -> bool:
    """Tell whether a model takes, gives or casts to one of these element types, in the graph or a body in it."""
    wanted = frozenset(kinds)
    values = (*model.graph.input, *model.graph.output)
    if any(v.type.tensor_type.elem_type in wanted for v in values):
        return True
    return any(_aims_at(graph.node, wanted) for graph in (model.graph, *model.functions))


def stores(model: ModelProto, kinds: Iterable[int]) -> bool:
    """Tell whether a model holds a tensor of one of these element types in its graph."""
    wanted = frozenset(kinds)
    if any(t.data_type in wanted for t in model.graph.initializer):
        return True
    return any(a.HasField("t") and a.t.data_type in wanted for n in model.graph.node for a in n.attribute)


def _aims_at(nodes: Iterable[NodeProto], wanted: frozenset[int]) -> bool:
    """Tell whether a node, or one in its bodies, has one of these types as its target."""
    for node in nodes:
        if node.op_type not in CASTING:  # asking for attributes takes its time, and every session asks
            continue
        for attribute in node.attribute:
            if attribute.name in TYPES and attribute.i in wanted:
                return True
            if attribute.type not in PLAIN and any(_aims_at(body.node, wanted) for body in subgraphs(attribute)):
                return True
    return False


def _widen_graph(graph: GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type)
    _widen_nodes(graph)
    casts = {t.name: _widened(t) for t in graph.initializer if t.data_type in HALVES}
    for k in reversed(range(len(graph.input) if casts else 0)):  # old files list their weights as inputs, too
        if graph.input[k].name in casts:
            del graph.input[k]
    if casts:
        nodes = [NodeProto.FromString(n.SerializeToString()) for n in _before_use(graph, casts)]
        del graph.node[:]
        graph.node.extend(nodes)


def _before_use(graph: GraphProto, casts: dict[str, NodeProto]) -> Iterator[NodeProto]:
    """Yield the nodes, each cast just before the first that reads it: few wide weights are then there at a time."""
    waiting = dict(casts)
    for node in graph.node:
        yield from (waiting.pop(name) for name in dict.fromkeys(names_read(node)) if name in waiting)
        yield node
    yield from waiting.values()


def _widened(tensor: TensorProto) -> NodeProto:
    """Give a stored tensor another name, and return the Cast that makes what had the old one."""
    name, tensor.name = tensor.name, tensor.name + HALF
    return helper.make_node("Cast", [tensor.name], [name], name=f"{name}.widened", to=SINGLE)


def _widen_nodes(owner: GraphProto | FunctionProto) -> None:
    for node in owner.node:
        for attribute in node.attribute:
            if attribute.name in TYPES and attribute.i in HALVES:
                attribute.i = SINGLE
            if attribute.type in PLAIN:
                continue
            if attribute.HasField("t") and attribute.t.data_type in HALVES:
                wide = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
            for body in subgraphs(attribute):
                _widen_graph(body)


def _widen_type(kind: TypeProto) -> None:
    """Widen the element type of a tensor, a sequence or an optional."""
    if kind.HasField("tensor_type"):
        if kind.tensor_type.elem_type in HALVES:
            kind.tensor_type.elem_type = SINGLE
    elif kind.HasField("sequence_type"):
        _widen_type(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        _widen_type(kind.optional_type.elem_type)
