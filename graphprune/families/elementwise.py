"""Elementwise operators with broadcasting: every output index comes from the same index of every input.

What a unit becomes at zero does not matter here (a sigmoid gives 0.5): it is dropped, and whoever sums over it misses
one term, with whatever value it had.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple axes aligned from the right; an axis of one index broadcasts and says nothing."""
    for out in outs:
        for place, dims in enumerate(ins):
            if dims is None:
                continue
            for offset in range(1, min(len(dims), len(out)) + 1):
                facts.same(out[-offset], dims[-offset])
                facts.role(place, len(dims) - offset, node.attrs.get("role", "other"))
