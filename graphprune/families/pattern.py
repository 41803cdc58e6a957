"""Coupling rules as text: einops-like patterns in which a shared letter is a shared axis.

    b (g i) *s, (g o) i *k, (g o) -> b (g o) *t          a grouped convolution with bias

A word is an axis; ``*s`` stands for any number of axes; ``(g i)`` is an axis that is the row-major product of g and
i; a word of ``1`` is an axis that takes no part. Letters with a ``*`` that differ are unrelated axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from .facts import Dims, Facts

Token = str | tuple[str, ...]
Operand = tuple[Token, ...]


@cache
def parse(pattern: str) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """Split a pattern into the operands left and right of the arrow."""
    left, right = pattern.split("->")
    return tuple(map(_operand, left.split(","))), tuple(map(_operand, right.split(",")))


def _operand(text: str) -> Operand:
    tokens: list[Token] = []
    words = text.replace("(", " ( ").replace(")", " ) ").split()
    while words:
        word = words.pop(0)
        if word == "(":
            close = words.index(")")
            tokens.append(tuple(words[:close]))
            del words[: close + 1]
        else:
            tokens.append(word)
    return tuple(tokens)


@cache
def letters(operand: Operand) -> frozenset[str]:
    """Return every letter of an operand, the ones inside parentheses too."""
    return frozenset(x for token in operand for x in (token if isinstance(token, tuple) else (token,)))


@cache
def spread(operand: Operand, rank: int) -> Operand:
    """Replace the ``*`` word, if any, by as many numbered words as the rank needs."""
    stars = [i for i, token in enumerate(operand) if isinstance(token, str) and token[0] == "*"]
    if not stars:
        return operand
    at, missing = stars[0], rank - len(operand) + 1
    name = operand[at]
    # Numbered from the end, as broadcasting aligns axes.
    return (*operand[:at], *(f"{name}{missing - i}" for i in range(missing)), *operand[at + 1 :])


def bind(pattern: str, tensors: Sequence[Dims | None], facts: Facts, sizes: Mapping[str, int]) -> dict[str, int]:
    """Couple the axes of ``tensors`` (inputs, outputs; None: absent) as the pattern says; return the letters' axes.

    ``sizes`` gives the sizes of letters that never are an axis of their own.
    """
    left, right = parse(pattern)
    bound: dict[str, int] = {}
    composites: list[tuple[int, tuple[str, ...]]] = []
    for operand, dims in zip(left + right, tensors, strict=False):
        if dims is None:
            continue
        for token, dim in zip(spread(operand, len(dims)), dims, strict=True):
            if isinstance(token, tuple):
                composites.append((dim, token))
            elif token != "1":
                if token in bound and facts.size[bound[token]] != 1:
                    facts.same(bound[token], dim)
                else:
                    bound[token] = dim
    for dim, parts in composites:
        for part in parts:
            if part not in bound:
                bound[part] = facts.new(sizes[part])
        facts.product([dim], [bound[part] for part in parts])
    return bound


def position(operand: Operand, rank: int, letter: str) -> int | None:
    """Return the axis at which a letter stands in an operand, alone or inside parentheses."""
    for axis, token in enumerate(spread(operand, rank)):
        if letter == token or (isinstance(token, tuple) and letter in token):
            return axis
    return None
