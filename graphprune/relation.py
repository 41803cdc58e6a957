"""Sparse relations between numbered things, and connected components, in plain NumPy.

scipy.sparse does the same; its checks and conversions cost more than the work on models of a few layers, and its import
takes as long as pruning a small one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .groups import IntArray


@dataclass(frozen=True)
class Relation:
    """Which columns every row is related to: those of row r are ``indices[indptr[r]:indptr[r + 1]]``, ascending."""

    indptr: IntArray
    indices: IntArray
    columns: int

    @classmethod
    def of(cls, row: IntArray, column: IntArray, rows: int, columns: int) -> Relation:
        """Relate rows and columns pair by pair; a pair may come more than once."""
        key = row * columns + column
        if not (key[1:] > key[:-1]).all():
            key = np.sort(key, kind="stable")  # fast where pairs come in ascending runs, as they do
            row, column = np.divmod(key[np.diff(key, prepend=-1) > 0], columns)
        return cls(_summed(np.bincount(row, minlength=rows)), column, columns)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @cached_property
    def degree(self) -> IntArray:
        """Number of columns of every row."""
        return np.asarray(np.diff(self.indptr))

    @cached_property
    def row(self) -> IntArray:
        """The row of every pair."""
        return np.repeat(np.arange(self.rows), self.degree)

    def of_row(self, row: int) -> IntArray:
        """Return the columns of one row."""
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def take(self, rows: IntArray) -> Relation:
        """Return the relation of these rows, one after the other."""
        count = self.degree[rows]
        indptr = _summed(count)
        pairs = np.repeat(self.indptr[rows] - indptr[:-1], count) + np.arange(indptr[-1])
        return Relation(indptr, self.indices[pairs], self.columns)

    def only(self, columns: NDArray[np.bool_]) -> Relation:
        """Drop all columns but these; the others keep their numbers."""
        chosen = columns[self.indices]
        return Relation(_summed(chosen)[self.indptr], self.indices[chosen], self.columns)

    def then(self, other: Relation) -> Relation:
        """Relate every row to what its columns are related to as rows of ``other``."""
        reached = other.take(self.indices)
        return Relation.of(self.row[reached.row], reached.indices, self.rows, other.columns)

    def touching(self, columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which rows are related to any of these columns, shape (rows,)."""
        found = np.zeros(self.rows, np.bool_)
        found[self.row[columns[self.indices]]] = True
        return found


def _summed(count: NDArray[Any]) -> IntArray:
    """Return how many there are before each, and in all."""
    total = np.zeros(len(count) + 1, np.int64)
    np.cumsum(count, out=total[1:])
    return total


def components(a: IntArray, b: IntArray, count: int) -> tuple[IntArray, int]:
    """Return the connected component of each of ``count`` nodes joined by edges (a, b), and how many there are.

    Components are numbered by their first node. Every node points to a lower one of its component until it points to
    the lowest: roots are hung onto lower neighbouring roots, all at once, then all paths are cut short.
    """
    root = np.arange(count)
    while True:
        left, right = root[a], root[b]
        apart = left != right
        if not apart.any():
            break
        a, b, left, right = a[apart], b[apart], left[apart], right[apart]
        np.minimum.at(root, np.maximum(left, right), np.minimum(left, right))
        for shorter in _shortened(root):
            root = shorter
    lowest = root == np.arange(count)
    number = np.cumsum(lowest) - 1
    return number[root], int(lowest.sum())


def _shortened(root: IntArray) -> Iterator[IntArray]:
    """Yield ever shorter paths, until all end after one step."""
    while (root[root] != root).any():
        root = root[root]
        yield root
