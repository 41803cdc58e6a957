"""What a place for gates is, and which units the positions along its axis belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..families.facts import Dim
from ..families.pattern import Operand, Token, parse, spread
from ..graph import Graph, Node
from ..groups import Groups, IntArray
from ..layout import Layout

Where = Literal["consumers", "producers"]
OUTPUT = -1
"""Stands for a node's first output where a position among its inputs is asked for."""


@dataclass(frozen=True)
class Factor:
    """Position i of an axis takes gate ``index[i]`` of ``group``, or none where that is the group's size."""

    group: str
    index: IntArray


@dataclass(frozen=True)
class Site:
    """Gates multiply ``tensor``, as input ``position`` of graph node ``node`` (or its OUTPUT), along ``axis``.

    ``is_data`` tells whether the tensor depends on the model's inputs: stored ones have no batch. ``parameters`` are,
    at a producer, the stored tensors that the gated values are linear in, together: each value is the sum over them of
    parameter times derivative.
    """

    node: int
    position: int
    tensor: str
    axis: int
    factors: tuple[Factor, ...]
    is_data: bool = True
    parameters: tuple[str, ...] = ()


def from_inputs(graph: Graph) -> frozenset[str]:
    """Return the tensors that depend on what the model is fed, other than through shapes and types."""
    found = set(graph.inputs)
    for node in graph.nodes:
        if any(n in found for n in (node.inputs[:1] if node.op == "CastLike" else node.inputs)):
            found.update(n for n in node.outputs if n not in graph.known)
    return frozenset(found)


def last_letter(token: Token) -> str:
    """Return the letter of a word, of a product the last one: the one that is summed over, or not."""
    return token if isinstance(token, str) else token[-1]


def letter_size(node: Node, position: int, axis: int, rank: int) -> int | None:
    """Return the size of the last letter on an axis where that is a product of letters, else None."""
    operands, results = parse(node.attrs["pattern"])
    operand: Operand = results[0] if position == OUTPUT else operands[position]
    token = spread(operand, rank)[axis]
    return None if isinstance(token, str) else int(node.attrs["sizes"][token[-1]])


def factors_of(groups: Groups, dim: Dim, letter: int | None = None) -> tuple[Factor, ...]:
    """Return the gates along a dimension, or along its last ``letter`` indices where it is a product.

    A position may take gates of several groups (a head and a head dimension), or several of one; each is a factor.
    """
    layout: Layout = groups.layout
    atoms = layout.facts.atoms(dim)
    sizes = [layout.facts.size[a] for a in atoms]
    first = 0
    if letter is not None:
        tails = [int(np.prod(sizes[k:])) for k in range(len(sizes) + 1)]
        if letter not in tails:
            return ()
        first = tails.index(letter)
    found = [_of_atom(groups, atoms[k], sizes, k) for k in range(first, len(atoms))]
    return tuple(factor for factors in found for factor in factors)


def _of_atom(groups: Groups, atom: Dim, sizes: Sequence[int], k: int) -> Iterator[Factor]:
    layout: Layout = groups.layout
    if not layout.has_units(atom):
        return
    carried = layout.carried(atom)
    outer, inner = int(np.prod(sizes[:k])), int(np.prod(sizes[k + 1 :]))
    for ordinal in np.unique(carried.group).tolist():
        group, mine = groups.groups[ordinal], carried.group == ordinal
        for index in _one_each(carried.index[mine], carried.unit[mine], sizes[k], group.size):
            spread_out = np.broadcast_to(index[None, :, None], (outer, sizes[k], inner))
            yield Factor(group.id, spread_out.ravel().astype(np.int64))


def _one_each(position: IntArray, unit: IntArray, size: int, none: int) -> Iterator[IntArray]:
    """Yield arrays of shape (size,) that hold at most one unit a position, between them all; ``none`` elsewhere."""
    order = np.argsort(position, kind="stable")
    position, unit = position[order], unit[order]
    starts = np.searchsorted(position, position, side="left")
    turn = np.arange(len(position)) - starts
    for k in range(int(turn.max(initial=-1)) + 1):
        index = np.full(size, none, np.int64)
        index[position[turn == k]] = unit[turn == k]
        yield index
