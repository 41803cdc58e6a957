"""Structured optimal brain surgeon: units go one by one, the cheapest first, and the rest makes up for each.

For H^-1 the inverse of the damped moments, removing the columns S of a unit costs, with all other weights at their
best, tr(W_S ([H^-1]_SS)^-1 W_S'), which is exact; then W loses W_S ([H^-1]_SS)^-1 [H^-1]_S:, and H^-1 its part that
goes through S (methods.md 6.9; the order is ZipLM's, Kurtic et al. 2023, arXiv 2302.04089). Several layers that sum
over the same units add up, each times its own factor.

Costs need only the diagonal blocks of H^-1 and of V = W'W, and a removal only the rows S of both. So both matrices are
kept as they were, with the low-rank updates since beside them, and updated by one symmetric product for many removals,
of which only the lower triangle is made; what is removed is cut out at times. Layers of more than ``nested.WIDE``
columns are done in float32: what that changes in scores is far below what other samples would. One of 4608 columns
takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray
from .layer import Blocks, Layer, traces
from .nested import Floats, precise_enough

RANK = 160
"""Rows of low-rank updates that are gathered before the matrices are updated."""
SAFE = 1e-3
"""Ridge from which on float32 is enough: the moments are then well-conditioned."""
SPARE = 0.1
"""Part of a layer's units that may be gone before they are cut out of its matrices."""


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
    """A layer while its units go; not to be reused. Of both matrices only the lower triangle is kept."""

    def __init__(self, layer: Layer, factor: float, ridge: float) -> None:
        self.factor, self.units = factor, layer.units
        blocks = Blocks.of(layer.unit)
        self.present, self.size = blocks.present, blocks.columns.shape[1] if len(blocks.present) else 0
        # Columns are put in the order of units; those that always stay come last, and drop out of the inverse.
        owned = blocks.columns.ravel()
        every = np.concatenate([owned, np.flatnonzero(layer.unit < 0)])
        damped = layer.damped(ridge)
        single = layer.ridge_of(ridge) >= SAFE
        inverse = _inverse(_ordered(precise_enough(damped) if single else damped, every))
        self.inverse = np.ascontiguousarray(inverse[: len(owned), : len(owned)])
        weights = np.ascontiguousarray(layer.weights[:, owned], self.inverse.dtype)
        self.outer = _updated(np.zeros_like(self.inverse), weights, None)
        self.where = np.full(layer.units, -1)
        self._restart(np.zeros(len(self.present), np.bool_))

    def _restart(self, gone: NDArray[np.bool_]) -> None:
        """Take the matrices as they are: no updates since."""
        count, size = len(self.present), self.size
        self.where[:] = -1
        self.where[self.present] = np.arange(count)
        self.gone = gone
        self.inner_blocks, self.outer_blocks = (_blocks(m, count, size) for m in (self.inverse, self.outer))
        self.rank, room = 0, RANK + size
        self.through = np.zeros((room, count * size), self.inverse.dtype)
        self.crossed = np.zeros_like(self.through)

    def costs(self) -> FloatArray:
        """Return what every unit's removal adds, shape (units,); 0 for those without columns or gone."""
        found = np.zeros(self.units)
        left = ~self.gone
        inner, outer = (np.asarray(m[left], np.float64) for m in (self.inner_blocks, self.outer_blocks))
        found[self.present[left]] = self.factor * traces(inner, outer)
        return found

    def remove(self, unit: int) -> None:
        """Take a unit out."""
        at = int(self.where[unit])
        if at < 0:
            return
        rows, size = slice(at * self.size, (at + 1) * self.size), self.size
        through, crossed = self.through[: self.rank], self.crossed[: self.rank]
        inverse_rows = _rows(self.inverse, rows) - through[:, rows].T @ through
        outer_rows = _rows(self.outer, rows) - through[:, rows].T @ crossed - crossed[:, rows].T @ through
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
        """Update the matrices, and cut out what is gone where that is much."""
        through, crossed = self.through[: self.rank], self.crossed[: self.rank]
        self.inverse = _updated(self.inverse, through, None, -1.0)
        self.outer = _updated(self.outer, through, crossed, -1.0)
        if self.gone.sum() >= SPARE * len(self.gone):
            left = np.flatnonzero(~self.gone)
            columns = (left[:, None] * self.size + np.arange(self.size)).ravel()
            self.inverse, self.outer = (_ordered(m, columns) for m in (self.inverse, self.outer))
            self.present, self.gone = self.present[left], self.gone[left]
        self._restart(self.gone)


def _ordered(matrix: Floats, columns: IntArray) -> Floats:
    """Return some rows and columns of a matrix; itself where these are all, in order."""
    if len(columns) == len(matrix) and (columns[1:] > columns[:-1]).all():
        return matrix
    return matrix[columns].take(columns, axis=1)


def _inverse(matrix: Floats) -> Floats:
    """Return the inverse of a positive definite matrix, its lower triangle; the matrix may be overwritten.

    Raises UsageError where it is not definite.
    """
    routines: Any = linalg.get_lapack_funcs(("potrf", "potri"), (matrix,))
    factorise, invert = routines
    # LAPACK's columns are NumPy's rows: its upper triangle is the lower one here.
    factor, failed = factorise(matrix.T, lower=0, clean=0, overwrite_a=1)
    if failed:
        raise UsageError("moments-singular", "the moments of a layer's inputs are singular", hint="raise ridge")
    return np.asarray(invert(factor, lower=0, overwrite_c=1)[0].T)


def _updated(matrix: Floats, rows: Floats, others: Floats | None, sign: float = 1.0) -> Floats:
    """Return a symmetric matrix plus ``sign`` times rows' rows, or rows' others + others' rows: lower triangles."""
    names = ("syrk",) if others is None else ("syr2k",)
    routines: Any = linalg.get_blas_funcs(names, (matrix,))
    given = (rows.T,) if others is None else (rows.T, others.T)
    made = routines[0](sign, *given, beta=1.0, c=matrix.T, trans=0, lower=0, overwrite_c=1)
    return np.asarray(made.T)


def _rows(matrix: Floats, rows: slice) -> Floats:
    """Return some rows of a symmetric matrix that is given by its lower triangle."""
    made = np.concatenate([matrix[rows, : rows.stop], matrix[rows.stop :, rows].T], axis=1)
    if len(made) > 1:
        own = made[:, rows]
        own[...] = np.tril(own) + np.tril(own, -1).T
    return made


def _blocks(matrix: Floats, count: int, size: int) -> Floats:
    """Return the diagonal blocks of a symmetric matrix of which the lower triangle is given.

    Shape (count, size, size).
    """
    at = np.arange(count * size).reshape(count, size)
    lower = np.tril(matrix[at[:, :, None], at[:, None, :]])
    return np.asarray(lower + np.tril(lower, -1).transpose(0, 2, 1))
