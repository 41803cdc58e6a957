"""A layer as repair sees it: a matrix on inputs of which the first and second moments are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray
from ..statistics.moments import Moments

Floats = NDArray[np.floating]

TINY = 1e-300
ROUNDING = 1e-12
"""Part of a layer's energy below which what varies counts as rounding."""
MOST = 0.9
"""The largest part of the identity in moments of few rows."""


@dataclass(frozen=True)
class Targets:
    """What a layer is to give, y, where that is not W x of now: what it gave before anything was pruned, without bias.

    ``cross`` is E[y x'], shape (outputs, columns), ``mean`` E[y] and ``second`` E[y^2], shape (outputs,). ``own`` is
    the variance of what the layer itself gave, shape (outputs,); other than that of y where it is to mend a sum.
    """

    cross: FloatArray
    mean: FloatArray
    second: FloatArray
    own: FloatArray | None = None


@dataclass(frozen=True)
class Layer:
    """What computes W x (+ b): ``weights`` W, shape (outputs, columns), and the moments of x.

    ``second`` is H = E[x x'], shape (columns, columns), or the covariance where they are ``about_mean``, ``mean`` E[x],
    shape (columns,). ``unit`` names the unit of every column, shape (columns,), -1 for a column that always stays;
    ``units`` is how many units there are. With ``centred`` the layer has a bias that takes up what the weights miss on
    average, so that moments about the mean count. ``targets`` describe what the outputs are to be, where that is not
    W x. ``rows`` is how many rows the moments are of (0: as if of infinitely many). Moments may be float32. Raises
    UsageError for shapes that do not fit together and for moments that are not finite.
    """

    weights: FloatArray
    second: Floats
    mean: FloatArray
    unit: IntArray
    units: int
    centred: bool = True
    targets: Targets | None = None
    rows: int = 0
    about_mean: bool = False

    @classmethod
    def of(
        cls, weights: FloatArray, moments: Moments, *, centred: bool, unit: IntArray | None = None, units: int = 0,
        targets: Targets | None = None,
    ) -> Layer:  # fmt: skip
        """Return a layer from the moments of its inputs, of one block; without ``unit`` no column is a unit's."""
        (covariance,) = moments.covariance
        whose = np.full(len(covariance), -1, np.int64) if unit is None else unit
        return cls(weights, covariance, moments.mean, whose, units, centred, targets, moments.rows, about_mean=True)

    def __post_init__(self) -> None:
        """Check shapes and values."""
        outputs, columns = self.weights.shape
        fits = self.second.shape == (columns, columns) and self.mean.shape == self.unit.shape == (columns,)
        if self.targets is not None:
            fits &= self.targets.cross.shape == self.weights.shape
            fits &= self.targets.mean.shape == self.targets.second.shape == (outputs,)
        if not fits:
            raise UsageError("moments-shape", f"moments of shape {self.second.shape} do not fit {columns} columns")
        if not (np.isfinite(self.second).all() and np.isfinite(self.mean).all() and np.isfinite(self.weights).all()):
            raise UsageError("moments-not-finite", "the moments or weights of a layer hold infinite or NaN values")

    @cached_property
    def gram(self) -> Floats:
        """The moments of the inputs that count: the covariance where centred, H where not."""
        if self.centred == self.about_mean:
            return self.second
        sign = -1.0 if self.centred else 1.0
        return self.second + np.outer((sign * self.mean).astype(self.second.dtype), self.mean.astype(self.second.dtype))

    @property
    def variance(self) -> FloatArray:
        """The variance of every input, shape (columns,)."""
        own = np.diagonal(self.second).astype(np.float64)
        return np.maximum(own if self.about_mean else own - np.square(self.mean), 0.0)

    @property
    def power(self) -> FloatArray:
        """E[x^2] of every input, shape (columns,)."""
        own = np.diagonal(self.second).astype(np.float64)
        return np.maximum(own + np.square(self.mean) if self.about_mean else own, 0.0)

    @cached_property
    def cross(self) -> FloatArray:
        """The same between the targets and the inputs, shape (outputs, columns)."""
        if self.targets is None:
            return np.asarray(self.weights @ self.gram)
        return self.targets.cross - np.outer(self.targets.mean, self.mean) if self.centred else self.targets.cross

    @cached_property
    def energy(self) -> float:
        """The energy of the targets, about their mean where centred; never 0."""
        if self.targets is not None:
            whole, shift = float(self.targets.second.sum()), float(np.square(self.targets.mean).sum())
            return max(whole - (shift if self.centred else 0.0), whole * ROUNDING, TINY)
        own = float(np.einsum("oi,oi->", self.weights @ self.gram, self.weights))
        shift = float(np.square(self.weights @ self.mean).sum()) if self.centred else 0.0
        return max(own, (own + shift) * ROUNDING, TINY)

    def damped(self, ridge: float) -> Floats:
        """Return ``gram`` with ``damping(ridge)`` added to the diagonal."""
        made = self.gram.copy()
        made.flat[:: len(made) + 1] += self.damping(ridge)
        return made

    def damping(self, ridge: float) -> float:
        """Return what is added to the diagonal: a part of its mean, ``ridge_of(ridge)``.

        Where every input is constant it is one: nothing can be told apart, and nothing breaks.
        """
        scale = self._trace / max(len(self.gram), 1)
        return self.ridge_of(ridge) * scale if scale > 0 else 1.0

    @cached_property
    def _trace(self) -> float:
        return float(np.trace(self.gram, dtype=np.float64))

    @cached_property
    def _square(self) -> float:
        """The sum of all squares; row by row, so that float32 does."""
        return float(np.einsum("ij,ij->i", self.gram, self.gram).sum(dtype=np.float64))

    def ridge_of(self, least: float) -> float:
        """Return what is added to diagonals, as a part of their mean: ``least``, or more where rows are few.

        Moments of few rows see relations between columns that are none. How much of the identity to mix in is the
        oracle-approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010, arXiv 0907.4698, eq. 23).
        """
        columns = len(self.gram)
        trace, square = self._trace, self._square
        if not self.rows or columns < 2 or trace <= 0:
            return least
        above = (1 - 2 / columns) * square + trace**2
        below = (self.rows + 1 - 2 / columns) * (square - trace**2 / columns)
        part = min(above / below, MOST) if below > above / MOST else MOST
        return max(least, part / (1 - part))

    def error(self, changed: FloatArray, product: FloatArray | None = None) -> float:
        """Return the energy of what outputs miss with other weights, shape (outputs, columns), the bias at its best.

        It is E|y - W' x|^2, about the mean where centred; not divided by anything. ``product`` is ``changed @ gram``,
        where that is known.
        """
        if self.targets is None:  # this way round does not take the difference of large numbers
            missing = self.weights - changed
            return max(float(np.einsum("oi,oi->", missing @ self.gram, missing)), 0.0)
        made = changed @ self.gram if product is None else product
        return max(self.energy + float(np.einsum("oi,oi->", made - 2 * self.cross, changed)), 0.0)

    def shift(self, changed: FloatArray) -> FloatArray:
        """Return what other weights need added to the bias, shape (outputs,), for their mean output to be right."""
        before = self.weights @ self.mean if self.targets is None else self.targets.mean
        return np.asarray(before - changed @ self.mean)


