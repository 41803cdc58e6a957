"""Transpose. ``attrs``: ``perm``."""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple every output axis with the input axis it comes from."""
    assert ins[0] is not None
    for out, axis in zip(outs[0], node.attrs["perm"], strict=True):
        facts.same(out, ins[0][axis])
