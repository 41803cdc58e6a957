"""Lookups by indices that come with the input (embeddings), and writing by such indices.

``attrs``: ``axis``, where a single one is looked up or written to; ``batch`` and ``depth`` of GatherND and ScatterND:
so many axes are shared with the indices, so many after them are looked up.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dim, Dims, Facts

LOOKED_UP = "looks this axis up by index"
BY_INDEX = "goes by index along this axis"
WRITES = "each of these positions is written somewhere, and what is not written stays"


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Freeze the looked-up axis; the others pass through, around the axes of the indices."""
    data, indices, axis = ins[0], ins[1], node.attrs["axis"]
    assert data is not None
    assert indices is not None
    out = outs[0]
    facts.freeze(data[axis], f"{node.op} {LOOKED_UP}")
    for a, b in zip(data[:axis], out[:axis], strict=True):
        facts.same(a, b)
    for a, b in zip(data[axis + 1 :], out[axis + len(indices) :], strict=True):
        facts.same(a, b)
    for a, b in zip(indices, out[axis : axis + len(indices)], strict=True):
        facts.same(a, b)
    for k in range(len(data)):
        if k != axis:
            facts.role(0, k, "producer")


def elements(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of GatherElements: every element of the output names its own position on the looked-up axis."""
    data, indices = ins[0], ins[1]
    assert data is not None
    assert indices is not None
    for axis, (a, b, c) in enumerate(zip(data, indices, outs[0], strict=True)):
        facts.same(b, c)
        _beside(node, a, b, looked_up=axis == node.attrs["axis"], facts=facts)


def write_elements(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of ScatterElements: every element of the updates names its own position on the axis written."""
    data, indices, updates = ins[:3]
    assert data is not None
    assert indices is not None
    assert updates is not None
    for axis, (a, b, c, out) in enumerate(zip(data, indices, updates, outs[0], strict=True)):
        facts.same(a, out)
        facts.same(b, c)
        written = axis == node.attrs["axis"]
        _beside(node, a, b, looked_up=written, facts=facts)
        if written:
            facts.freeze(b, WRITES)


def _beside(node: Node, data: Dim, indices: Dim, *, looked_up: bool, facts: Facts) -> None:
    """Couple an axis of the data with that of the indices, unless positions are looked up along it."""
    if looked_up:
        facts.freeze(data, f"{node.op} {BY_INDEX}")
    elif facts.size[facts.find(data)] == facts.size[facts.find(indices)]:
        facts.same(data, indices)
    else:
        facts.freeze_all([[data, indices]], f"{node.op} covers a part of this axis")


def tuples(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of GatherND: the last axis of the indices spells positions on several axes at once."""
    data, indices = ins[0], ins[1]
    assert data is not None
    assert indices is not None
    rest = _by_tuples(node, data, indices, facts)
    for a, b in zip((*indices[:-1], *rest), outs[0], strict=True):
        facts.same(a, b)


def write_tuples(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of ScatterND: as GatherND, the other way round."""
    data, indices, updates = ins[:3]
    assert data is not None
    assert indices is not None
    assert updates is not None
    rest = _by_tuples(node, data, indices, facts)
    facts.freeze_all([indices[:-1]], WRITES)
    for a, b in zip((*indices[:-1], *rest), updates, strict=True):
        facts.same(a, b)
    for a, b in zip(data, outs[0], strict=True):
        facts.same(a, b)


def _by_tuples(node: Node, data: Dims, indices: Dims, facts: Facts) -> Dims:
    """Freeze the axes that are looked up, couple those before them; return those after them."""
    batch, depth = node.attrs["batch"], node.attrs["depth"]
    for a, b in zip(data[:batch], indices[:batch], strict=True):
        facts.same(a, b)
    facts.freeze_all([data[batch : batch + depth], indices[-1:]], f"{node.op} {BY_INDEX}")
    return data[batch + depth :]


def normalised(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of EmbedLayerNormalization: tables looked up, added, and normalised over the last axis.

    Inputs: words, segments, the tables of words, positions and segments, gamma, beta, a mask, positions.
    """
    hidden = outs[0][-1]
    tables = [place for place in (2, 3, 4) if place < len(ins) and ins[place] is not None]
    for place in (*tables, 5, 6):
        dims = ins[place]
        assert dims is not None
        facts.same(dims[-1], hidden)
        facts.role(place, len(dims) - 1, "producer" if place in tables else "scale" if place == 5 else "norm")
        facts.freeze_all([dims[:-1]], f"{node.op} {LOOKED_UP}")
    words = ins[0]
    assert words is not None
    for dims in (*outs, *(ins[place] for place in (1, 7, 8) if place < len(ins))):
        for a, b in zip(words, dims or (), strict=False):
            facts.same(a, b)
        if dims is not None and len(dims) == 3:
            facts.same(dims[-1], hidden)
    facts.freeze(words[1], f"{node.op} counts positions along this axis")
    facts.statistic([2], [hidden], f"{node.op} takes statistics over this axis")
