"""Concat along ``axis``: the output's indices are the inputs', one after the other.

``attrs``: ``axis``, and ``data``, the positions of what is put together (all inputs unless given).
"""

from __future__ import annotations

import numpy as np

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Map each input onto its stretch of the output along the axis; the other axes are the same."""
    axis, out = node.attrs["axis"], outs[0]
    start = 0
    for dims in (ins[place] for place in node.attrs.get("data", range(len(ins)))):
        if dims is None:
            continue
        size = facts.size[dims[axis]]
        if size == facts.size[out[axis]]:
            facts.same(out[axis], dims[axis])
        else:
            facts.select(dims[axis], out[axis], np.arange(start, start + size))
        start += size
        for k, dim in enumerate(out):
            if k != axis:
                facts.same(dim, dims[k])
