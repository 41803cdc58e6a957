"""Structured optimal brain surgeon: units go one by one, the cheapest first, and the rest makes up for each.

For H^-1 the inverse of the damped moments, removing the columns S of a unit costs, with all other weights at their
best, tr(W_S ([H^-1]_SS)^-1 W_S'), which is exact; then W loses W_S ([H^-1]_SS)^-1 [H^-1]_S:, and H^-1 its part that
goes through S (methods.md 6.9; the order is ZipLM's, Kurtic et al. 2023, arXiv 2302.04089). Several layers that sum
over the same units add up, each times its own factor.

Costs need only the diagonal blocks of H^-1 and of V = W'W, and a removal only the rows S of both. So both matrices are
kept as they were, with the low-rank updates since beside them, and updated by one matrix product for many removals;
what is removed is cut out then. A layer of 4608 columns takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..groups import IntArray
from ..scores import FloatArray
from .layer import Blocks, Layer, inverse, traces

RANK = 160
"""Rows of low-rank updates that are gathered before the matrices are updated."""


@dataclass(frozen=True)
class Removal:
    """An order in which units go, shape (units,), and what each removal adds to the error, shape (units,).

    ``added`` is in the order of removal; its sum over the first m is the exact error without these m units.
    """

    order: IntArray
    added: FloatArray


def eliminate(
    layers: Sequence[Layer], factors: Sequence[float], ridge: float = 1e-2, among: IntArray | None = None
) -> Removal:
    """Return the order in which units go, and the damped error that each adds with the rest refit.

    ``factors`` weigh the layers' errors against each other. ``among`` are the units that may go (default: all), of
    layers that already miss none. Raises UsageError for moments that are singular in spite of the ridge.
    """
    units = layers[0].units
    running = [_Running(layer, factor, ridge) for layer, factor in zip(layers, factors, strict=True)]
    alive = np.zeros(units, np.bool_)
    alive[slice(None) if among is None else among] = True
    order, added = [], []
    for _ in range(int(alive.sum())):
        costs = np.where(alive, sum((r.costs() for r in running), np.zeros(units)), np.inf)
        unit = int(costs.argmin())
        alive[unit] = False
        order.append(unit)
        added.append(float(costs[unit]))
        for layer in running:
            layer.remove(unit)
    return Removal(np.array(order, np.int64), np.array(added, np.float64))


class _Running:
    """A layer while its units go; not to be reused."""

    def __init__(self, layer: Layer, factor: float, ridge: float) -> None:
        self.factor, self.units = factor, layer.units
        blocks = Blocks.of(layer.unit)
        self.present, self.size = blocks.present, blocks.columns.shape[1] if len(blocks.present) else 0
        # Columns are put in the order of units; those that always stay are in H^-1 alone, and drop out here.
        order = blocks.columns.ravel()
        self.inverse = inverse(layer.damped(ridge))[np.ix_(order, order)]
        self.outer = layer.weights[:, order].T @ layer.weights[:, order]
        self.where = np.full(layer.units, -1)
        self._restart()

    def _restart(self) -> None:
        """Take the matrices as they are: no updates since."""
        count, size = len(self.present), self.size
        self.where[:] = -1
        self.where[self.present] = np.arange(count)
        self.gone = np.zeros(count, np.bool_)
        at = np.arange(count * size).reshape(count, size)
        self.inner_blocks = self.inverse[at[:, :, None], at[:, None, :]]
        self.outer_blocks = self.outer[at[:, :, None], at[:, None, :]]
        self.rank, room = 0, RANK + size
        self.through = np.zeros((room, count * size))
        self.crossed = np.zeros((room, count * size))

    def costs(self) -> FloatArray:
        """Return what every unit's removal adds, shape (units,); 0 for those without columns or gone."""
        found = np.zeros(self.units)
        left = ~self.gone
        found[self.present[left]] = self.factor * traces(self.inner_blocks[left], self.outer_blocks[left])
        return found

    def remove(self, unit: int) -> None:
        """Take a unit out."""
        at = int(self.where[unit])
        if at < 0:
            return
        rows, size = slice(at * self.size, (at + 1) * self.size), self.size
        through, crossed = self.through[: self.rank], self.crossed[: self.rank]
        inverse_rows = self.inverse[rows] - through[:, rows].T @ through
        outer_rows = self.outer[rows] - through[:, rows].T @ crossed - crossed[:, rows].T @ through
        factor = np.linalg.inv(np.linalg.cholesky(self.inner_blocks[at]))
        new = factor @ inverse_rows
        moved = factor @ outer_rows - 0.5 * (factor @ self.outer_blocks[at] @ factor.T) @ new
        self.through[self.rank : self.rank + size], self.crossed[self.rank : self.rank + size] = new, moved
        self.rank += size
        self.gone[at] = True
        a, b = (x.reshape(size, -1, size).transpose(1, 0, 2) for x in (new, moved))
        self.inner_blocks -= a.transpose(0, 2, 1) @ a
        both = a.transpose(0, 2, 1) @ b
        self.outer_blocks -= both + both.transpose(0, 2, 1)
        if self.rank >= RANK:
            self._flush()

    def _flush(self) -> None:
        """Update the matrices, of what is left."""
        left = np.flatnonzero(~self.gone)
        columns = (left[:, None] * self.size + np.arange(self.size)).ravel()
        through, crossed = self.through[: self.rank, columns], self.crossed[: self.rank, columns]
        self.inverse = self.inverse[np.ix_(columns, columns)]
        self.inverse -= through.T @ through
        both = through.T @ crossed
        self.outer = self.outer[np.ix_(columns, columns)]
        self.outer -= both
        self.outer -= both.T
        self.present = self.present[left]
        self._restart()
