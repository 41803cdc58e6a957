"""Adding up moments: symmetric products of some hundred float32 rows at a time, about their own mean, kept in float64.

**Error.** A block of n rows is centred and multiplied in float32, so every element of its scatter is off by at most
(n + 3) u sqrt(s_ii s_jj), with u = 2^-24 and s the block's scatter: 6.2e-5 of that for the BLOCK of 1024, and in
practice about the root of it, 2e-6. Blocks, and their means, are added in float64. So the bound holds for the
sum, with s the sum, by Cauchy and Schwarz.

Matrices of more than WIDE columns may be kept in float32 (``single``): then up to MOST rows are added up in it, block
by block in place, and what is more in float64. The bound is (MOST + 3) u then, 2.4e-4, and in practice 4e-6.

**Memory.** One matrix of blocks x width^2 float64 a consumer (twice that while it grows), half of it with ``single``
and no more than MOST rows, and BLOCK rows in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from ..errors import ModelError
from ..groups import IntArray
from ..scores import FloatArray
from .moments import Cross, Moments

BLOCK = 1024
"""Rows that are multiplied in float32 at a time."""
WIDE = 1024
"""Columns above which a matrix may be kept in float32."""
MOST = 4096
"""Rows that are added up in float32 at most."""
SLAB = 64
"""Rows of a triangle that are widened to float64 at a time."""
WAITING = 64
"""Means of blocks that wait until they are put into the scatter."""
SMALL = 64
"""Width of blocks up to which all are multiplied by one call."""

Single = NDArray[np.float32]


class Accumulator:
    """Adds up moments of rows, and of targets that belong to them. Not to be used after ``finish``.

    ``order`` says for every column its place in a row as it comes (None: the same). With ``single`` the scatter of more
    than WIDE columns is kept in float32. Raises ModelError, with ``where``, for rows that are not finite.
    """

    def __init__(
        self, columns: int, blocks: int, order: IntArray | None, where: str, targets: int | None = None, *,
        single: bool = False,
    ) -> None:  # fmt: skip
        self.columns, self.blocks, self.where = columns, blocks, where
        self.width = columns // blocks
        self.order = order
        self.rows = 0
        self.single = _Single(self.width) if single and blocks == 1 and self.width > WIDE else None
        self.scatter = np.zeros((blocks, self.width, self.width) if self.single is None else 0)
        self.targets = targets
        self.crossed = None if targets is None else np.zeros((blocks, targets, self.width))
        self.energy = np.zeros((blocks, targets or 0))
        self._means: list[tuple[int, FloatArray, FloatArray]] = []
        self._waiting: list[Single] = []
        self._waiting_targets: list[Single] = []
        self._held = 0

    def add(self, rows: Single, targets: Single | None = None) -> None:
        """Add rows, shape (rows, columns), and their targets, shape (rows, blocks * targets). Neither is changed."""
        self._waiting.append(rows)
        if targets is not None:
            self._waiting_targets.append(targets)
        self._held += len(rows)
        if self._held >= BLOCK:
            self.flush(whole=True)

    def flush(self, *, whole: bool = False) -> None:
        """Multiply the rows that wait; with ``whole`` only in whole blocks, and leave the rest waiting."""
        if not self._held:
            return
        rows = _joined(self._waiting)
        targets = _joined(self._waiting_targets) if self._waiting_targets else None
        self._waiting, self._waiting_targets, self._held = [], [], 0
        last = len(rows) - len(rows) % BLOCK if whole else len(rows)
        for start in range(0, last, BLOCK):
            part = slice(start, min(start + BLOCK, last))
            self._block(rows[part], None if targets is None else targets[part])
        if last < len(rows):
            self._waiting, self._held = [rows[last:]], len(rows) - last
            self._waiting_targets = [] if targets is None else [targets[last:]]

    def _block(self, rows: Single, targets: Single | None) -> None:
        if self.order is not None and (self.blocks > 1 or self.single is not None):
            rows = rows.take(self.order, axis=1)
        mean, centred = _centred(rows, self.where)
        own = np.zeros(0)
        if self.single is not None:
            self.single.add(centred)
        elif self.width == 1:
            self.scatter[:, 0, 0] += np.einsum("nc,nc->c", centred, centred, dtype=np.float64)
        elif self.blocks == 1:
            _add_triangle(self.scatter[0], _square(centred))
        else:
            self._add_blocks(centred)
        if targets is not None:
            own, about = _centred(targets, self.where)
            self._add_cross(centred, about)
        self.rows += len(rows)
        self._means.append((len(rows), mean, own))
        if len(self._means) >= WAITING:
            self._settle()

    def _add_blocks(self, centred: Single) -> None:
        if self.width <= SMALL:
            stacked = centred.reshape(len(centred), self.blocks, self.width).transpose(1, 0, 2)
            self.scatter += np.matmul(stacked.transpose(0, 2, 1), stacked)
            return
        for b in range(self.blocks):
            part = np.ascontiguousarray(centred[:, b * self.width : (b + 1) * self.width])
            _add_triangle(self.scatter[b], _square(part))

    def _add_cross(self, centred: Single, targets: Single) -> None:
        assert self.crossed is not None
        assert self.targets is not None
        split = centred.reshape(len(centred), self.blocks, self.width).transpose(1, 0, 2)
        wanted = self._by_block(targets).transpose(1, 2, 0)
        self.crossed += np.matmul(wanted, split)
        self.energy += np.square(wanted, dtype=np.float64).sum(axis=2)

    def _by_block(self, targets: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return targets (rows, outputs of all groups) as (rows, blocks, outputs): stretches of a group share them."""
        assert self.targets is not None
        apart = targets.reshape(len(targets), -1, self.targets)
        return np.repeat(apart, self.blocks // apart.shape[1], axis=1)

    def _settle(self) -> None:
        """Put the scatter of the waiting means into the sums, and leave one mean of all."""
        counts = np.array([n for n, _, _ in self._means], np.float64)
        means, own = (np.stack([m[k] for m in self._means]) for k in (1, 2))
        weights = np.sqrt(counts)[:, None]
        mean = counts @ means / counts.sum()
        apart = (weights * (means - mean)).reshape(len(counts), self.blocks, self.width)
        for b in range(self.blocks) if self.width > 1 and self.single is None else ():
            _add_square(self.scatter[b], np.ascontiguousarray(apart[:, b]))
        if self.single is not None:
            self.single.add(apart[:, 0].astype(np.float32), settled=True)
        elif self.width == 1:
            self.scatter[:, 0, 0] += np.square(apart[:, :, 0]).sum(axis=0)
        average = counts @ own / counts.sum()
        if self.crossed is not None:
            wanted = self._by_block(weights * (own - average))
            self.crossed += np.matmul(wanted.transpose(1, 2, 0), apart.transpose(1, 0, 2))
            self.energy += np.square(wanted).sum(axis=0)
        self._means = [(int(counts.sum()), mean, average)]

    def finish(self) -> Moments:
        """Return the moments of all rows that were added."""
        self.flush()
        if self._means:
            self._settle()
        mean = self._means[0][1] if self._means else np.zeros(self.columns)
        if self.single is not None:
            self.scatter = self.single.finish()
        _check_finite(np.diagonal(self.scatter, axis1=1, axis2=2), self.where)
        if self.width > 1:
            _mirror(self.scatter)
        order = self._last
        if order is not None:
            mean = mean[order]
            for b in range(len(self.scatter)):
                self.scatter[b] = self.scatter[b][np.ix_(order, order)]
        return Moments(self.rows, mean, self.scatter)

    @property
    def _last(self) -> IntArray | None:
        """The order that columns come into at the end, if they do then."""
        return self.order if self.blocks == 1 and self.single is None else None

    def finish_cross(self) -> Cross:
        """Return the moments of rows and targets."""
        moments = self.finish()
        assert self.crossed is not None
        own = self._means[0][2] if self._means else np.zeros(0)
        mean = self._by_block(own[None])[0] if self._means else np.zeros(self.energy.shape)
        crossed = self.crossed if self._last is None else self.crossed[:, :, self._last]
        return Cross(moments, np.asarray(mean, np.float64), crossed, self.energy)


class _Single:
    """A sum of squares of float32 rows, kept in float32: one matrix, and one of float64 beyond ``MOST`` rows."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self.sum: Single = np.zeros((width, width), np.float32)
        self.total: FloatArray | None = None

    def add(self, rows: Single, *, settled: bool = False) -> None:
        """Add rows' rows to the lower triangle; ``settled`` ones stand for rows that are in it already."""
        if self.rows and not settled and self.rows + len(rows) > MOST:
            self._widen()
        self.rows += 0 if settled else len(rows)
        blas.ssyrk(1.0, rows.T, beta=1.0, c=self.sum.T, trans=0, lower=0, overwrite_c=1)

    def _widen(self) -> None:
        if self.total is None:
            self.total = np.zeros(self.sum.shape)
        _add_triangle(self.total, self.sum)
        self.sum[...] = 0
        self.rows = 0

    def finish(self) -> NDArray[Any]:
        """Return the sum, its lower triangle, shape (1, width, width), float32."""
        if self.total is not None:
            self._widen()
            self.sum[...] = self.total
        return self.sum[None]


def _joined(parts: list[Single]) -> Single:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _centred(rows: Single, where: str) -> tuple[FloatArray, Single]:
    """Return the mean of rows and the rows about it. Raises ModelError for rows that are not finite."""
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
    _check_finite(mean, where)
    return mean, np.subtract(rows, mean.astype(np.float32), dtype=np.float32)


def _check_finite(values: FloatArray, where: str) -> None:
    if not np.isfinite(values).all():
        hint = "check the data, or protect the layer with --keep"
        words = "its values on the data are not all finite, or too large"
        raise ModelError("activations-not-finite", words, where=where, hint=hint)


def _square(rows: Single) -> Single:
    """Return the lower triangle of rows' rows, in C order, and zeros or nonsense above. ``rows`` is in C order."""
    made: Single = blas.ssyrk(1.0, rows.T, trans=0, lower=0)
    return made.T


def _add_square(total: FloatArray, rows: FloatArray) -> None:
    """Add rows' rows to the lower triangle of a matrix, in place. Both are in C order."""
    blas.dsyrk(1.0, rows.T, beta=1.0, c=total.T, trans=0, lower=0, overwrite_c=1)


def _add_triangle(total: FloatArray, lower: NDArray[np.floating]) -> None:
    for start in range(0, len(total), SLAB):
        end = min(start + SLAB, len(total))
        total[start:end, :end] += lower[start:end, :end]


def _mirror(matrices: FloatArray) -> None:
    """Make symmetric matrices of lower triangles, in place."""
    for matrix in matrices:
        for start in range(0, len(matrix), SLAB):
            end = min(start + SLAB, len(matrix))
            own = np.tril(matrix[start:end, start:end])
            matrix[start:end, start:end] = own + np.tril(own, -1).T
            matrix[:start, start:end] = matrix[start:end, :start].T
