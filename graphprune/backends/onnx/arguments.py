"""Giving a node's argument another value: an attribute, a constant, or something computed at run time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import onnx
from onnx import helper

from ...frontends.onnx.scopes import Scope
from ...graph import Array, Node
from .editing import Editing
from .protos import set_attribute
from .values import corrections, differ


def set_argument(work: Editing, k: int, node: Node, place: int, attribute: str, value: Array) -> None:
    """Give a node's argument, an input or else an attribute, a value that holds at every input size."""
    work.arguments[k, place] = value
    name = node.inputs[place] if place < len(node.inputs) else None
    if name is not None:
        give_vector(work, k, place, name, value)
    else:
        set_attribute(work.proto(k), attribute, [int(v) for v in value])


def give_vector(work: Editing, k: int, place: int, name: str, wanted: Array) -> None:
    """Make an input have this value: edit the constant it is, or correct what is computed at run time."""
    at = work.proto_index(k)
    if name in work.source.constants:
        work.constants.replace(name, (at, place), wanted)
        return
    known = work.graph.known[name]
    current = work.changed.get(name, known.value)
    if known.static.all():
        work.proto(k).input[place] = work.constants.new(f"{name}.pruned", wanted, work.taken)
        return
    if _respell(work, k, place, name, wanted):
        return
    times, divide, add = corrections(name, np.ravel(current), np.ravel(wanted), np.ravel(known.static))
    for op, operand, neutral in (("Mul", times, 1), ("Div", divide, 1), ("Add", add, 0)):
        if (operand != neutral).any():
            constant = work.constants.new(f"{name}.{op.lower()}", operand.reshape(current.shape), work.taken)
            result = work.constants.reserve(f"{name}.pruned", work.taken)
            work.before.setdefault(at, []).append(helper.make_node(op, [name, constant], [result], name=result))
            name = result
    work.proto(k).input[place] = name


def _respell(work: Editing, k: int, place: int, name: str, wanted: Array) -> bool:
    """Edit constant entries of a shape that a Concat puts together; False where other entries would have to change.

    A Concat that other inputs read too is copied, once for each value.
    """
    if name not in work.concats:
        return False
    at, (where, entries) = work.proto_index(k), work.concats[name]
    if _home(work, at) is not _home(work, where):  # names of a function are not seen outside, nor others inside
        return False
    parts = [_value_now(work, n) for n in entries]
    starts = [0, *accumulate(part.size for part in parts[:-1])]
    pieces = [wanted[start:end] for start, end in zip(starts, [*starts[1:], len(wanted)], strict=True)]
    stale = [i for i, (part, piece) in enumerate(zip(parts, pieces, strict=True)) if differ(part, piece)]
    if any(not _is_fixed(work, entries[i]) for i in stale):
        return False
    if work.constants.users[name] == [(at, place)]:
        _edit_entries(work, where, {i: pieces[i] for i in stale})
        return True
    key = (name, wanted.tobytes(), at if work.source.expansion is not None else -1)  # a body's is not seen outside
    if key not in work.respelled:
        copy = onnx.NodeProto()
        copy.CopyFrom(work.source.operations[where].proto)
        copy.output[0] = copy.name = work.respelled[key] = work.constants.reserve(f"{name}.pruned", work.taken)
        for i in stale:
            copy.input[i] = work.constants.new(f"{name}.entry", pieces[i], work.taken)
        work.before.setdefault(at, []).append(copy)
    work.proto(k).input[place] = work.respelled[key]
    return True


def _home(work: Editing, at: int) -> Scope | None:
    """Return the function's call, or the main graph, that an operation lies in; None where there is only one."""
    expansion = work.source.expansion
    if expansion is None:
        return None
    if work.scope_of is None:
        work.scope_of = {where: expansion.scopes[k].home for k, where in enumerate(work.source.places)}
    return work.scope_of[at]


def _edit_entries(work: Editing, where: int, pieces: Mapping[int, Array]) -> None:
    for i, piece in pieces.items():
        name = work.source.operations[where].inputs[i]
        if name in work.source.constants:
            work.constants.replace(name, (where, i), piece)
        else:
            work.edit(where).input[i] = work.constants.new(f"{name}.pruned", piece, work.taken)


def _value_now(work: Editing, name: str) -> Array:
    """Return what a known value or a constant is after pruning."""
    if name in work.source.constants:
        return work.graph.parameter(name)
    return work.changed.get(name, work.graph.known[name].value)


def _is_fixed(work: Editing, name: str) -> bool:
    """Tell whether a value is the same at every input size."""
    return name in work.source.constants or bool(work.graph.known[name].static.all())
