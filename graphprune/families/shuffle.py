"""Shuffles: depth to space and back, and reshape → transpose → reshape chains that only permute one axis.

``attrs`` of "shuffle": ``pattern`` and ``sizes``. ``attrs`` of "permutation": ``axis``, ``index`` (output position j is input
position ``index[j]``); the chain is kept as long as nothing on the axis is cut, and becomes one Gather otherwise.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, Reselect
from .pattern import bind


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of DepthToSpace and SpaceToDepth."""
    bound = bind(node.attrs["pattern"], [ins[0], outs[0]], facts, node.attrs["sizes"])
    facts.freeze_all([[bound["r"], bound["q"]]], f"block of {node.op}")


def permutation(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State that the output's axis is the input's in another order."""
    src, out, axis = ins[0], outs[0], node.attrs["axis"]
    assert src is not None
    for k, (a, b) in enumerate(zip(src, out, strict=True)):
        if k != axis:
            facts.same(a, b)
    facts.select(out[axis], src[axis], node.attrs["index"])
    facts.mend(Reselect(axis, out[axis], src[axis], node.attrs["index"]))
