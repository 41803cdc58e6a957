"""A layer as repair sees it: a matrix on inputs of which the first and second moments are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray

TINY = 1e-300
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

    ``second`` is H = E[x x'], shape (columns, columns), ``mean`` E[x], shape (columns,). ``unit`` names the unit of
    every column, shape (columns,), -1 for a column that always stays; ``units`` is how many units there are. With
    ``centred`` the layer has a bias that takes up what the weights miss on average, so that moments about the mean
    count. ``targets`` describe what the outputs are to be, where that is not W x.
    ``rows`` is how many rows the moments are of (0: as if of infinitely many). Raises UsageError for shapes that do
    not fit together and for moments that are not finite.
    """

    weights: FloatArray
    second: FloatArray
    mean: FloatArray
    unit: IntArray
    units: int
    centred: bool = True
    targets: Targets | None = None
    rows: int = 0

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
    def gram(self) -> FloatArray:
        """The moments of the inputs that count: the covariance where centred, H where not."""
        return self.second - np.outer(self.mean, self.mean) if self.centred else self.second

    @cached_property
    def cross(self) -> FloatArray:
        """The same between the targets and the inputs, shape (outputs, columns)."""
        if self.targets is None:
            return np.asarray(self.weights @ self.gram)
        return self.targets.cross - np.outer(self.targets.mean, self.mean) if self.centred else self.targets.cross

    @cached_property
    def energy(self) -> float:
        """The energy of the targets, about their mean where centred; never 0."""
        if self.targets is None:
            whole = float(np.einsum("oi,oi->", self.weights @ self.second, self.weights))
            shift = float(np.square(self.weights @ self.mean).sum())
        else:
            whole, shift = float(self.targets.second.sum()), float(np.square(self.targets.mean).sum())
        return max(whole - (shift if self.centred else 0.0), whole * 1e-12, TINY)

    def damped(self, ridge: float) -> FloatArray:
        """Return ``gram`` with a part of the mean of its diagonal, ``ridge_of(ridge)``, added to the diagonal.

        Where every input is constant the diagonal gets ones: nothing can be told apart, and nothing breaks.
        """
        made = self.gram.copy()
        scale = float(np.trace(made)) / max(len(made), 1)
        made.flat[:: len(made) + 1] += self.ridge_of(ridge) * scale if scale > 0 else 1.0
        return made

    def ridge_of(self, least: float) -> float:
        """Return what is added to diagonals, as a part of their mean: ``least``, or more where rows are few.

        Moments of few rows see relations between columns that are none. How much of the identity to mix in is the
        oracle-approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010, arXiv 0907.4698, eq. 23).
        """
        columns = len(self.gram)
        trace, square = float(np.trace(self.gram)), float(np.square(self.gram).sum())
        if not self.rows or columns < 2 or trace <= 0:
            return least
        above = (1 - 2 / columns) * square + trace**2
        below = (self.rows + 1 - 2 / columns) * (square - trace**2 / columns)
        part = min(above / below, MOST) if below > above / MOST else MOST
        return max(least, part / (1 - part))

    def error(self, changed: FloatArray) -> float:
        """Return the energy of what outputs miss with other weights, shape (outputs, columns), the bias at its best.

        It is E|y - W' x|^2, about the mean where centred; not divided by anything.
        """
        if self.targets is None:  # this way round does not take the difference of large numbers
            missing = self.weights - changed
            return max(float(np.einsum("oi,oi->", missing @ self.gram, missing)), 0.0)
        inner = changed @ self.gram - 2 * self.cross
        return max(self.energy + float(np.einsum("oi,oi->", inner, changed)), 0.0)

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

    def grams(self, matrix: FloatArray) -> FloatArray:
        """Return the diagonal blocks of a matrix, shape (present units, columns of each, columns of each)."""
        return np.asarray(matrix[self.columns[:, :, None], self.columns[:, None, :]])

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


def inverse(matrix: FloatArray) -> FloatArray:
    """Return the inverse of a positive definite matrix by Cholesky; raises UsageError where it is not definite."""
    from scipy import linalg

    try:
        factor = linalg.cholesky(matrix, lower=True, check_finite=False)
    except linalg.LinAlgError as error:
        raise UsageError(
            "moments-singular", "the moments of a layer's inputs are singular", hint="raise ridge"
        ) from error
    made, _ = linalg.lapack.dpotri(factor, lower=1)
    lower = np.tril(made)
    return np.asarray(lower + np.tril(lower, -1).T)
