"""Shuffles: depth to space and back, and reshape → transpose → reshape chains that only permute one axis.

``attrs`` of "shuffle": ``pattern`` and ``sizes``. ``attrs`` of "permutation": ``axis``, ``index`` (output position j
is input position ``index[j]``), ``factors``: (size, stride) of the axis' factors in their new order. The chain is
kept as long as nothing on the axis is cut, and becomes one Gather otherwise.
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
    """State that the output's axis is the input's in another order: index by index, or factor by factor.

    Index by index every channel keeps its own life. Where grouped convolutions stand on both sides, that has no
    solution in whole groups, and the engine asks for factors.
    """
    src, out, axis = ins[0], outs[0], node.attrs["axis"]
    assert src is not None
    for k, (a, b) in enumerate(zip(src, out, strict=True)):
        if k != axis:
            facts.same(a, b)
    if facts.by_factors:
        factors = [(stride, facts.new(size)) for size, stride in node.attrs["factors"]]
        facts.product([out[axis]], [dim for _, dim in factors])
        facts.product([src[axis]], [dim for _, dim in sorted(factors, reverse=True)])
    else:
        facts.select(out[axis], src[axis], node.attrs["index"])
    facts.mend(Reselect(axis, out[axis], src[axis], node.attrs["index"]))
