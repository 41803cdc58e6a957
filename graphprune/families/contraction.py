"""Contractions: convolution, transposed convolution, matrix product, Gemm, Einsum; with groups.

``attrs``: ``pattern`` (see pattern.py), ``sizes`` of letters that are no axis of their own, ``spatial`` letters (frozen),
``uncounted`` letters (no factor of the MACs), ``attributes`` {name: letter} that are the size of a letter.

Summing over an index is the one place where a removed unit leaves nothing behind but a missing term; so the indices a
contraction sums over are what makes a unit removable. MACs are the product of the sizes of the letters.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, SizeAttribute
from .pattern import bind, letters, parse, position


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a contraction."""
    attrs = node.attrs
    pattern: str = attrs["pattern"]
    operands, results = parse(pattern)
    ins = (ins + [None] * len(operands))[: len(operands)]
    bound = bind(pattern, [*ins, *outs], facts, attrs.get("sizes", {}))
    for letter in attrs.get("spatial", ()):
        for name in bound:
            if _is(name, letter):
                facts.freeze(bound[name], f"spatial axis of {node.op}")
    uncounted = attrs.get("uncounted", ())
    facts.macs[facts.index] = [[d for name, d in bound.items() if not any(_is(name, u) for u in uncounted)]]
    kept_letters = {token for operand in results for token in letters(operand)}
    for place, (operand, dims) in enumerate(zip(operands, ins, strict=True)):
        if dims is None:
            continue
        for letter in bound:
            axis = position(operand, len(dims), letter)
            if axis is None:
                continue
            summed = not any(_is(letter, k) for k in kept_letters)
            if summed and place == 0:
                facts.contract(place, axis, dims[axis])
            if place > 0 or facts.roles.get((facts.index, place, axis)) is None:
                facts.role(place, axis, "consumer" if summed else "producer")
    facts.mend(*(SizeAttribute(name, bound[letter]) for name, letter in attrs.get("attributes", {}).items()))


def _is(name: str, letter: str) -> bool:
    """Tell whether a bound name is a letter, or one of the numbered axes of a starred letter."""
    return name == letter or (letter[0] == "*" and name.startswith(letter) and name[len(letter) :].isdigit())
