"""Pooling, resizing and other work over space: every axis but the ``spatial`` ones stays as it is.

``attrs``: ``spatial``, axes of the first input; ``sizes_input``, the position of an input that spells all output
sizes (Resize); ``gridded``, whether the second input is a grid of places for every sample of the first (GridSample).
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, SizesInput


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple the axes that stay, freeze the spatial ones, and every other argument or result."""
    src, out = ins[0], outs[0]
    assert src is not None
    for axis, (a, b) in enumerate(zip(src, out, strict=True)):
        if axis in node.attrs["spatial"]:
            facts.freeze_all([[a, b]], f"spatial axis of {node.op}")
        else:
            facts.same(a, b)
    others = list(ins[1:])
    if node.attrs.get("gridded") and others[0] is not None:
        # Deformable attention folds its heads into the batch: samples and their grids go together.
        facts.same(src[0], others[0][0])
        others[0] = others[0][1:]
    facts.freeze_all(others, f"argument of {node.op}")
    # A second result (the positions MaxPool found) counts through all channels.
    facts.freeze_all([*outs[1:], *([out] if len(outs) > 1 else [])], f"positions returned by {node.op}")
    if "sizes_input" in node.attrs:
        facts.mend(SizesInput(node.attrs["sizes_input"], tuple(out[a] for a in node.attrs["sized"]), "sizes"))
