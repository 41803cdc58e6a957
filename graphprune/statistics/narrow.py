"""Moments of wide convolutions' windows in a few directions of each channel's patch: enough to score units by.

A convolution of 512 channels with kernels of 3 x 3 reads 4,608 columns; their moments and what is solved with them cost
more than running the network. What a channel adds to the outputs is W_c x_c, with x_c its patch, one number a kernel
position. Of it the ``count`` directions are kept that matter most there: with the covariance C of x_c they span the
leading eigenvectors of C^1/2 W_c'W_c C^1/2, which is the best approximation of that rank to W_c x_c in the mean
square. They are chosen on the first rows that come, and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..groups import IntArray
from ..scores import FloatArray
from .gram import Accumulator, check_finite
from .moments import Moments

if TYPE_CHECKING:
    from .consumer import Consumer

Single = NDArray[np.float32]
CHOOSING = 1024
"""Rows on which directions are chosen."""
FLOOR = 1e-6
"""Part of the mean variance that every direction is taken to have, so that constant channels have directions too."""


@dataclass(frozen=True)
class Directions:
    """Directions B_c of patches x_c, and the way back: z_c = B_c'x_c, and x_c is about D_c z_c, about the means.

    Both have shape (channels, area, count); the columns of each B_c are orthonormal, and D_c is what least squares
    gives.
    """

    basis: FloatArray
    back: FloatArray

    @classmethod
    def chosen(cls, covariance: FloatArray, weight: FloatArray, count: int) -> Directions:
        """Return the directions that matter most for W_c x_c; C_c and W_c'W_c have shape (channels, area, area)."""
        floor = FLOOR * float(np.trace(covariance, axis1=1, axis2=2).mean()) / covariance.shape[1] or 1.0
        own = covariance + floor * np.eye(covariance.shape[1])
        values, vectors = np.linalg.eigh(own)
        values = np.sqrt(np.maximum(values, floor))[:, None, :]
        root, inverse = ((vectors * v) @ vectors.transpose(0, 2, 1) for v in (values, 1 / values))
        leading = np.linalg.eigh(root @ weight @ root)[1][:, :, -count:]
        basis = np.linalg.qr(inverse @ leading)[0]
        spread = own @ basis
        back = np.linalg.solve(basis.transpose(0, 2, 1) @ spread, spread.transpose(0, 2, 1)).transpose(0, 2, 1)
        return cls(basis, back)

    def of(self, rows: Single) -> Single:
        """Return rows in these directions: (rows, area * channels), by position, to (rows, count * channels)."""
        channels, area, count = self.basis.shape
        taps = rows.reshape(len(rows), area, channels)
        made = np.empty((len(rows), count, channels), np.float32)
        for k in range(count):
            np.einsum("ntc,tc->nc", taps, self.basis[:, :, k].T.astype(np.float32), out=made[:, k])
        return made.reshape(len(rows), -1)


@dataclass(frozen=True)
class Narrowed(Moments):
    """Moments of what a consumer of one block reads, in some directions: columns are ``count`` times all channels.

    ``whole`` is the mean of what is read in all columns, shape (columns of the consumer,).
    """

    directions: Directions
    whole: FloatArray

    def __add__(self, other: Moments) -> Narrowed:
        """Return the moments of both sets of rows, in the same directions."""
        assert isinstance(other, Narrowed)
        assert other.directions is self.directions
        both = super().__add__(other)
        whole = (self.rows * self.whole + other.rows * other.whole) / max(both.rows, 1)
        return replace(self, rows=both.rows, mean=both.mean, scatter=both.scatter, whole=whole)

    def weights(self, stacked: FloatArray) -> FloatArray:
        """Return what weights, shape (1, outputs, columns), are on these directions, (1, outputs, count * channels)."""
        _, outputs, _ = stacked.shape
        channels, area, _ = self.directions.back.shape
        apart = stacked.reshape(outputs, channels, area).transpose(1, 0, 2)
        made = apart @ self.directions.back
        return np.ascontiguousarray(made.transpose(1, 2, 0)).reshape(1, outputs, -1)

    def widened(self, change: NDArray[np.floating]) -> FloatArray:
        """Return the weights of all columns, shape (outputs, columns), that do what some of these directions do."""
        channels, _, count = self.directions.basis.shape
        apart = change.reshape(len(change), count, channels).transpose(2, 0, 1)
        made = apart.astype(np.float64, copy=False) @ self.directions.basis.transpose(0, 2, 1)
        return np.ascontiguousarray(made.transpose(1, 0, 2)).reshape(len(change), -1)

    def units(self, unit: IntArray) -> IntArray:
        """Return the unit of every direction, from that of every column of the consumer."""
        _, area, count = self.directions.basis.shape
        return np.tile(unit[::area], count)


