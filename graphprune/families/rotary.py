"""Rotary position embedding as one operator: pairs of entries of every head are turned by the angles of the position.

``attrs``: ``heads`` and ``depth`` of a head, how many entries are ``turned`` (the first ones), whether pairs are
``interleaved`` (neighbours) or halves apart; ``tables``, the positions of the cosines and sines among the inputs;
``attributes`` {name: "heads" or "turned"} that are sizes. A pair is removed as a whole, with its column of the tables.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from .facts import Dim, Dims, Facts, SizeAttribute

TURNS = "a rotary embedding turns its pairs"


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple the pairs of a head with each other and with the angles; whole heads stay free."""
    attrs, data, out = node.attrs, ins[0], outs[0]
    assert data is not None
    folded = len(data) == 3
    for a, b in zip(data, out, strict=True):
        facts.same(a, b)
    sequence = data[1] if folded else data[2]
    facts.freeze(sequence, f"{node.op} turns by the position")
    heads, depth = (facts.new(attrs["heads"]), facts.new(attrs["depth"])) if folded else (data[1], data[3])
    if folded:
        facts.product([data[2]], [heads, depth])
    turned, pairs = _pairs(node, depth, facts)
    for place in attrs["tables"]:
        table = ins[place]
        assert table is not None
        facts.same(table[-1], pairs)
        if len(table) == 3:
            facts.same(table[0], data[0])
            facts.same(table[1], sequence)
        else:
            facts.freeze(table[0], f"{node.op} looks this axis up by index")
    facts.freeze_all(
        [dims for k, dims in enumerate(ins) if k > 0 and k not in attrs["tables"]], f"{node.op} needs all of this"
    )
    sized = {"heads": heads, "turned": turned}
    facts.mend(*(SizeAttribute(name, sized[what]) for name, what in attrs["attributes"].items()))


def _pairs(node: Node, depth: Dim, facts: Facts) -> tuple[Dim, Dim]:
    """Return the axis of the turned entries of a head, and that of their pairs."""
    count = node.attrs["turned"]
    turned, pairs, two = facts.new(count), facts.new(count // 2), facts.new(2)
    facts.freeze(two, TURNS)
    if count == facts.size[facts.find(depth)]:
        facts.same(turned, depth)
    else:
        facts.select(turned, depth, np.arange(count))
    facts.product([turned], [pairs, two] if node.attrs["interleaved"] else [two, pairs])
    return turned, pairs