@dataclass(frozen=True)
class Blocks:
    """The columns of every unit that has any: ``columns``, shape (present units, columns of each).

    ``present`` are the units, ascending, shape (present units,).
    """

    present: IntArray
    columns: IntArray

    @classmethod
    def of(cls, unit: IntArray) -> Blocks:
        """Sort columns by unit; raises UsageError where units own different numbers of columns."""
        order = np.argsort(unit, kind="stable")
        order = order[unit[order] >= 0]
        present, counts = np.unique(unit[order], return_counts=True)
        if len(counts) and counts.min() != counts.max():
            raise UsageError("uneven-units", "units of a group own different numbers of a layer's columns")
        return cls(present, order.reshape(len(present), -1))

    def grams(self, matrix: Floats) -> FloatArray:
        """Return the diagonal blocks of a matrix, shape (present units, columns of each, columns of each)."""
        return np.asarray(matrix[self.columns[:, :, None], self.columns[:, None, :]], np.float64)

    def spread(self, values: NDArray[np.float64], units: int) -> FloatArray:
        """Return values of the present units as those of all, shape (units,); 0 for units without columns."""
        result = np.zeros(units)
        result[self.present] = values
        return result


def traces(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return tr(A^-1 B) of stacks of positive definite A and of B, shape (stack, n, n) both, never negative."""
    if first.shape[1] == 1:
        return np.asarray(np.maximum(second[:, 0, 0] / np.maximum(first[:, 0, 0], TINY), 0.0))
    return np.asarray(np.maximum(np.trace(np.linalg.solve(first, second), axis1=1, axis2=2), 0.0))


def inverse(matrix: Floats) -> FloatArray:
    """Return the inverse of a positive definite matrix by Cholesky; raises UsageError where it is not definite."""
    from scipy import linalg

    try:
        factor = linalg.cholesky(matrix.astype(np.float64, copy=False), lower=True, check_finite=False)
    except linalg.LinAlgError as error:
        raise UsageError(
            "moments-singular", "the moments of a layer's inputs are singular", hint="raise ridge"
        ) from error
    made, _ = linalg.lapack.dpotri(factor, lower=1)
    lower = np.tril(made)
    return np.asarray(lower + np.tril(lower, -1).T)
