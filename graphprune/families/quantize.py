"""Quantise and dequantise: elementwise, with scales and zero points per tensor, along ``axis``, or per block of it.

A removed unit is one whose codes are the zero point: that is what stands for zero. Scales and zero points along an axis
follow it. Where a scale serves a ``block`` of indices, only whole blocks can go. Dynamic quantisation takes its scale
from the largest and the smallest number of the whole tensor, and zero: it is taken over what is kept, as if removed
numbers were zeros.
"""

from __future__ import annotations

from dataclasses import replace

from ..graph import Node
from . import contraction, packed_attention
from .facts import Dim, Dims, Facts, SizeAttribute
from .pattern import bind

WEIGHT, BACK, BIAS, STATE = 1, 2, 3, 5
"""Inputs of a recurrent layer."""


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple the data with the result, and scales and zero points with the axis they run along."""
    src, axis, block = ins[0], node.attrs["axis"], node.attrs["block"]
    assert src is not None
    for a, b in zip(src, outs[0], strict=True):
        facts.same(a, b)
    steps = [dims for dims in ins[1:] if dims is not None]
    for dims in steps:
        if len(dims) == 1 and facts.size[dims[0]] > 1 and len(src):
            facts.same(dims[0], src[axis])
        elif len(dims) > 1:
            for k, (a, b) in enumerate(zip(src, dims, strict=True)):
                if k != axis:
                    facts.same(a, b)
    blocked = [dims[axis] for dims in steps if len(dims) > 1]
    if blocked:
        _in_blocks(src[axis], blocked, block, facts)


def _in_blocks(along: Dim, steps: list[Dim], block: int, facts: Facts) -> None:
    """Split an axis into blocks, one for each entry of the scales."""
    count, size = facts.size[steps[0]], facts.size[facts.find(along)]
    if count <= 1:  # one block for all: whatever is left of it still has one scale
        return
    if not block or count * block != size:
        facts.freeze_all([[along, *steps]], f"quantised in blocks of {block}, the last of which is not whole")
        return
    inside = facts.new(block)
    facts.freeze(inside, f"quantised in blocks of {block}: only whole blocks can go")
    for step in steps:
        facts.product([along], [step, inside])


def dynamic(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple the data with its codes; the range is taken over what is kept."""
    src = ins[0]
    assert src is not None
    for axis, (a, b) in enumerate(zip(src, outs[0], strict=True)):
        facts.same(a, b)
        facts.hide(0, axis, a)


def contract(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a contraction of codes; ``ranged``: inputs that it quantises by their own range."""
    before = len(facts.contractions)
    contraction.couple(node, ins, outs, facts)
    summed = {(c.position, c.axis) for c in facts.contractions[before:]}
    for place in node.attrs.get("ranged", ()):
        for axis, dim in enumerate(ins[place] or ()):
            if (place, axis) not in summed:
                facts.hide(place, axis, dim)


def attend(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple attention that projects codes by one matrix of codes (QAttention) as the floating one.

    Inputs: data, matrix, bias, scales of both, mask, zero points of both, cache.
    """
    data, matrix, bias, _, scale, mask, _, zero, cache = (ins + [None] * 9)[:9]
    assert data is not None
    assert matrix is not None
    packed_attention.couple(node, [data, matrix, bias, mask, cache], outs, facts)
    for dims in (scale, zero):
        if dims is not None and len(dims) == 1:
            facts.same(dims[0], matrix[1])
    # The codes of the matrix stay a constant, as in any other contraction of codes.
    facts.contractions[-1] = replace(facts.contractions[-1], position=0, axis=2)


def recurrent(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a recurrent layer that quantises its data and its own state by their ranges.

    ``attrs``: ``pattern`` and ``sizes`` of a recurrent layer's letters, ``attributes``. A removed unit's state is zero:
    its gates are closed by their biases, so that the ranges inside are taken over what is kept.
    """
    attrs = node.attrs
    ins = (ins + [None] * attrs["operands"])[: attrs["operands"]]
    bound = bind(attrs["pattern"], [*ins, *outs], facts, attrs["sizes"])
    facts.freeze(bound["s"], f"{node.op} goes along this axis step by step")
    facts.freeze_all([[bound[letter] for letter in ("d", *attrs["sizes"]) if letter in bound]], f"gates of {node.op}")
    data, weight, back, bias = ins[:4]
    assert data is not None
    assert weight is not None
    assert back is not None
    assert bias is not None
    for place in (WEIGHT, BACK):
        facts.role(place, 1, "consumer")
        facts.role(place, 2, "producer")
    facts.contract(0, 2, data[2])
    facts.hide(BIAS, 1, bias[1])
    state = ins[STATE]
    if state is not None:
        facts.hide(STATE, 2, state[2])
    facts.macs[facts.index] = [[bound["s"], bound["b"], *weight], [bound["s"], bound["b"], *back]]
    facts.mend(*(SizeAttribute(name, bound[letter]) for name, letter in attrs["attributes"].items()))


def packed(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple a matrix of packed codes (n, blocks, bytes) times data (..., k): MatMulNBits.

    ``attrs``: ``block``, ``blocks`` whose zero points share a byte, ``whole``: why the summed axis stays, or "". Its
    outputs are free. The axis it sums over has one scale a block, so that only whole blocks can go, as many at once as
    share a byte of zero points.
    """
    attrs = node.attrs
    data, codes, scales, zeros, order, bias = (ins + [None] * 6)[:6]
    assert data is not None
    assert codes is not None
    assert scales is not None
    n, k, out = codes[0], data[-1], outs[0]
    count = facts.size[codes[1]]
    inside, bytes_of = facts.new(attrs["block"] * attrs["blocks"]), facts.new(max(count // attrs["blocks"], 1))
    for a, b in zip(data[:-1], out[:-1], strict=True):
        facts.same(a, b)
    facts.same(out[-1], n)
    facts.freeze(codes[2], f"{node.op} packs the codes of a block")
    facts.product(scales, [n, codes[1]])
    if bias is not None:
        facts.same(bias[0], n)
    if attrs["whole"]:
        facts.freeze_all([[k, codes[1]], order], attrs["whole"])
        if zeros is not None:
            each = facts.new(facts.graph.tensors[node.inputs[3] or ""].size // facts.size[n])
            facts.freeze(each, attrs["whole"])
            facts.product(zeros, [n, each])
    else:
        at_once = facts.new(attrs["blocks"])
        for dim in (inside, at_once):
            facts.freeze(dim, f"{node.op} has one scale a block: only whole blocks can go")
        facts.product([k], [bytes_of, inside])
        facts.product([codes[1]], [bytes_of, at_once])
        if zeros is not None:
            facts.product(zeros, [n, bytes_of] if attrs["bytes"] else [n, codes[1]])
    facts.role(1, 0, "producer")
    facts.role(1, 1, "consumer")
    facts.contract(0, len(data) - 1, k)
    facts.mend(SizeAttribute("N", n), SizeAttribute("K", k))
    facts.macs[facts.index] = [[*data[:-1], n, k]]
