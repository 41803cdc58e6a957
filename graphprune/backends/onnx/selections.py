"""Nodes that pick positions: Gather, Slice and shuffles pick the same ones among those that are left."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ...families.facts import Reselect
from ...frontends.onnx.values import slice_of
from ...graph import Array, Node
from ...groups import IntArray
from .arguments import give_vector, set_argument
from .editing import Editing

TO_THE_END = np.iinfo(np.int32).max
"""An end of a Slice that no axis reaches."""


def _picks(work: Editing, mend: Reselect) -> IntArray | None:
    """Return which of the kept positions the node must pick now; None if nothing is cut."""
    source, out = work.kept.index(mend.src), work.kept.index(mend.out)
    if source is None:
        return None
    chosen = mend.index if mend.out == mend.src or out is None else mend.index[out]
    return np.searchsorted(source, chosen).astype(np.int64)


def mend_selection(work: Editing, k: int, node: Node, mend: Reselect) -> set[int]:
    """Let a Gather or Slice pick the same positions among those left; return the inputs that are taken care of."""
    picks = _picks(work, mend)
    if node.op in ("Gather", "GatherND"):
        name = node.inputs[1]
        if picks is not None and name is not None:
            current, _ = work.argument(k, node, 1, "")
            assert current is not None
            index = picks.astype(current.dtype)
            give_vector(work, k, 1, name, index.reshape((-1,) * min(current.ndim, 1) + (1,) * (current.ndim - 1)))
        return {1}
    if picks is not None:
        _mend_slice(work, k, node, mend, picks)
    return set()


def _mend_slice(work: Editing, k: int, node: Node, mend: Reselect, picks: IntArray) -> None:
    bounds = [work.argument(k, node, p, a)[0] for p, a in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))]
    starts, ends, axes, steps = bounds
    assert starts is not None
    assert ends is not None
    along = np.arange(len(starts)) if axes is None else np.ravel(axes)
    rank = len(work.facts.tensor(node.inputs[0] or "") or ())
    at = int(np.flatnonzero(along % rank == mend.axis)[0])
    step = 1 if steps is None else int(steps[at])
    size = work.kept.size(mend.src)
    if np.array_equal(np.arange(size)[slice_of(size, int(starts[at]), int(ends[at]), step)], picks):
        return
    if len(picks) and (np.diff(picks) == step).all():
        last = int(picks[-1]) + (1 if step > 0 else -1)
        for place, attribute, old, new in ((1, "starts", starts, int(picks[0])), (2, "ends", ends, last)):
            value = np.array(old)
            value[at] = new if new >= 0 else np.iinfo(old.dtype).min
            set_argument(work, k, node, place, attribute, value)
        return
    if len(starts) == 1:
        _slice_to_gather(work, k, mend, picks)
        return
    _gather_first(work, k, mend, picks)
    for place, attribute, bound, neutral in (
        (1, "starts", starts, 0),
        (2, "ends", ends, TO_THE_END),
        (4, "steps", steps, 1),
    ):
        if bound is not None:
            whole: Array = np.array(bound)
            whole[at] = neutral
            set_argument(work, k, node, place, attribute, whole)


def _slice_to_gather(work: Editing, k: int, mend: Reselect, picks: IntArray) -> None:
    """Positions that are no longer evenly spaced need a Gather instead of the Slice."""
    proto = work.proto(k)
    name = work.constants.new(f"{proto.output[0]}.index", picks, work.taken)
    gather = helper.make_node("Gather", [proto.input[0], name], [proto.output[0]], name=proto.name, axis=mend.axis)
    gather.doc_string = proto.doc_string
    work.edited[work.proto_index(k)] = gather


def _gather_first(work: Editing, k: int, mend: Reselect, picks: IntArray) -> None:
    """Where a Slice cuts other axes too, a Gather in front of it takes care of this one."""
    proto = work.proto(k)
    index = work.constants.new(f"{proto.output[0]}.index", picks, work.taken)
    result = work.constants.reserve(f"{proto.output[0]}.picked", work.taken)
    gather = helper.make_node("Gather", [proto.input[0], index], [result], name=result, axis=mend.axis)
    work.before.setdefault(work.proto_index(k), []).append(gather)
    proto.input[0] = result


def mend_permutation(work: Editing, k: int, node: Node) -> None:
    """Keep the reshapes and transposes while nothing is cut, else put one Gather in their place."""
    source = work.facts.tensor(node.inputs[0] or "")
    assert source is not None
    if not work.kept.changes(source):
        return
    mend = work.facts.mends[k][0]
    assert isinstance(mend, Reselect)
    picks = _picks(work, mend)
    index = mend.index if picks is None else picks
    run = work.source.origin[k]
    last = work.source.operations[run[-1]].proto
    name = work.constants.new(f"{node.outputs[0]}.index", index, work.taken)
    gather = helper.make_node("Gather", [node.inputs[0], name], list(last.output), name=last.name, axis=mend.axis)
    work.edited[run[-1]] = gather
    work.dropped.update(run[:-1])
