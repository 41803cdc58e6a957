"""Random models with some of their nodes put into a function of the model's own, or into both branches of an If."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from fuzzing import Draw
from fuzzing_models import random_models
from hypothesis import assume
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLAG = "flag"
KINDS = ("function", FLAG, "constant")


@st.composite
def models_with_bodies(draw: Draw[Any]) -> onnx.ModelProto:
    """A model with one function or If, or two, perhaps one in the other."""
    model = draw(random_models())
    for name in ("one", "two")[: draw(st.integers(1, 2))]:
        first, last = sorted(draw(st.tuples(*[st.integers(0, len(model.graph.node))] * 2)))
        wrap(model, name, slice(first, last), draw(st.sampled_from(KINDS)))
    assume(is_valid(model))
    return model


def is_valid(model: onnx.ModelProto) -> bool:
    """onnx' shape inference does not see through everything that runs."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def wrap(model: onnx.ModelProto, name: str, where: slice, kind: str) -> None:
    """Put a stretch of nodes (constants stay outside) into one node; ``kind`` says which, and on what an If decides."""
    graph = model.graph
    nodes = list(graph.node)
    inside = [n for n in nodes[where] if n.op_type != "Constant"]
    before = nodes[: where.start] + [n for n in nodes[where] if n.op_type == "Constant"]
    after = nodes[where.stop :]
    made = {o for n in inside for o in n.output}
    read = list(dict.fromkeys(x for n in inside for x in reads(n) if x and x not in made))
    wanted = {x for n in after for x in reads(n)} | {o.name for o in graph.output}
    outputs = [o for n in inside for o in n.output if o in wanted]
    assume(outputs)
    if kind == "function":
        if all(o.domain != "own" for o in model.opset_import):
            model.opset_import.append(helper.make_opsetid("own", 1))
        model.functions.append(helper.make_function("own", name, read, outputs, inside, list(model.opset_import)))
        node = helper.make_node(name, read, outputs, name=name, domain="own")
    else:
        types = types_of(model)
        branches = [branch(model, inside, outputs, types, f"{name}_{side}") for side in ("yes", "no")]
        node = helper.make_node(
            "If", [condition(model, kind)], outputs, name, then_branch=branches[0], else_branch=branches[1]
        )
    del graph.node[:]
    graph.node.extend([*before, node, *after])


def condition(model: onnx.ModelProto, kind: str) -> str:
    graph = model.graph
    if kind == FLAG and all(i.name != FLAG for i in graph.input):
        graph.input.append(helper.make_tensor_value_info(FLAG, TensorProto.BOOL, []))
    if kind == "constant" and all(t.name != kind for t in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(True), kind))
    return kind


def branch(
    model: onnx.ModelProto, nodes: Sequence[NodeProto], outputs: Sequence[str], types: dict[str, int], side: str
) -> onnx.GraphProto:
    """The nodes with names of their own for all that they make."""
    new = {o: f"{o}_{side}" for n in nodes for o in n.output if o}
    results = [helper.make_tensor_value_info(new[o], types[o], None) for o in outputs]
    new |= copied_vectors(model, {x for n in nodes for x in reads(n)}, side)
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        rename(copy, new)
        copy.name = f"{node.name}_{side}"
        copies.append(copy)
    return helper.make_graph(copies, side, [], results)


def copied_vectors(model: onnx.ModelProto, names: set[str], side: str) -> dict[str, str]:
    """Give a branch vectors of its own: those that several nodes use part, and zeros in the original would not."""
    stored = [(t.name, t) for t in model.graph.initializer]
    stored += [(n.output[0], n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"]
    found = {name: t for name, t in stored if name in names and sum(d > 1 for d in t.dims) < 2}
    for name, tensor in found.items():
        copy = model.graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = f"{name}_{side}"
    return {name: f"{name}_{side}" for name in found}


def rename(node: NodeProto, new: dict[str, str]) -> None:
    node.input[:] = [new.get(n, n) for n in node.input]
    node.output[:] = [new.get(n, n) for n in node.output]
    for body in bodies_of(node):
        for child in body.node:
            rename(child, new)


def bodies_of(node: NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.HasField("g")]


def reads(node: NodeProto) -> Iterator[str]:
    """What a node reads, in its bodies too."""
    yield from node.input
    for body in bodies_of(node):
        made = {o for n in body.node for o in n.output}
        yield from (x for n in body.node for x in reads(n) if x not in made)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*graph.value_info, *graph.output, *graph.input)
    found = {v.name: v.type.tensor_type.elem_type for v in values}
    return {name: found.get(name, TensorProto.FLOAT) for n in graph.node for name in n.output}
