"""What the original network's consumers put out, row by row: the targets that repair aims at, kept between passes."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError, UsageError, reason_of
from ..graph import Array
from ..scores import FloatArray
from .consumer import Consumer

Single = NDArray[np.float32]


class Store:
    """Arrays by key: in memory up to ``room`` bytes, what is more in one temporary file, whose free room is used again.

    Not in a file each: making a thousand takes a second.
    """

    def __init__(self, room: int) -> None:
        self.room, self.held = room, 0
        self._arrays: dict[Hashable, Array] = {}
        self._spare: dict[tuple[str, tuple[int, ...]], list[Array]] = {}
        self._spared = 0
        self._places: dict[Hashable, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        self._free: dict[int, list[int]] = {}
        self._file: Any = None
        self._end = 0

    def put(self, key: Hashable, values: Array, *, copy: bool = False) -> None:
        """Keep an array under a key that is free: itself, or with ``copy`` what it holds now.

        Raises OutputError where the file cannot be written.
        """
        if self.held + values.nbytes <= self.room or values.dtype.hasobject or not values.nbytes:
            self._arrays[key] = self._copied(values) if copy else values
            self.held += values.nbytes
            return
        try:
            self._places[key] = self._written(values), values.dtype, values.shape
        except OSError as error:
            words = f"what layers give cannot be kept in the folder for temporary files: {reason_of(error)}"
            hint = "free some space there, name another folder in TMPDIR, or give fewer --samples"
            raise OutputError("temporary-files", words, where=tempfile.tempdir or "TMPDIR", hint=hint) from error

    def _written(self, values: Array) -> int:
        """Write an array where the file has room, and return where that is."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="graphprune-", buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        free = self._free.get(values.nbytes)
        at = free.pop() if free else self._end
        self._end = max(self._end, at + values.nbytes)
        self._file.seek(at)
        raw: Any = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        left = memoryview(raw)
        while left:
            left = left[self._file.write(left) :]
        return at

    def get(self, key: Hashable) -> Array:
        """Return what is kept under a key."""
        if key in self._arrays:
            return self._arrays[key]
        at, dtype, shape = self._places[key]
        found = np.empty(shape, dtype)
        raw: Any = found.reshape(-1).view(np.uint8)
        left = memoryview(raw)
        self._file.seek(at)
        while left:
            left = left[self._file.readinto(left) :]
        return found

    def drop(self, key: Hashable) -> None:
        """Forget what is kept under a key, if anything."""
        gone = self._arrays.pop(key, None)
        if gone is not None:
            self.held -= gone.nbytes
            self._spare.setdefault((gone.dtype.str, gone.shape), []).append(gone)
            self._spared += gone.nbytes
        elif key in self._places:
            at, dtype, shape = self._places.pop(key)
            self._free.setdefault(dtype.itemsize * prod(shape), []).append(at)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether anything is kept under a key."""
        return key in self._arrays or key in self._places

    def _copied(self, values: Array) -> Array:
        spare = self._spare.get((values.dtype.str, values.shape))
        if spare:
            made = spare.pop()
            self._spared -= made.nbytes
            made[...] = values
            return made
        if self.held + self._spared + values.nbytes > self.room:
            self._spare, self._spared = {}, 0
        return values.copy()


@dataclass(frozen=True)
class Targets:
    """Targets of consumers by batch: rows of W x, without the bias, of the original network.

    ``starts`` are the numbers of the batches' first samples, ``sizes`` how many each has; the batches, and the rows
    within them, are those that ``sequential`` takes.
    """

    store: Store
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    sums: dict[int, tuple[int, FloatArray, FloatArray]] = field(default_factory=dict)
    """Of a consumer's node, where something is added: rows, sum and sum of squares of what it puts out by itself."""

    def add(self, consumer: Consumer, start: int, made: Single, plus: Single | float = 0.0) -> None:
        """Keep what a consumer makes of rows, shape (rows, blocks * outputs), the caller's own.

        ``plus``, of the same shape, is added to it.
        """
        if not isinstance(plus, float):
            self._sum(consumer.node, made)
            made += plus
        self.store.put((consumer.node, start), made)

    def batch(self, consumer: Consumer, start: int) -> Single:
        """Return a consumer's targets of a batch, shape (rows, blocks * outputs), float32.

        Raises UsageError where there are none: taken for other consumers or with other settings.
        """
        key = (consumer.node, start)
        if key not in self.store:
            words = "there are no targets of this consumer and batch"
            hint = "take targets with the same consumers, samples and settings"
            raise UsageError("targets-missing", words, where=consumer.parameter, hint=hint)
        return self.store.get(key)

    def _sum(self, node: int, made: Single) -> None:
        rows, total, squares = self.sums.get(node, (0, np.zeros(made.shape[1]), np.zeros(made.shape[1])))
        total, squares = total + made.sum(0, np.float64), squares + np.einsum("ro,ro->o", made, made, dtype=np.float64)
        self.sums[node] = (rows + len(made), total, squares)

    def variance(self, consumer: Consumer) -> FloatArray | None:
        """Return the variance of what a consumer puts out by itself, shape (blocks * outputs,).

        None where nothing is added to it, so that it is that of the targets.
        """
        if consumer.node not in self.sums:
            return None
        rows, total, squares = self.sums[consumer.node]
        return np.asarray(np.maximum(squares / rows - np.square(total / rows), 0.0))

    def of(self, consumer: Consumer) -> Single:
        """Return all targets of a consumer, shape (rows, blocks * outputs), float32."""
        return np.concatenate([self.batch(consumer, start) for start in self.starts])


def multiplied(consumer: Consumer, rows: Single, weights: Single) -> Single:
    """Return W x of rows as they are read; ``weights`` is what ``reading_weights`` returns."""
    b, o = consumer.blocks, consumer.outputs
    if b == 1:
        return np.asarray(rows @ weights[0].T)
    split = rows.reshape(len(rows), consumer.area, b, -1).transpose(2, 0, 1, 3).reshape(b, len(rows), -1)
    made = np.matmul(split, weights.transpose(0, 2, 1)).transpose(1, 0, 2)
    return np.asarray(made).reshape(len(rows), b * o)


def reading_weights(consumer: Consumer) -> Single:
    """Return weights for rows as they are read: (blocks, outputs, width), columns kernel position by position."""
    made: Any = consumer.stacked()
    apart = made.reshape(*made.shape[:2], -1, consumer.area).swapaxes(2, 3)
    return np.ascontiguousarray(apart.reshape(made.shape), dtype=np.float32)
