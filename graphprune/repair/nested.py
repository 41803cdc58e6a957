"""Fits of one layer for nested sets of units, all from a single factorisation.

With columns in the order in which they go, the last first, the columns left are always the first k, and the Cholesky
factor of their damped moments is the leading part of that of all. So fits at many widths cost one factorisation and
two triangular solves each. Layers of more than ``WIDE`` columns are factorised in float32: these fits tell how large
errors are, and do not end up in a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray
from .layer import Layer

WIDE = 1024
"""Columns above which float32 is used."""
SKETCH = 96
"""Combinations of outputs that stand for all of a layer with more: their errors are off by some per cent."""

Floats = NDArray[np.floating]


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
    def gram(self) -> Floats:
        """The moments that count, columns in order."""
        return precise_enough(self.layer.gram)[np.ix_(self.columns, self.columns)]

    @cached_property
    def _factor(self) -> Any:
        """The Cholesky factor of the damped moments, lower, columns in order."""
        damped = self.gram.copy()
        scale = float(np.trace(self.layer.gram)) / max(len(damped), 1)
        damped.flat[:: len(damped) + 1] += self.layer.ridge_of(self.ridge) * scale if scale > 0 else 1.0
        try:
            return linalg.cholesky(damped, lower=True, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError as error:
            words = "the moments of a layer's inputs are singular"
            raise UsageError("moments-singular", words, hint="raise ridge") from error

    def left(self, gone: int) -> int:
        """Return how many columns are left once so many units are gone; they are the first ones."""
        return int((self._ranks >= gone).sum())

    def change(self, weights: Floats, gone: int) -> Floats:
        """Return what a fit changes of weights, shape (outputs, columns), columns in order, once units are gone.

        The removed columns go to zero, and the others take up what the damped moments say (methods.md 6.8, 6.9).
        """
        k = self.left(gone)
        removed = weights[:, k:]
        change = np.concatenate([np.zeros_like(weights[:, :k]), -removed], axis=1)
        if 0 < k < weights.shape[1]:
            lower = np.asfortranarray(self._factor[:k, :k])
            wanted = (removed @ self.gram[k:, :k]).T
            change[:, :k] = linalg.cho_solve((lower, True), wanted, overwrite_b=True, check_finite=False).T
        return np.asarray(change)

    def in_order(self, weights: FloatArray) -> Floats:
        """Return weights, shape (outputs, columns), with their columns in order, in the type of ``gram``."""
        return weights[:, self.columns].astype(self.gram.dtype, copy=False)

    def fitted(self, gone: int) -> FloatArray:
        """Return the layer's weights once units are gone, shape (outputs, columns), columns in their own places."""
        made = np.zeros_like(self.layer.weights)
        own = self.in_order(self.layer.weights)
        k = self.left(gone)
        made[:, self.columns[:k]] = (own + self.change(own, gone))[:, :k]
        return made


def precise_enough(matrix: FloatArray) -> Floats:
    """Return a matrix in float32 where it has more than ``WIDE`` columns, and as it is where not."""
    return matrix if matrix.shape[-1] <= WIDE else matrix.astype(np.float32, copy=False)


def missed(change: Floats, judge: Nested, mean: FloatArray) -> float:
    """Return E|d x - d m|^2, over the rows of ``judge``, of what weights change by, d; ``mean`` is m.

    That is the energy missed on rows by weights and a bias that were fitted on others, of that mean. Without a bias m
    counts as zero.
    """
    inner = float(np.einsum("oi,oi->", change @ judge.gram, change))
    if not judge.layer.centred:
        return max(inner, 0.0)
    apart = (judge.layer.mean - mean)[judge.columns]
    return max(inner, 0.0) + float(np.square(change @ apart).sum())


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
