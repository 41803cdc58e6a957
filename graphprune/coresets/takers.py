"""What consumers make of units: the stored weights that multiply them, place by place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..families.pattern import letters, parse, spread
from ..folding.operands import Use
from ..folding.slices import letters_of
from ..graph import Array
from ..groups import IntArray
from ..scores import FloatArray
from ..sites.site import Factor, Site
from .stored import Stored

Kernel = Literal["sum", "max"]
BLOCK = 1 << 23
"""Elements that are made absolute at a time."""


@dataclass(frozen=True)
class Taker:
    """A sum over a group's units with stored weights: node ``node`` sums its data ``tensor`` over ``axis``.

    A batch normalisation behind the sum is folded into its weights where that can be done. ``letters`` are those of the
    weight as the node reads it, in order, ``sizes`` theirs; ``summed`` are the letters of
    the data's axis that the units stand along, and ``outputs`` those that the result has and the data's axis has not.
    """

    node: int
    tensor: str
    axis: int
    use: Use
    letters: tuple[str, ...]
    sizes: tuple[int, ...]
    summed: tuple[str, ...]
    outputs: tuple[str, ...]
    factor: Factor
    units: int
    stored: Stored

    @property
    def parameter(self) -> str:
        """The name of the stored weight."""
        return self.use.parameter

    @property
    def kernel(self) -> bool:
        """Whether several weights lie between a unit's position and an output: a kernel's area."""
        return set(self.letters) != {*self.summed, *self.outputs}

    @property
    def count(self) -> int:
        """Number of outputs a position."""
        return int(np.prod([self.sizes[self.letters.index(x)] for x in self.outputs]))

    def table(self) -> FloatArray:
        """Return the weights, shape (outputs, units): signed where a unit is one position and there is no kernel.

        Else the sum of their absolute values over the kernel and the unit's positions.
        """
        matrix, (order, starts, present) = self._matrix(), self._positions()
        signed = not self.kernel and len(starts) == len(order)
        summed = (matrix if signed else np.abs(matrix)).sum(axis=2, dtype=np.float64)
        found = np.zeros((len(matrix), self.units))
        found[:, present] = np.add.reduceat(summed[:, order], starts, axis=1)
        return found

    def strength(self, kernel: Kernel = "sum") -> FloatArray:
        """Return the largest of the table's entries over the outputs, shape (units,), by absolute value.

        ``kernel="max"`` takes the largest entry of the kernel instead of its sum. Outputs are taken block by block.
        """
        matrix, (order, starts, present) = self._matrix(), self._positions()
        found, most = np.zeros(self.units), np.zeros(len(present))
        step = max(1, BLOCK // max(int(np.prod(matrix.shape[1:])), 1))
        for start in range(0, len(matrix), step):
            part = np.abs(matrix[start : start + step])
            part = part.max(axis=2, initial=0.0) if kernel == "max" else part.sum(axis=2)
            if len(starts) == len(order):
                most = np.maximum(most, part.max(axis=0, initial=0.0)[order])
            else:
                summed = np.add.reduceat(part[:, order], starts, axis=1, dtype=np.float64)
                most = np.maximum(most, summed.max(axis=0, initial=0.0))
        found[present] = most
        return found

    def _matrix(self) -> Array:
        """Return the weights as outputs x positions x kernel."""
        array: Array = self.stored.folded(self.use).reshape(self.sizes)
        rest = tuple(x for x in self.letters if x not in (*self.summed, *self.outputs))
        order = [self.letters.index(x) for x in (*self.outputs, *self.summed, *rest)]
        moved = array.transpose(order)
        positions = int(np.prod([self.sizes[self.letters.index(x)] for x in self.summed]))
        return moved.reshape(self.count, positions, -1)

    def _positions(self) -> tuple[IntArray, IntArray, IntArray]:
        """Return the positions of units, unit by unit, where each one's begin, and which units have any."""
        index = self.factor.index
        order = np.argsort(index, kind="stable")[: int((index < self.units).sum())]
        present, starts = np.unique(index[order], return_index=True)
        return order, starts, present


def takers(stored: Stored, site: Site) -> Iterator[tuple[str, Taker | None]]:
    """Yield (group id, taker) for every group that a site sums over; None where no stored weight multiplies it."""
    for factor in site.factors:
        yield factor.group, _taker(stored, site, factor)


def _taker(stored: Stored, site: Site, factor: Factor) -> Taker | None:
    graph, node = stored.graph, stored.graph.nodes[site.node]
    if node.family != "contraction":
        return None
    operands, results = parse(node.attrs["pattern"])
    place = 1 - site.position if site.position < 2 else -1
    use = stored.use(site.node, place) if 0 <= place < len(node.inputs) else None
    if use is None:
        return None
    data = spread(operands[site.position], len(graph.shape(site.tensor)))[site.axis]
    shape = graph.shape(node.inputs[place] or "")
    names, sizes = letters_of(spread(operands[place], len(shape)), shape, node.attrs.get("sizes", {}))
    along = (data,) if isinstance(data, str) else data
    if not set(along) <= set(names) or len(set(names)) != len(names):
        return None
    made = {x for result in results for x in letters(spread(result, len(graph.shape(node.outputs[0]))))}
    outputs = tuple(x for x in names if x in made and x not in along)
    size = stored.groups[factor.group].size
    return Taker(
        site.node, site.tensor, site.axis, use, tuple(names), tuple(sizes), along, outputs, factor, size, stored
    )
