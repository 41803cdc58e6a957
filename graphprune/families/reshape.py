"""Reshape, Flatten, Squeeze, Unsqueeze: the same elements in row-major order under other axes.

``attrs``: ``shape_input``, the position of the input that spells the new sizes, if there is one.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, SizesInput


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State that the input's axes and the output's enumerate the same indices."""
    assert ins[0] is not None
    facts.product(ins[0], outs[0])
    if "shape_input" in node.attrs:
        facts.mend(SizesInput(node.attrs["shape_input"], tuple(outs[0]), "shape"))
