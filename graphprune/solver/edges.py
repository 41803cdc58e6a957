"""Products of two readings in the rows, and tables of what readings show at choices, flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cost import FloatArray, IntArray
from .choices import Choices
from .limits import Limits

TINY = 1e-300
"""Readings below this are taken for zero."""


@dataclass(frozen=True)
class Edges:
    """Products of two readings that the rows contain, once each: ``left`` and ``right``.

    ``term`` and ``edge`` say which terms of the rows are of which product; ``plain`` and ``bent`` are the terms of one
    reading, whose cost is exact, and of three and more, which take the tangent.
    """

    left: IntArray
    right: IntArray
    term: IntArray
    edge: IntArray
    plain: IntArray
    bent: IntArray

    @classmethod
    def of(cls, limits: Limits) -> Edges:
        """Sort the terms by the number of their readings."""
        factor, n = np.sort(limits.rows.factor, axis=1), limits.rows.n_groups
        count = (factor < n).sum(axis=1)
        term = np.flatnonzero(count == 2)
        distinct, edge = np.unique(factor[term, :2], axis=0, return_inverse=True)
        left, right = distinct.T if len(distinct) else np.zeros((2, 0), np.int64)
        return cls(left, right, term, edge.reshape(-1), np.flatnonzero(count < 2), np.flatnonzero(count > 2))


def shown(limits: Limits, choices: Choices, reading: IntArray, at: IntArray) -> FloatArray:
    """Return what readings show at choices of their groups, any shape."""
    readings = limits.readings
    width = choices.width[at]
    return width if readings.plain else readings.table[readings.start[reading] + width.astype(np.int64)]


def sums(cell: IntArray, values: FloatArray, cells: int) -> FloatArray:
    """Add up values by cell, shape (cells,)."""
    return np.bincount(cell, values, minlength=cells).astype(np.float64, copy=False)


def flat(choices: Choices, group: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the choices of these groups, one group after the other, whose they are, and where each group starts."""
    count = choices.count[group]
    first = np.cumsum(count) - count
    edge = np.repeat(np.arange(len(group)), count)
    return choices.start[group][edge] + np.arange(len(edge)) - first[edge], edge, first
