"""An If with two branches: whichever is taken, what comes out has the same indices."""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple what the two branches give; freeze where they differ. ``attrs``: ``pairs`` of (input, input) by output."""
    pairs = node.attrs["pairs"]
    used = {place for pair in pairs for place in pair}
    facts.freeze_all([ins[0]], f"decides which branch of {node.op} is taken")
    facts.freeze_all([d for place, d in enumerate(ins) if place and place not in used], f"a result of {node.op}")
    for out, (one, other) in zip(outs, pairs, strict=True):
        triple = [out, ins[one] or [], ins[other] or []]
        if len({len(dims) for dims in triple}) > 1:
            facts.freeze_all(triple, f"the branches of {node.op} give different ranks")
            continue
        for axes in zip(*triple, strict=True):
            if len({facts.size[facts.find(d)] for d in axes}) > 1:
                facts.freeze_all([list(axes)], f"the branches of {node.op} give different sizes")
            else:
                facts.same(axes[0], axes[1])
                facts.same(axes[0], axes[2])
