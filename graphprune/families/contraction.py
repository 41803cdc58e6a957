"""Contractions: convolution, transposed convolution, matrix product, Gemm, Einsum; with groups.

``attrs``: ``pattern`` (see pattern.py), ``sizes`` of letters that are no axis of their own, ``spatial`` letters (frozen),
``uncounted`` letters (no factor of the MACs), ``attributes`` {name: letter} that are the size of a letter.

Summing over an index is the one place where a removed unit leaves nothing behind but a missing term; so the indices a
contraction sums over are what makes a unit removable. MACs are the product of the sizes of the letters.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, SizeAttribute
from .pattern import bind, letters, parse, spread


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a contraction."""
    attrs = node.attrs
    pattern: str = attrs["pattern"]
    operands, results = parse(pattern)
    ins = (ins + [None] * len(operands))[: len(operands)]
    bound = bind(pattern, [*ins, *outs], facts, attrs.get("sizes", {}))
    for name in bound:
        if _among(name, attrs.get("spatial", ())):
            facts.freeze(bound[name], f"spatial axis of {node.op}")
    uncounted = attrs.get("uncounted", ())
    facts.macs[facts.index] = [[d for name, d in bound.items() if not _among(name, uncounted)]]
    kept_letters = tuple(letter for operand in results for letter in letters(operand))
    for place, (operand, dims) in enumerate(zip(operands, ins, strict=True)):
        for axis, token in enumerate(spread(operand, len(dims)) if dims is not None else ()):
            summed = not all(_among(x, kept_letters) for x in (token[-1:] if isinstance(token, tuple) else (token,)))
            facts.role(place, axis, "consumer" if summed else "producer")
            if summed and place == 0 and dims is not None:
                facts.contract(place, axis, dims[axis])
    facts.mend(*(SizeAttribute(name, bound[letter]) for name, letter in attrs.get("attributes", {}).items()))


def _among(name: str, wanted: tuple[str, ...]) -> bool:
    """Tell whether a bound name is one of some letters, or a numbered axis of a starred one."""
    return name in wanted or (name[0] == "*" and name.rstrip("0123456789") in wanted)
