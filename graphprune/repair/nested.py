"""Fits of one layer for nested sets of units, all from a single factorisation.

With columns in the order in which they go, the last first, the columns left are always the first k, and the Cholesky
factor of their damped moments is the leading part of that of all. So fits at many widths cost one factorisation and
a triangular solve each. Layers of more than ``WIDE`` columns are factorised in float32: these fits tell how large
errors are, and do not end up in a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray
from .layer import Floats, Layer

WIDE = 1024
"""Columns above which float32 is used."""
SKETCH = 96
"""Combinations of outputs that stand for all of a layer with more: their errors are off by some per cent."""


@dataclass(frozen=True)
class Nested:
    """A layer whose units go in an order, shape (units that may go,); the others always stay.

    ``ridge`` is the least part of the mean second moment that is added to diagonals (``Layer.ridge_of``).
    """

    layer: Layer
    order: IntArray
    ridge: float

    @cached_property
    def columns(self) -> IntArray:
        """The columns, those that go first last, shape (columns,)."""
        return np.argsort(-self._ranks, kind="stable")

    @cached_property
    def _ranks(self) -> IntArray:
        """The number of units that go before each column does; all of them for one that stays."""
        rank = np.full(self.layer.units + 1, len(self.order))
        rank[self.order] = np.arange(len(self.order))
        return np.asarray(rank[self.layer.unit])  # unit -1 reads the last entry

    @cached_property
    def _factor(self) -> Floats:
        """The Cholesky factor of the damped moments, columns in order: its lower triangle; above it is anything."""
        damped = ordered(precise_enough(self.layer.gram), self.columns)
        damped = damped.copy() if np.may_share_memory(damped, self.layer.gram) else damped
        damped.flat[:: len(damped) + 1] += self.layer.damping(self.ridge)
        return factor_of(damped)

    def left(self, gone: int) -> int:
        """Return how many columns are left once so many units are gone; they are the first ones."""
        return int((self._ranks >= gone).sum())

    def changes(self, weights: Floats, counts: Sequence[int]) -> Iterator[Floats]:
        """Yield what fits change of weights, shape (outputs, columns), columns in order, once so many units are gone.

        ``counts`` ascend. The removed columns R go to zero, and the others K take up W_R H_RK H_KK^-1 of the damped
        moments (methods.md 6.8, 6.9). With their factor L that is (W_R L_RK) L_KK^-1, whose first product grows with R.
        """
        end = weights.shape[1]
        moved = np.zeros_like(weights)
        for count in counts:
            k = self.left(count)
            moved = moved[:, :k] + weights[:, k:end] @ self._factor[k:end, :k]
            end = k
            yield np.concatenate([self._solved(moved), -weights[:, k:]], axis=1)

    def _solved(self, moved: Floats) -> Floats:
        """Return ``moved`` L_KK^-1, for the first columns K."""
        k = moved.shape[1]
        if not moved.size:
            return moved
        # BLAS's columns are NumPy's rows: this is L' X' = moved' to it, with the upper triangle L'.
        solve: Any = linalg.get_blas_funcs("trsm", (moved,))
        upper = np.ascontiguousarray(self._factor[:k, :k]).T
        return np.asarray(solve(1.0, upper, np.ascontiguousarray(moved).T).T)

    def in_order(self, weights: FloatArray) -> Floats:
        """Return weights, shape (outputs, columns), with their columns in order, in the type that is computed in."""
        return weights[:, self.columns].astype(self._factor.dtype, copy=False)

    def in_place(self, change: Floats) -> Floats:
        """Return what weights change by with its columns in their own places."""
        made = np.empty_like(change)
        made[:, self.columns] = change
        return made


def ordered(matrix: Floats, columns: IntArray) -> Floats:
    """Return some rows and columns of a matrix; itself where these are all, in order."""
    if len(columns) == len(matrix) and (columns[1:] > columns[:-1]).all():
        return matrix
    return matrix.take(columns, axis=0).take(columns, axis=1)


def factor_of(matrix: Floats) -> Floats:
    """Return the Cholesky factor of a matrix in C order, its lower triangle; the matrix is overwritten.

    Raises UsageError where it is not positive definite.
    """
    # LAPACK's columns are NumPy's rows: its upper triangle is the lower one here.
    factorise: Any = linalg.get_lapack_funcs("potrf", (matrix,))
    factor, failed = factorise(matrix.T, lower=0, clean=0, overwrite_a=1)
    if failed:
        raise UsageError("moments-singular", "the moments of a layer's inputs are singular", hint="raise ridge")
    return np.asarray(factor.T)


def precise_enough(matrix: Floats) -> Floats:
    """Return a matrix in float32 where it has more than ``WIDE`` columns, and as it is where not."""
    return matrix if matrix.shape[-1] <= WIDE else matrix.astype(np.float32, copy=False)


def missed(change: Floats, judge: Layer, mean: FloatArray) -> float:
    """Return E|d x - d m|^2, over the rows of ``judge``, of what weights change by, d; ``mean`` is m.

    That is the energy missed on rows by weights and a bias that were fitted on others, of that mean. Without a bias m
    counts as zero.
    """
    product = change @ judge.gram.astype(change.dtype, copy=False)
    inner = max(float(np.einsum("oi,oi->o", product, change).sum(dtype=np.float64)), 0.0)
    return inner + (float(np.square(change @ (judge.mean - mean)).sum()) if judge.centred else 0.0)


def sketched(weights: FloatArray) -> FloatArray:
    """Return a few random combinations of outputs, with the same expected energies, where there are many.

    ``weights`` has shape (outputs, columns). Sums of squares over Gaussian combinations are unbiased for those over the
    outputs (Hutchinson 1990, with normal instead of signed numbers).
    """
    outputs = len(weights)
    if outputs <= SKETCH:
        return weights
    mixing = np.random.default_rng(outputs).standard_normal((SKETCH, outputs)) / SKETCH**0.5
    return np.asarray(mixing @ weights)
