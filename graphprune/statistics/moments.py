"""Moments of rows: counts, means and scatter, which add up over shards; and cross-moments between two networks.

What is stored is the scatter about the mean, not the sum of products, so that covariances lose nothing to cancellation;
sums of two follow Chan, Golub and LeVeque (1979): S = Sa + Sb + (na nb / n) d d', d the difference of the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray

SMALL = 64
"""Width up to which matrices are updated all at once."""


def add_outer(matrices: NDArray[np.floating], rows: NDArray[np.floating]) -> None:
    """Add d d' to each matrix, in place, for the rows d of ``rows``; without another array of their size if large."""
    if matrices.shape[-1] <= SMALL:
        matrices += rows[:, :, None] * rows[:, None, :]
        return
    update: Any = linalg.get_blas_funcs("ger", (matrices,))
    for matrix, row in zip(matrices, rows, strict=True):
        update(1.0, row, row, a=matrix.T, overwrite_a=1)


@dataclass(frozen=True)
class Moments:
    """Moments of ``rows`` rows: ``mean``, shape (columns,), and ``scatter``, shape (blocks, width, width).

    Block b holds columns b * width to (b + 1) * width, and its scatter is sum (x - mean)(x - mean)' over the rows; what
    columns of different blocks have in common is not kept. All float64; the scatter may be held in float32.
    """

    rows: int
    mean: FloatArray
    scatter: FloatArray

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.scatter)

    @property
    def covariance(self) -> FloatArray:
        """The covariances (divided by n), shape (blocks, width, width)."""
        return self.scatter / max(self.rows, 1)

    @property
    def second(self) -> FloatArray:
        """E[x x'], shape (blocks, width, width)."""
        mean = self.mean.reshape(self.blocks, -1)
        return self.covariance + mean[:, :, None] * mean[:, None, :]

    @property
    def variance(self) -> FloatArray:
        """The variance of every column, shape (columns,)."""
        return np.diagonal(self.scatter, axis1=1, axis2=2).ravel() / max(self.rows, 1)

    @property
    def diagonal(self) -> Moments:
        """The same with every column a block of its own: means and variances alone."""
        own = np.diagonal(self.scatter, axis1=1, axis2=2).reshape(-1, 1, 1)
        return Moments(self.rows, self.mean, own)

    @property
    def rank_deficient(self) -> bool:
        """Whether there are too few rows for the covariances to have full rank."""
        return bool(self.rows <= self.scatter.shape[1])

    def take(self, columns: IntArray) -> Moments:
        """Return the moments of some columns, where there is one block."""
        self._check_one()
        return Moments(self.rows, self.mean[columns], self.scatter[:, columns[:, None], columns[None, :]])

    def block(self, number: int) -> Moments:
        """Return the moments of one block."""
        width = self.scatter.shape[1]
        mean = self.mean[number * width : (number + 1) * width]
        return Moments(self.rows, mean, self.scatter[number : number + 1])

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows."""
        if self.scatter.shape != other.scatter.shape:
            raise UsageError(
                "moments-shape", f"moments of {self.scatter.shape} and {other.scatter.shape} do not add up"
            )
        rows = self.rows + other.rows
        if not rows:
            return self
        scatter = self.scatter + other.scatter
        apart = ((self.rows * other.rows / rows) ** 0.5 * (other.mean - self.mean)).reshape(self.blocks, -1)
        add_outer(scatter, apart.astype(scatter.dtype, copy=False))
        return Moments(rows, (self.rows * self.mean + other.rows * other.mean) / rows, scatter)

    def _check_one(self) -> None:
        if self.blocks != 1:
            raise UsageError("moments-blocks", f"there are {self.blocks} blocks of moments, not one")


@dataclass(frozen=True)
class Cross:
    """Moments of regressors x, by ``x``, and targets y over the same rows.

    ``mean`` is E[y], shape (blocks, outputs), ``scatter`` sum (y - mean)(x - mean)' over the rows, shape
    (blocks, outputs, width), ``energy`` sum (y - mean)^2, shape (blocks, outputs). All float64.
    """

    x: Moments
    mean: FloatArray
    scatter: FloatArray
    energy: FloatArray

    @property
    def covariance(self) -> FloatArray:
        """E[(y - E y)(x - E x)'], shape (blocks, outputs, width)."""
        return self.scatter / max(self.x.rows, 1)

    @property
    def second(self) -> FloatArray:
        """E[y x'], shape (blocks, outputs, width)."""
        return self.covariance + self.mean[:, :, None] * self.x.mean.reshape(self.x.blocks, 1, -1)

    @property
    def variance(self) -> FloatArray:
        """The variance of every target, shape (blocks, outputs)."""
        return self.energy / max(self.x.rows, 1)

    def __add__(self, other: Cross) -> Cross:
        """Return the moments of both sets of rows."""
        x, (n, m) = self.x + other.x, (self.x.rows, other.x.rows)
        share = n * m / max(n + m, 1)
        apart = other.mean - self.mean
        columns = (other.x.mean - self.x.mean).reshape(self.x.blocks, 1, -1)
        scatter = self.scatter + other.scatter + share * apart[:, :, None] * columns
        energy = self.energy + other.energy + share * np.square(apart)
        return Cross(x, (n * self.mean + m * other.mean) / max(n + m, 1), scatter, energy)
