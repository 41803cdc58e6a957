"""Contractions: convolution, transposed convolution, matrix product, Gemm, Einsum; with groups.

``attrs``: ``pattern`` (see pattern.py), ``sizes`` of letters that are no axis of their own, ``spatial`` letters
(frozen), ``uncounted`` letters (no factor of the MACs), ``attributes`` {name: letter} that are the size of a letter.

Summing over an index is the one place where a removed unit leaves nothing behind but a missing term; so the indices a
contraction sums over are what makes a unit removable. MACs are the product of the sizes of the letters.
"""

from __future__ import annotations

from functools import cache

from ..graph import Node
from .facts import Dims, Facts, SizeAttribute
from .pattern import Operand, bind, letters, parse, spread


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a contraction."""
    attrs = node.attrs
    pattern: str = attrs["pattern"]
    operands, results = parse(pattern)
    ins = (ins + [None] * len(operands))[: len(operands)]
    bound = bind(pattern, [*ins, *outs], facts, attrs.get("sizes", {}))
    spatial, counted = _sorted_out(tuple(bound), attrs.get("spatial", ()), attrs.get("uncounted", ()))
    for name in spatial:
        facts.freeze(bound[name], f"spatial axis of {node.op}")
    facts.macs[facts.index] = [[bound[name] for name in counted]]
    ranks = tuple(-1 if dims is None else len(dims) for dims in ins)
    # Leaving a term out of the sum takes a zero on one side; the stored side is the cheaper one. Stored codes stay
    # constants, though: onnxruntime may convert those, and then rounds otherwise than without.
    stored = len(node.inputs) > 1 and facts.graph.tensors[node.inputs[1] or ""].kind == "parameter"
    stored = stored and "codes" not in attrs
    for place, axis, summed in _sums(operands, results, ranks):
        facts.role(place, axis, "consumer" if summed else "producer")
    for place, axis in _terms(operands, results, ranks, int(stored)):
        dims = ins[place]
        assert dims is not None
        facts.contract(place, axis, dims[axis])
    facts.mend(*(SizeAttribute(name, bound[letter]) for name, letter in attrs.get("attributes", {}).items()))


@cache
def _sorted_out(
    names: tuple[str, ...], spatial: tuple[str, ...], uncounted: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which bound names are spatial, and which are factors of the MACs."""
    return tuple(n for n in names if _among(n, spatial)), tuple(n for n in names if not _among(n, uncounted))


@cache
def _terms(
    operands: tuple[Operand, ...], results: tuple[Operand, ...], ranks: tuple[int, ...], preferred: int
) -> tuple[tuple[int, int], ...]:
    """Return one (operand, axis) for every letter that is summed over, in the preferred operand if it is there."""
    chosen: dict[str, tuple[int, int]] = {}
    for place, axis, summed in _sums(operands, results, ranks):
        token = spread(operands[place], ranks[place])[axis]
        letter = token if isinstance(token, str) else token[-1]
        if summed and (place == preferred or letter not in chosen):
            chosen[letter] = (place, axis)
    return tuple(chosen.values())


@cache
def _sums(
    operands: tuple[Operand, ...], results: tuple[Operand, ...], ranks: tuple[int, ...]
) -> tuple[tuple[int, int, bool], ...]:
    """Return (operand, axis, whether it is summed over) for every axis; of a product its last factor decides."""
    kept = tuple(letter for operand in results for letter in letters(operand))
    return tuple(
        (place, axis, not _among(token[-1] if isinstance(token, tuple) else token, kept))
        for place, (operand, rank) in enumerate(zip(operands, ranks, strict=True))
        if rank >= 0
        for axis, token in enumerate(spread(operand, rank))
    )


def _among(name: str, wanted: tuple[str, ...]) -> bool:
    """Tell whether a bound name is one of some letters, or a numbered axis of a starred one."""
    return name in wanted or (name[0] == "*" and name.rstrip("0123456789") in wanted)