class Narrowing:
    """What narrows the windows of consumers that read the same; the directions are chosen once, for all its readers."""

    def __init__(self, consumers: Sequence[Consumer], count: int) -> None:
        self.count, self.consumers = count, tuple(consumers)
        self.channels, self.area = consumers[0].columns // consumers[0].area, consumers[0].area
        self.directions: Directions | None = None

    def choose(self, rows: Single, where: str) -> Directions:
        """Choose directions on rows as they are read; raises ModelError where these are not finite."""
        taps = rows.reshape(len(rows), self.area, self.channels).transpose(2, 1, 0)
        mean = taps.mean(axis=2, dtype=np.float64, keepdims=True)
        check_finite(mean, where)
        centred = taps - mean.astype(np.float32)
        covariance = np.asarray(centred @ centred.transpose(0, 2, 1), np.float64) / len(rows)
        weight = sum(map(self._weight, self.consumers), np.zeros(()))
        self.directions = Directions.chosen(covariance, weight, self.count)
        return self.directions

    def _weight(self, consumer: Consumer) -> FloatArray:
        """Return W_c'W_c of every channel, shape (channels, area, area)."""
        apart = consumer.stacked().reshape(consumer.outputs, self.channels, self.area).transpose(1, 2, 0)
        return np.asarray(apart @ apart.transpose(0, 2, 1))


class NarrowAccumulator:
    """Adds up moments in the directions of a narrowing, as ``Accumulator`` does. Not to be used after ``finish``."""

    def __init__(self, narrowing: Narrowing, where: str) -> None:
        self.narrowing, self.where = narrowing, where
        self.inner = Accumulator(narrowing.channels * narrowing.count, 1, None, where)
        self.rows = 0
        self.total = np.zeros(narrowing.area * narrowing.channels)
        self._waiting: list[Single] = []

    def add(self, rows: Single, targets: None = None) -> None:
        """Add rows, shape (rows, columns), by position; they are not changed."""
        self.rows += len(rows)
        self.total += rows.sum(axis=0, dtype=np.float64)
        if self.narrowing.directions is not None and not self._waiting:
            self.inner.add(self.narrowing.directions.of(rows))
            return
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= CHOOSING:
            self._take()

    def _take(self) -> None:
        """Put what waits into the sums."""
        if not self._waiting:
            return
        rows, self._waiting = np.concatenate(self._waiting), []
        directions = self.narrowing.directions or self.narrowing.choose(rows, self.where)
        self.inner.add(directions.of(rows))

    def flush(self, *, whole: bool = False) -> None:
        """Multiply the rows that wait; with ``whole`` only in whole blocks."""
        self._take()
        self.inner.flush(whole=whole)

    def finish(self) -> Narrowed:
        """Return the moments of all rows that were added; there is at least one."""
        self._take()
        found, directions = self.inner.finish(), self.narrowing.directions
        assert directions is not None
        mean = self.total / max(self.rows, 1)
        whole = mean.reshape(self.narrowing.area, self.narrowing.channels).T.ravel()
        return Narrowed(found.rows, found.mean, found.scatter, directions, whole)
