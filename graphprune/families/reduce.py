"""Reductions over ``axes`` (``keepdims``): means and sums are statistics, maxima and arg-maxima compare.

``attrs``: ``kind`` "statistic" (mean, sum, norms: inexact, as in a layer norm that is spelled out) or "compare"
(frozen).
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple the axes that stay; mark those that are reduced."""
    src, axes = ins[0], set(node.attrs["axes"])
    assert src is not None
    kept = [d for k, d in enumerate(src) if k not in axes]
    for out in outs:
        targets = [d for k, d in enumerate(out) if k not in axes] if node.attrs["keepdims"] else out
        for a, b in zip(kept, targets, strict=True):
            facts.same(a, b)
    reduced = [src[k] for k in sorted(axes)]
    if node.attrs["kind"] == "statistic":
        facts.statistic(sorted(axes), reduced, f"{node.op} takes a statistic over this axis")
    else:
        for dim in reduced:
            facts.freeze(dim, f"{node.op} compares the indices of this axis")


def compare(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Freeze the axes along which TopK, CumSum and their like work; the others are the same."""
    assert ins[0] is not None
    for out in outs:
        for axis, (a, b) in enumerate(zip(ins[0], out, strict=True)):
            if axis in node.attrs["axes"]:
                facts.freeze_all([[a, b]], f"{node.op} works along this axis")
            else:
                facts.same(a, b)
