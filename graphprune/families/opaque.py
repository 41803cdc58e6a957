"""What no rule knows freezes every axis it touches, with the reason: a wrong model is the one unforgivable result."""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Freeze all axes. ``attrs``: ``reason``; ``macs``: lists of (input, axis) whose product counts."""
    facts.freeze_all([*ins, *outs], node.attrs.get("reason", f"{node.op} is not known to graphprune"))
    tensors = [*ins, *outs]
    for product in node.attrs.get("macs", ()):
        dims = [tensors[place][axis] for place, axis in product]
        facts.macs.setdefault(facts.index, []).append(dims)


def value(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Arithmetic on shapes: it follows the sizes by itself and couples nothing; its own axes do not change."""
    facts.freeze_all(outs, f"{node.op} computes a shape")
