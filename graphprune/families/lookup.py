"""Lookups: Gather whose indices come with the input (embeddings). ``attrs``: ``axis``."""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Freeze the looked-up axis; the others pass through, around the axes of the indices."""
    data, indices, axis = ins[0], ins[1], node.attrs["axis"]
    assert data is not None
    assert indices is not None
    out = outs[0]
    facts.freeze(data[axis], f"{node.op} looks this axis up by index")
    for a, b in zip(data[:axis], out[:axis], strict=True):
        facts.same(a, b)
    for a, b in zip(data[axis + 1 :], out[axis + len(indices) :], strict=True):
        facts.same(a, b)
    for a, b in zip(indices, out[axis : axis + len(indices)], strict=True):
        facts.same(a, b)
    for k in range(len(data)):
        if k != axis:
            facts.role(0, k, "producer")
