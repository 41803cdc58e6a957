"""Selections with indices known before the model runs: Split, Slice, Gather with constant indices, Pad.

``attrs`` of "select": ``picks`` {axis: positions}: the output takes these positions of the input's axis; None means
that they depend on the input, so the axis is frozen. ``drop``: a picked axis that the output lacks (Gather with a
scalar). ``spare`` {axis: positions}: what no node picks of a stored tensor, kept for other sizes of the input.
``attrs`` of "split": ``axis``, ``sizes_input``. ``attrs`` of "pad": ``before`` and ``after`` per axis.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from .facts import Dims, Facts, Repad, Reselect, SizesInput


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of Slice and Gather."""
    src, out = ins[0], list(outs[0])
    assert src is not None
    drop: int | None = node.attrs.get("drop")
    if drop is not None:
        index = node.attrs["picks"][drop]
        facts.freeze(src[drop], f"{node.op} picks one index of this axis", index)
        if index is not None:
            facts.mend(Reselect(drop, src[drop], src[drop], index))
        out.insert(drop, src[drop])
    for axis in range(len(src)):
        if axis == drop:
            continue
        if axis not in node.attrs["picks"]:
            facts.same(out[axis], src[axis])
            continue
        index = node.attrs["picks"][axis]
        if index is None:
            reason = f"{node.op} picks indices that depend on the input"
            facts.freeze_all([[src[axis], out[axis]]], reason)
        else:
            facts.select(out[axis], src[axis], index)
            facts.mend(Reselect(axis, out[axis], src[axis], index))
    for axis, index in node.attrs.get("spare", {}).items():
        facts.freeze(src[axis], "other sizes of the input may pick these positions", index)


def split(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of Split: the input's indices, cut into stretches along the axis."""
    src, axis = ins[0], node.attrs["axis"]
    assert src is not None
    start = 0
    for out in outs:
        size = facts.size[out[axis]]
        facts.select(out[axis], src[axis], np.arange(start, start + size))
        start += size
        for k, dim in enumerate(out):
            if k != axis:
                facts.same(dim, src[k])
    facts.mend(SizesInput(1, tuple(out[axis] for out in outs), "split"))


def pad(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of Pad: new positions before and after; a padded spatial axis stays as it is."""
    src, out = ins[0], outs[0]
    assert src is not None
    for axis, (before, after) in enumerate(node.attrs["pads"]):
        n, m = facts.size[src[axis]], facts.size[out[axis]]
        if before == after == 0 and n == m:
            facts.same(out[axis], src[axis])
        elif before < 0 or after < 0 or node.attrs["mode"] != "constant":
            facts.freeze_all([[src[axis], out[axis]]], f"{node.op} repeats or crops positions of this axis")
        else:
            facts.select(src[axis], out[axis], np.arange(before, before + n))
            facts.mend(Repad(axis, out[axis], src[axis], before))
