"""Nodes that spell sizes: Reshape, Expand, Split, Pad and their like say the kept ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...families.facts import Repad, SizesInput
from ...frontends.onnx.sizes import reshaped
from ...graph import Array, Node
from .arguments import give_vector, set_argument
from .editing import Editing
from .protos import set_attribute
from .values import differ


def mend_sizes(work: Editing, k: int, node: Node, mend: SizesInput) -> set[int]:
    """Let a node that lists sizes list the kept ones; return the inputs that are taken care of."""
    current, is_input = work.argument(k, node, mend.position, mend.attribute)
    spoken = {mend.position}
    cut = [d is not None and work.kept.index(d) is not None for d in mend.dims]
    if current is None:
        if node.family == "split" and any(cut):
            _spell_split(work, k, mend)
        return spoken
    name = node.inputs[mend.position] if is_input else None
    touched = any(cut) or name in work.changed
    if not touched and not (node.family == "reshape" and _input_cut(work, node)):
        return spoken
    wanted = _wanted_sizes(work, k, node, mend, np.ravel(current), cut).reshape(current.shape)
    if differ(current, wanted):
        if name is not None:
            give_vector(work, k, mend.position, name, wanted)
        else:
            set_attribute(work.proto(k), mend.attribute, [int(n) for n in wanted])
    return spoken


def _input_cut(work: Editing, node: Node) -> bool:
    dims = work.facts.tensor(node.inputs[0] or "")
    return dims is not None and work.kept.changes(dims)


def _wanted_sizes(work: Editing, k: int, node: Node, mend: SizesInput, current: Array, cut: Sequence[bool]) -> Array:
    """Return the entries that give the kept sizes, leaving alone what already does."""
    sizes = [None if d is None else work.kept.size(d) for d in mend.dims]
    entries = current.tolist()
    if node.family == "expand":  # 1 broadcasts; other entries say the size
        keep = [n == 1 or s is None for n, s in zip(entries, sizes, strict=True)]
    elif node.family == "reshape":
        source = work.facts.tensor(node.inputs[0] or "") or []
        attrs = work.source.operations[work.proto_index(k)].attrs
        allow_zero = bool(attrs.get("allowzero"))
        trial = [int(n) if n <= 0 or s is None else s for n, s in zip(entries, sizes, strict=True)]
        made = reshaped(work.kept.shape(source), trial, allow_zero)
        keep = [n <= 0 and m == s for n, m, s in zip(entries, made, sizes, strict=True)]
    else:
        keep = [s is None for s in sizes]
    wanted = [n if k else s for n, k, s in zip(entries, keep, sizes, strict=True)]
    return np.array(wanted, dtype=current.dtype)


def _spell_split(work: Editing, k: int, mend: SizesInput) -> None:
    """Write the sizes of a Split that had none, unless equal parts are still what it makes."""
    sizes = [work.kept.size(d) for d in mend.dims if d is not None]
    if len(set(sizes)) == 1:
        return
    proto = work.proto(k)
    if work.opset < 13:
        set_attribute(proto, "split", sizes)
        return
    kept_attributes = [a for a in proto.attribute if a.name != "num_outputs"]
    del proto.attribute[:]
    proto.attribute.extend(kept_attributes)
    del proto.input[1:]
    proto.input.append(work.constants.new(f"{proto.output[0]}.split", np.array(sizes, np.int64), work.taken))


def spell_squeeze(work: Editing, k: int, node: Node) -> None:
    """Name the axes of a Squeeze that drops every axis of one, once another axis shrinks to one."""
    read = work.source.operations[work.proto_index(k)]
    if len(read.inputs) > 1 or read.attrs:
        return
    source = work.facts.tensor(read.inputs[0]) or []
    axes = [a for a, d in enumerate(source) if work.facts.size[d] == 1]
    if sum(work.kept.size(d) == 1 for d in source) == len(axes):
        return
    if work.opset < 13:
        set_attribute(work.proto(k), "axes", axes)
    else:
        name = work.constants.new(f"{read.outputs[0]}.axes", np.array(axes, np.int64), work.taken)
        work.proto(k).input.append(name)


def mend_padding(work: Editing, k: int, node: Node, mend: Repad) -> set[int]:
    """Let a Pad of a cut axis add what is kept of its zeros; return the inputs that are taken care of."""
    out = work.kept.index(mend.out)
    if out is not None:
        source = work.facts.size[work.facts.find(mend.src)]
        pads, _ = work.argument(k, node, 1, "pads")
        assert pads is not None
        axes, _ = work.argument(k, node, 3, "")
        half = len(pads) // 2
        rank = len(work.facts.tensor(node.inputs[0] or "") or ())
        at = mend.axis if axes is None else int(np.flatnonzero(np.ravel(axes) % rank == mend.axis)[0])
        value = pads.copy()
        value[at] = int((out < mend.before).sum())
        value[at + half] = int((out >= mend.before + source).sum())
        set_argument(work, k, node, 1, "pads", value)
    return {1, 2, 3}
