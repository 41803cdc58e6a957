"""Attention that projects its input itself (onnxruntime's Attention): one matrix for queries, keys and values.

``attrs``: ``heads``, ``depths`` of a head's queries, keys and values, ``pattern`` of the projection, ``scale``, and
whether the widths of the three are ``listed`` in an attribute. Whole heads are removed: their columns in all three
stretches of the matrix and the bias.
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from .facts import Dims, Facts, SizeAttribute, SizesInput

MASK, CACHE, ADDED = 3, 4, 5
ROWS, COLUMNS = 0, 1
"""The axes of the matrix: what is summed over, and what it makes."""


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple every head's columns with each other and with the output."""
    attrs = node.attrs
    data, weight, out = ins[0], ins[1], outs[0]
    assert data is not None
    assert weight is not None
    heads = facts.new(attrs["heads"])
    facts.attend([heads], [])
    widths = []
    for depth in attrs["depths"]:
        width, part = facts.new(attrs["heads"] * depth), facts.new(depth)
        facts.freeze(part, f"{node.op} needs all of a head's depth")
        facts.product([width], [heads, part])
        widths.append(width)
    for stored in (weight[COLUMNS], *([ins[2][0]] if len(ins) > 2 and ins[2] is not None else [])):
        start = 0
        for width in widths:
            facts.select(width, stored, np.arange(start, start + facts.size[width]))
            start += facts.size[width]
    facts.same(out[2], widths[2])
    facts.same(data[2], weight[ROWS])
    facts.same(data[0], out[0])
    facts.same(data[1], out[1])
    facts.freeze(data[1], f"{node.op} compares positions of the sequence")
    if len(outs) > 1 or (len(ins) > CACHE and ins[CACHE] is not None):
        facts.freeze_all([[heads], *outs[1:]], f"cache of {node.op}")
    added = ins[ADDED] if len(ins) > ADDED else None
    if added is not None:
        facts.same(added[1], heads)
        facts.freeze_all([added[2:]], f"{node.op} compares positions of the sequence")
    facts.freeze_all([dims for k, dims in enumerate(ins) if k >= MASK and k != ADDED], f"{node.op} needs all of this")
    facts.role(1, ROWS, "consumer")
    facts.role(1, COLUMNS, "producer")
    facts.contract(1, ROWS, weight[ROWS])
    facts.mend(SizeAttribute("num_heads", heads))
    if attrs["listed"]:
        facts.mend(SizesInput(len(ins), tuple(widths), attribute="qkv_hidden_sizes"))
    rows = [data[0], data[1]]
    seen = outs[1][3] if len(outs) > 1 else data[1]
    scores = [data[0], heads, data[1], seen]
    queries, values = (facts.new(attrs["depths"][k]) for k in (0, 2))
    facts.macs[facts.index] = [[*rows, *weight], [*scores, queries], [*scores, values]]
