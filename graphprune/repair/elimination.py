"""Structured optimal brain surgeon: units go one by one, the cheapest first, and the rest makes up for each.

For H^-1 the inverse of the damped moments, removing the columns S of a unit costs, with all other weights at their
best, tr(W_S ([H^-1]_SS)^-1 W_S'), which is exact; then W loses W_S ([H^-1]_SS)^-1 [H^-1]_S:, and H^-1 its part that
goes through S (methods.md 6.9; the order is ZipLM's, Kurtic et al. 2023, arXiv 2302.04089). Several layers that sum
over the same units add up, each times its own factor. In large groups several go before costs are taken anew, as far as
none of them then costs more than what lies beyond them.

Costs need only the diagonal blocks of H^-1 and of W'W, and a removal only the rows S of both. So H^-1 and W are kept as
they were, with the low-rank updates since beside them, and updated by one product for many removals, of H^-1 its lower
triangle alone; what is removed is cut out at times. Layers of more than ``nested.WIDE`` columns are done in float32:
what that changes in scores is far below what other samples would. One of 4608 columns takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..groups import IntArray
from ..scores import FloatArray
from .alike import joined
from .fit import SAFE
from .layer import Blocks, Floats, Layer, traces
from .nested import factor_of, ordered, precise_enough

RANK = 160
"""Rows of low-rank updates that are gathered before the matrices are updated."""
REFRESHED = 32
"""Times that costs are taken anew, at least: of a group of twice as many units or more, several may go in between."""
ROUNDING = 1e-6
"""Part of a cost that counts as rounding."""
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

    ``factors`` weigh the layers' errors against each other; layers that hold the same moments are done as one
    (``alike``). ``among`` are the units that may go (default: all), of layers that already miss none. Raises UsageError
    for moments that are singular in spite of the ridge.
    """
    units = layers[0].units
    running = [_Running(layer, ridge) for layer in joined(layers, factors)]
    alive = np.zeros(units, np.bool_)
    alive[slice(None) if among is None else among] = True
    together = max(units // REFRESHED, 1)
    order, added = [], []
    while alive.any():
        costs = np.where(alive, sum((r.costs() for r in running), np.zeros(units)), np.inf)
        cheapest = np.argsort(costs, kind="stable")[: min(together, int(alive.sum()))]
        joint = [layer.joint(cheapest) for layer in running]
        each = sum((found.added for found in joint), np.zeros(len(cheapest)))
        # Costs only rise as others go. So none outside is cheaper than those that go, up to the first that costs more.
        dearer = each[1:] > costs[cheapest[-1]] * (1 + ROUNDING)
        count = 1 + int(dearer.argmax() if dearer.any() else len(dearer))
        for layer, found in zip(running, joint, strict=True):
            layer.remove(found, count)
        alive[cheapest[:count]] = False
        order.append(cheapest[:count])
        added.append(each[:count])
    return Removal(np.concatenate([np.zeros(0, np.int64), *order]), np.concatenate([np.zeros(0), *added]))


@dataclass(frozen=True)
class _Joint:
    """Units at the head of which any number can be removed: what each adds after those before, shape (units,).

    ``at`` are the places of those that have columns, ``known`` which of the units these are; of the others nothing is
    to be removed. With [H^-1]_SS = L L' for their columns S, ``new`` is L^-1 [H^-1]_S:, and ``own`` is L^-1 W_S'.
    """

    added: FloatArray
    known: IntArray
    at: IntArray
    new: Floats
    own: Floats


class _Running:
    """A layer while its units go; not to be reused. Of the inverse only the lower triangle is kept."""

    def __init__(self, layer: Layer, ridge: float) -> None:
        self.units = layer.units
        blocks = Blocks.of(layer.unit)
        self.present, self.size = blocks.present, blocks.columns.shape[1] if len(blocks.present) else 0
        # Columns are put in the order of units; those that always stay come last, and drop out of the inverse.
        owned = blocks.columns.ravel()
        every = np.concatenate([owned, np.flatnonzero(layer.unit < 0)])
        damped = layer.damped(ridge)
        single = layer.ridge_of(ridge) >= SAFE
        inverse = _inverse(ordered(precise_enough(damped) if single else damped.astype(np.float64, copy=False), every))
        self.inverse = np.ascontiguousarray(inverse[: len(owned), : len(owned)])
        self.weights = _fewest_rows(layer.weights[:, owned]).astype(self.inverse.dtype)
        self.where = np.full(layer.units, -1)
        self._restart(np.zeros(len(self.present), np.bool_))

    def _restart(self, gone: NDArray[np.bool_]) -> None:
        """Take the matrices as they are: no updates since."""
        count, size = len(self.present), self.size
        self.where[:] = -1
        self.where[self.present] = np.arange(count)
        self.gone = gone
        self.inner = _blocks(self.inverse, count, size)
        own = self.weights.reshape(len(self.weights), count, size).transpose(1, 0, 2)
        self.outer = own.transpose(0, 2, 1) @ own
        self.rank, room = 0, RANK + size * max(self.units // REFRESHED, 1)
        self.through = np.zeros((room, count * size), self.inverse.dtype)
        self.taken = np.zeros((room, len(self.weights)), self.inverse.dtype)

    def costs(self) -> FloatArray:
        """Return what every unit's removal adds, shape (units,); 0 for those without columns or gone."""
        found = np.zeros(self.units)
        left = ~self.gone
        inner, outer = (np.asarray(m[left], np.float64) for m in (self.inner, self.outer))
        found[self.present[left]] = traces(inner, outer)
        return found

    def joint(self, units: IntArray) -> _Joint:
        """Return what it takes to remove units one after the other, in this order."""
        at, size = self.where[units], self.size
        added, known = np.zeros(len(units)), np.flatnonzero(at >= 0)
        at = at[known]
        rows = (at[:, None] * size + np.arange(size)).ravel()
        before = self.through[: self.rank, rows].T
        left = _rows(self.inverse, at, size) - before @ self.through[: self.rank]
        factor = _inverse_root(left[:, rows])
        own = factor @ (self.weights[:, rows].T - before @ self.taken[: self.rank])
        added[known] = np.square(own, dtype=np.float64).sum(axis=1).reshape(len(at), size).sum(axis=1)
        return _Joint(added, known, at, factor @ left, own)

    def remove(self, joint: _Joint, count: int) -> None:
        """Take the first ``count`` units out: H^-1 loses T'T for T = L^-1 [H^-1]_S:, and W loses W_S L^-T T."""
        at, size = joint.at[: np.searchsorted(joint.known, count)], self.size
        rows = len(at) * size
        if not rows:
            return
        new, own = joint.new[:rows], joint.own[:rows]
        through, taken = self.through[: self.rank], self.taken[: self.rank]
        moved = own @ self.weights - (own @ taken.T) @ through - 0.5 * (own @ own.T) @ new
        self.through[self.rank : self.rank + rows], self.taken[self.rank : self.rank + rows] = new, own
        self.rank += rows
        self.gone[at] = True
        a, b = (x.reshape(rows, -1, size).transpose(1, 0, 2) for x in (new, moved))
        self.inner -= a.transpose(0, 2, 1) @ a
        both = a.transpose(0, 2, 1) @ b
        self.outer -= both + both.transpose(0, 2, 1)
        if self.rank >= RANK:
            self._flush()

    def _flush(self) -> None:
        """Update the matrices, and cut out what is gone where that is much."""
        through, taken = self.through[: self.rank], self.taken[: self.rank]
        self.inverse = _less(self.inverse, through)
        self.weights -= taken.T @ through
        if self.gone.sum() >= SPARE * len(self.gone):
            left = np.flatnonzero(~self.gone)
            columns = (left[:, None] * self.size + np.arange(self.size)).ravel()
            self.inverse, self.weights = ordered(self.inverse, columns), self.weights.take(columns, axis=1)
            self.present, self.gone = self.present[left], self.gone[left]
        self._restart(self.gone)


def _inverse_root(block: Floats) -> Floats:
    """Return the inverse of the Cholesky factor of a block, shape (columns of a unit,) * 2; of one number at once."""
    return np.asarray(block**-0.5 if block.size == 1 else np.linalg.inv(np.linalg.cholesky(block)))


def _fewest_rows(weights: FloatArray) -> FloatArray:
    """Return W or, if that has fewer rows, another matrix R with R'R = W'W: errors are sums over outputs."""
    return np.asarray(np.linalg.qr(weights, mode="r")) if len(weights) > weights.shape[1] else weights


def _inverse(matrix: Floats) -> Floats:
    """Return the inverse of a positive definite matrix, its lower triangle; the matrix may be overwritten.

    Raises UsageError where it is not definite.
    """
    invert: Any = linalg.get_lapack_funcs("potri", (matrix,))
    return np.asarray(invert(factor_of(matrix).T, lower=0, overwrite_c=1)[0].T)


def _less(matrix: Floats, rows: Floats) -> Floats:
    """Return a symmetric matrix without rows' rows: lower triangles."""
    product: Any = linalg.get_blas_funcs("syrk", (matrix,))
    return np.asarray(product(-1.0, rows.T, beta=1.0, c=matrix.T, trans=0, lower=0, overwrite_c=1).T)


def _rows(matrix: Floats, at: IntArray, size: int) -> Floats:
    """Return the rows of some units, of ``size`` columns each, of a symmetric matrix given by its lower triangle."""
    made = np.empty((len(at) * size, len(matrix)), matrix.dtype)
    for k, unit in enumerate(at):
        first, last = unit * size, (unit + 1) * size
        some = made[k * size : (k + 1) * size]
        some[:, :last], some[:, last:] = matrix[first:last, :last], matrix[last:, first:last].T
        if size > 1:
            own = some[:, first:last]
            own[...] = np.tril(own) + np.tril(own, -1).T
    return made


def _blocks(matrix: Floats, count: int, size: int) -> Floats:
    """Return the diagonal blocks of a symmetric matrix of which the lower triangle is given.

    Shape (count, size, size).
    """
    at = np.arange(count * size).reshape(count, size)
    lower = np.tril(matrix[at[:, :, None], at[:, None, :]])
    return np.asarray(lower + np.tril(lower, -1).transpose(0, 2, 1))
