"""The edits become a model; what no edit touches stays byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import onnx
from onnx import helper

from ...families.facts import Dims
from ...frontends.files.tensors import copy_fields
from .constants import Edited
from .editing import Editing
from .nested import FlatEdits, Write, Written, restored, write_back
from .protos import Names, add_initializer, drop_unused, names_of, stored_as


def write(work: Editing) -> onnx.ModelProto:
    """Return the model with all edits: a copy that shares nothing with the original."""
    in_place, copies = {}, []
    for edited, uses in work.constants.settle(work.taken):
        if edited.in_place:
            in_place[edited.name] = edited
            continue
        copies.append(edited)
        for at, place in uses:
            if at not in work.dropped | work.replaced:
                work.edit(at).input[place] = edited.name
    small = onnx.ModelProto()
    copy_fields(work.model, small, skip={"graph", "functions"})
    graph, old = small.graph, work.model.graph
    copy_fields(old, graph, skip={"node", "initializer", "value_info", "input"})
    written = _nodes(work, in_place, copies)
    graph.node.extend(written.nodes)
    small.functions.extend(written.functions)
    for tensor in old.initializer:
        add_initializer(graph, tensor, in_place.get(tensor.name))
    new = _new(work, copies)
    for name in written.needed:
        new[name](graph.initializer.add())
    for value in old.input:
        graph.input.append(stored_as(value, in_place[value.name]) if value.name in in_place else value)
    if work.model.ir_version < 4:  # there, every initializer is an input that callers may leave out
        added = graph.initializer[len(old.initializer) :]
        graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in added)
    if old.value_info:
        there = {n for node in graph.node for n in node.output} | {t.name for t in graph.initializer}
        there -= work.shrunken
        graph.value_info.extend(
            stored_as(v, in_place[v.name]) if v.name in in_place else _typed(work, v)
            for v in old.value_info
            if v.name in there
        )
    drop_unused(small, _left(work), _names(work, written.nodes))
    return small


def _new(work: Editing, copies: Sequence[Edited]) -> dict[str, Write]:
    """Return what writes each constant that the model does not have yet."""
    fresh: dict[str, Write] = {name: partial(_copied, tensor) for name, tensor in work.constants.fresh.items()}
    return {**{edited.name: edited.write for edited in copies}, **fresh}


def _nodes(work: Editing, in_place: Mapping[str, Edited], copies: Sequence[Edited]) -> Written:
    """Return the nodes of the graph, and the functions, with all edits."""
    expansion, new = work.source.expansion, _new(work, copies)
    if expansion is not None:
        at = {where: k for k, where in enumerate(work.source.places)}
        edits = FlatEdits(
            {at[w]: n for w, n in work.edited.items()}, {at[w]: n for w, n in work.before.items()},
            frozenset(at[w] for w in work.dropped), in_place, new, partial(_is_changed, work), partial(_typed_as, work),
            work.source.dtypes,
        )  # fmt: skip
        return write_back(work.model, expansion.main, expansion.operations, edits)
    nodes: list[onnx.NodeProto] = []
    for at_, node in enumerate(work.source.operations):
        nodes.extend(work.before.get(at_, ()))
        if at_ not in work.dropped:
            stored = in_place.get(node.outputs[0]) if node.op == "Constant" else None
            nodes.append(restored(work.edited.get(at_, node.proto), stored))
    return Written(nodes, list(work.model.functions), list(new))


def _is_changed(work: Editing, name: str) -> bool:
    dims = work.facts.of_tensor.get(name)
    return dims is not None and work.kept.changes(dims)


def _left(work: Editing) -> set[str]:
    """Return the tensors that some node read and does not read any more."""
    read = work.source.operations
    left = {name for at in work.dropped for name in read[at].inputs if name}
    return left.union(*(set(read[at].inputs).difference(proto.input, {""}) for at, proto in work.edited.items()))


def _names(work: Editing, nodes: Sequence[onnx.NodeProto]) -> Iterator[Names]:
    """Yield what each of these nodes reads and makes; of those that nobody edited that is known."""
    known = {id(o.proto): o for o in work.source.operations} if work.source.expansion is None else {}
    for node in nodes:
        operation = known.get(id(node))
        if operation is None or operation.bodies:
            yield names_of(node)
        else:
            yield operation.inputs, operation.outputs


def _typed(work: Editing, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return a declared type with the cut sizes."""
    return _typed_as(work, value, value.name)


def _typed_as(work: Editing, value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """Return a declared type with the cut sizes of a tensor that the graph knows by another name."""
    dims: Dims | None = work.facts.of_tensor.get(name)
    if dims is None or not work.kept.changes(dims):
        return value
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    for declared, dim in zip(result.type.tensor_type.shape.dim, dims, strict=False):
        if declared.HasField("dim_value") and work.kept.index(dim) is not None:
            declared.dim_value = work.kept.size(dim)
    return result


def _copied(source: onnx.TensorProto, target: onnx.TensorProto) -> None:
    target.CopyFrom(source)
