"""Expand (broadcast to a shape), Tile (repeat), ConstantOfShape (a shape filled with one value)."""

from __future__ import annotations

from ..graph import Node
from .facts import Dim, Dims, Facts, SizesInput


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple axes of more than one index; an axis made by repetition is free."""
    src, out = ins[0], outs[0]
    assert src is not None
    for offset in range(1, len(src) + 1):
        facts.same(out[-offset], src[-offset])
    # Expand's own shape may say 1 where the input has more: such an entry never changes.
    rank = node.attrs["shape_rank"]
    facts.mend(SizesInput(1, tuple(out[len(out) - rank :]), "shape"))


def tile(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Make a repeated axis the product of the repetitions and the axis."""
    src = ins[0]
    assert src is not None
    repeats: list[Dim] = []
    for a, b in zip(src, outs[0], strict=True):
        repeats.append(facts.new(facts.size[b] // max(facts.size[a], 1)))
        facts.product([repeats[-1], a], [b])
    facts.mend(SizesInput(1, tuple(repeats), "repeats"))


def fill(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Leave the axes of a filled constant free: they follow whatever they meet."""
    facts.mend(SizesInput(0, tuple(outs[0]), "shape"))
