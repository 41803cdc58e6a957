"""The rows that a consumer reads of a batch: slices of its data, or the windows of a convolution, some or all of them.

Rows come as arrays (rows, columns), columns in the order of reading: of a convolution kernel position by kernel
position, which copies whole runs of channels. ``Rows.to_columns`` says where a consumer's columns are among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..groups import IntArray
from .consumer import Consumer
from .geometry import OUTSIDE, Geometry
from .settings import chosen

Array = NDArray[Any]
DENSE = 0.8
"""Reads a position from which on turning all channels last is quicker than picking: measured."""


@dataclass(frozen=True)
class Rows:
    """How rows are read for a consumer. ``tensor`` is what they are read from."""

    tensor: str
    axis: int
    axes: tuple[int, ...]
    stacks: tuple[int, ...]
    blocks: int
    area: int
    geometry: Geometry | None

    @classmethod
    def of(cls, consumer: Consumer) -> Rows:
        """Return how a consumer's rows are read."""
        form = consumer.form
        return cls(
            consumer.tensor, form.axis, form.rows, form.blocks, consumer.blocks, consumer.area, consumer.geometry
        )

    def positions(self, shape: tuple[int, ...], samples: int) -> tuple[int, int]:
        """Return (samples, positions of each) for data of this shape; one sample where they are not the first axis."""
        if self.geometry is not None:
            batch, out = (shape[0] if self.axes else 1), self.geometry.output(shape[len(shape) - self._spatial :])
            rows = batch * prod(out)
        else:
            rows = prod(shape[k] for k in self.axes)
        together = bool(self.axes) and self.axes[0] == 0 and shape[0] % samples == 0
        return (samples, rows // samples) if together else (1, rows)

    @property
    def _spatial(self) -> int:
        return 0 if self.geometry is None else len(self.geometry.kernel)

    def read(
        self, values: Array, first: int, samples: int, wanted: int | None, seed: int, dtype: Any = np.float32
    ) -> Array:
        """Return rows of a batch, shape (rows, columns), of a floating type, the caller's own.

        ``first`` is the number of its first sample, ``wanted`` how many rows a sample gives (None: all).
        """
        count, positions = self.positions(values.shape, samples)
        picked = chosen(first, count, positions, None if wanted is None else wanted * (samples // count), seed)
        if picked is None:
            picked = np.broadcast_to(np.arange(positions), (count, positions))
        if self.geometry is not None:
            return self._windows(values, self.geometry, picked, dtype)
        moved = values.transpose(*self.axes, *self.stacks, self.axis)
        at = (picked + np.arange(count)[:, None] * positions).ravel()
        if moved.flags.c_contiguous or not self.axes:
            found: Array = moved.reshape(count * positions, -1)[at]
        else:  # picked one by one, which is quicker than to bring all into this order first
            found = moved[np.unravel_index(at, moved.shape[: len(self.axes)])].reshape(len(at), -1)
        return found.astype(dtype, copy=False)

    def _windows(self, values: Array, geometry: Geometry, picked: IntArray, dtype: Any) -> Array:
        """Return windows at output positions, shape (rows, kernel positions * channels)."""
        size = values.shape[values.ndim - self._spatial :]
        data = values.reshape(-1, values.shape[self.axis], prod(size))
        out = geometry.output(size)
        per = prod(out)
        spread_out = picked.reshape(-1)
        batch = np.repeat(np.arange(len(picked)), picked.shape[1]) * (len(data) // len(picked)) + spread_out // per
        taps = _taps(geometry, size, out, spread_out % per)
        found = _gathered(data, batch, taps, dtype)
        found[taps == OUTSIDE] = 0
        return found.reshape(len(found), -1)

    def to_columns(self, columns: int) -> IntArray | None:
        """Return for every column of the consumer its place among those that are read; None where they are alike."""
        if self.area == 1 or columns == self.area:
            return None
        return np.arange(columns).reshape(self.area, -1).T.ravel()


def _taps(geometry: Geometry, size: tuple[int, ...], out: tuple[int, ...], at: IntArray) -> IntArray:
    """Return the flat input position of every tap at some output positions, or OUTSIDE, shape (rows, taps)."""
    places = np.unravel_index(at, out)
    flat, missing = np.zeros((len(at), 1), np.int64), np.zeros((len(at), 1), np.bool_)
    for place, table, n in zip(places, geometry.tables(size, out), size, strict=True):
        index = table[place]
        flat = (flat[:, :, None] * n + index[:, None, :]).reshape(len(at), -1)
        missing = (missing[:, :, None] | (index == OUTSIDE)[:, None, :]).reshape(len(at), -1)
    return np.where(missing, OUTSIDE, flat)


def _gathered(data: Array, batch: IntArray, taps: IntArray, dtype: Any) -> Array:
    """Return data (batch, channels, positions) at positions, shape (rows, taps, channels)."""
    if taps.size < DENSE * len(data) * data.shape[2]:
        return data.transpose(0, 2, 1)[batch[:, None], taps].astype(dtype, copy=False)
    # Channels last, once; then whole runs of them are copied.
    turned = np.ascontiguousarray(data.transpose(0, 2, 1), dtype=dtype).reshape(-1, data.shape[1])
    found: Array = turned.take(batch[:, None] * data.shape[2] + np.maximum(taps, 0), axis=0)
    return found
