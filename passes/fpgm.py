"""FPGM: filters close to all the others are redundant, however large they are.

After He et al., *Filter Pruning via Geometric Median* (arXiv 1811.00250): the sum of a filter's
distances to all filters of its layer. Squared distances come from inner products, block by block:
d(i,j)^2 = |p_i|^2 + |p_j|^2 - 2 p_i.p_j. Filters are centred first (which changes no distance) and summed in float64,
so that little cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphprune.graph import Graph
from graphprune.groups import Group, Groups, IntArray, Member
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, collect
from graphprune.weights import Weights

CELLS = 1 << 22
"""Float64 elements of a block of filters: 32 MB."""
PAIRS = 1 << 23
"""Float64 elements of a block of squared distances: 64 MB."""
ROUNDING = 1e-13
"""A squared distance below this part of the squared norm is rounding: the filters are the same."""


@dataclass(frozen=True)
class FPGM:
    """Score a unit by the sum of Euclidean distances between its producers' slices and those of every other unit.

    A unit's slices in all producers of its group are laid end to end, each tensor divided by its own norm first, so
    that a unit is redundant only where it is so in every producer. Biases count only where a group has no producer with
    two axes or more; a group without producers is compared by all its weights.
    """

    name: ClassVar[str] = "fpgm"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "sum of distances to all other filters of the group (geometric median)"
    scale_equivariant: ClassVar[bool] = True

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group. Raises ModelError for NaN weights."""
        weights = Weights(graph)

        def score(group: Group) -> FloatArray:
            members = weights.members(group, "producer")
            filters = [m for m in members if len(graph.shape(m.tensor)) > 1] or members
            return _distance_sums(weights, filters, group.size)

        return collect(self, weights, groups, score)


def _distance_sums(weights: Weights, members: Sequence[Member], size: int) -> FloatArray:
    """Sum of distances to all units, shape (size,), for a block of rows of the distance matrix at a time."""
    step = max(1, min(size, PAIRS // size))
    sums = np.empty(size)
    for start in range(0, size, step):
        rows = slice(start, min(size, start + step))
        sums[rows] = _distances(weights, members, size, rows).sum(axis=1)
    return sums


def _distances(weights: Weights, members: Sequence[Member], size: int, rows: slice) -> FloatArray:
    """Distances between the units of ``rows`` and all units, shape (rows, size)."""
    inner = np.zeros((rows.stop - rows.start, size))
    norms = np.zeros(size)
    for member in members:
        for block in _blocks(weights, member, size):
            inner += block[rows] @ block.T
            norms += np.einsum("ij,ij->i", block, block)
    squared = np.multiply(inner, -2, out=inner)
    squared += norms
    squared += norms[rows, None]
    squared[squared <= ROUNDING * norms[rows, None]] = 0
    return np.sqrt(squared, out=squared)


def _blocks(weights: Weights, member: Member, size: int) -> Iterator[FloatArray]:
    """Yield the units' slices of a member as rows of matrices of bounded width, centred, the whole of norm 1."""
    energy = float(weights.of_units(member, size).sum())
    if energy == 0:
        return
    array = np.moveaxis(weights.values(member.tensor), member.axis, 0)
    matrix = array.reshape(len(array), -1)
    places = _places(member, size)
    step = max(1, CELLS // places.size)
    for start in range(0, matrix.shape[1], step):
        block = matrix[places, start : start + step].astype(np.float64)
        block[places < 0] = 0
        block = block.reshape(size, -1)
        block -= block.mean(axis=0)
        block /= np.sqrt(energy)
        yield block


def _places(member: Member, size: int) -> IntArray:
    """Return the positions every unit owns, ascending, shape (size, most positions a unit owns), filled up with -1."""
    order = np.lexsort((member.index, member.unit))
    unit, index = member.unit[order], member.index[order]
    count = np.bincount(unit, minlength=size)
    places = np.full((size, int(count.max())), -1, dtype=np.int64)
    places[unit, np.arange(len(unit)) - (np.cumsum(count) - count)[unit]] = index
    return places
