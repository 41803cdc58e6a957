"""What costs read of the widths of groups: the widths themselves, powers of them, and the gauges of measured kernels.

A reading is a table over the widths of one group. Costs become sums of products of readings in which every group takes
part once: factors of a term that belong to one group are multiplied into one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..cost import FloatArray, IntArray, Latency, Polynomial


@dataclass(frozen=True)
class Readings:
    """Tables of readings: what reading r shows at width w of ``group[r]`` is ``table[start[r] + w]``.

    The first readings are the widths of the groups, in order. ``power`` is the exponent of a reading that is a power of
    the width, and 0 for one that holds gauges.
    """

    sizes: IntArray
    group: IntArray
    power: IntArray
    start: IntArray
    table: FloatArray

    @classmethod
    def of_widths(cls, sizes: IntArray) -> Readings:
        """Return the widths of groups."""
        ends = np.cumsum(sizes + 1)
        start = ends - sizes - 1
        table = np.arange(ends[-1] if len(ends) else 0) - np.repeat(start, sizes + 1)
        return cls(sizes, np.arange(len(sizes)), np.ones(len(sizes), np.int64), start, table.astype(np.float64))

    def and_more(self, group: IntArray, power: IntArray, tables: list[FloatArray]) -> Readings:
        """Return these and others, whose tables have shape (size + 1,) each."""
        first = len(self.table) + np.cumsum([0, *map(len, tables)])[:-1].astype(np.int64)
        groups, powers, start = (
            np.append(mine, more) for mine, more in ((self.group, group), (self.power, power), (self.start, first))
        )
        return Readings(self.sizes, groups, powers, start, np.concatenate([self.table, *tables]))

    def of_reading(self, reading: int) -> FloatArray:
        """Return the table of a reading, shape (size + 1,)."""
        return self.table[self.start[reading] : self.start[reading] + self.sizes[self.group[reading]] + 1]

    @property
    def plain(self) -> bool:
        """Whether there are no readings but the widths."""
        return len(self.group) == len(self.sizes)

    @property
    def stepped(self) -> bool:
        """Whether some are gauges, with steps where kernels have them; powers of widths have none."""
        return bool((self.power == 0).any())

    def values(self, widths: NDArray[np.generic]) -> FloatArray:
        """Return what all readings show, shape (..., readings), at whole widths of shape (..., groups)."""
        widths = np.asarray(widths)
        if self.plain:
            return widths.astype(np.float64, copy=False)
        return np.asarray(self.table[self.start + widths.astype(np.int64)[..., self.group]])

    def between(self, widths: FloatArray) -> FloatArray:
        """Return what all readings show, shape (readings,), at real widths of shape (groups,): tables interpolated."""
        if self.plain:
            return widths
        width = widths[self.group]
        below = np.minimum(width.astype(np.int64), self.sizes[self.group] - 1)
        left, right = self.table[self.start + below], self.table[self.start + below + 1]
        return np.asarray(left + (width - below) * (right - left))

    def at(self, reading: IntArray, widths: FloatArray) -> FloatArray:
        """Return what these readings show, (readings, candidates), at candidates of shape (groups, candidates)."""
        mine = widths[self.group[reading]]
        return mine if self.plain else self.table[self.start[reading][:, None] + mine.astype(np.int64)]

    @cached_property
    def line(self) -> tuple[FloatArray, FloatArray]:
        """Offset and slope of a line close to every reading, none negative, shape (readings,) each.

        Least squares over all widths but zero: what the steps of a kernel come to on the whole.
        """
        offset, slope = np.zeros(len(self.group)), np.ones(len(self.group))
        for r in np.flatnonzero(self.power == 0):
            offset[r], slope[r] = _line(self.of_reading(int(r))[1:])
        return offset, slope


def _line(values: FloatArray) -> tuple[float, float]:
    """Return offset and slope, none negative, closest to values at 1, 2, ..."""
    width = np.arange(1.0, len(values) + 1)
    centre = width - width.mean()
    spread = float(centre @ centre)
    slope = max(float(centre @ values) / spread, 0.0) if spread else 0.0
    offset = float(values.mean() - slope * width.mean())
    return (offset, slope) if offset >= 0 else (0.0, float(width @ values) / float(width @ width))


def gather(sizes: IntArray, parts: list[Polynomial], latency: Latency | None) -> tuple[Polynomial, Readings]:
    """Put the rows of polynomials over the widths below each other, and last the seconds of ``latency``.

    Returns one polynomial over readings, every group at most once a term, and the readings.
    """
    n, readings = len(sizes), Readings.of_widths(sizes)
    if latency is not None:
        named, extra = _distinct(latency, sizes)
        tables = [latency.table[k] for k in _firsts(named, n)]
        readings = readings.and_more(extra, np.zeros(len(extra), np.int64), tables)
        count = len(readings.group)
        parts = [*(_renamed(p, np.arange(n), count) for p in parts), _renamed(latency.seconds, named, count)]
    stacked = _stack(parts, len(readings.group))
    factor = np.sort(stacked.factor, axis=1)
    owner = np.append(readings.group, n)[factor]
    if ((owner[:, 1:] > owner[:, :-1]) | (owner[:, 1:] == n)).all():
        return stacked, readings
    return _merged(stacked, readings)


def _distinct(latency: Latency, sizes: IntArray) -> tuple[IntArray, IntArray]:
    """Name every gauge by its reading: a gauge that shows the width is the width, and equal ones are one.

    Returns the names, shape (gauges,), and the group of every reading that is new.
    """
    n = len(sizes)
    known = {(g, np.arange(size + 1.0).tobytes()): g for g, size in enumerate(sizes)}
    names: list[int] = []
    groups: list[int] = []
    for group, table in zip(latency.group.tolist(), latency.table, strict=True):
        key = (group, np.asarray(table, dtype=np.float64).tobytes())
        if key not in known:
            known[key] = n + len(groups)
            groups.append(group)
        names.append(known[key])
    return np.array(names, np.int64), np.array(groups, np.int64)


def _firsts(named: IntArray, n: int) -> list[int]:
    """Return the first gauge of every new name, in the order of the names."""
    names, first = np.unique(named, return_index=True)
    return [int(k) for k in first[names >= n]]


def _renamed(source: Polynomial, names: IntArray, variables: int) -> Polynomial:
    """Give the variables of a polynomial other positions, among ``variables`` of them."""
    return Polynomial(
        source.coefficient, np.append(names, variables)[source.factor], source.row, source.rows, variables
    )


def _stack(parts: list[Polynomial], variables: int) -> Polynomial:
    """Put the rows of several polynomials below each other."""
    if not parts:
        return Polynomial.stack([], variables)
    if len(parts) == 1 and parts[0].n_groups == variables:
        return parts[0]
    degree = max(p.factor.shape[1] for p in parts)
    factor = [np.pad(p.factor, ((0, 0), (0, degree - p.factor.shape[1])), constant_values=variables) for p in parts]
    offset = np.cumsum([0, *(p.rows for p in parts)])
    row = [p.row + start for p, start in zip(parts, offset, strict=False)]
    coefficient = np.concatenate([p.coefficient for p in parts])
    return Polynomial(coefficient, np.concatenate(factor), np.concatenate(row), int(offset[-1]), variables)


def _merged(rows: Polynomial, readings: Readings) -> tuple[Polynomial, Readings]:
    """Multiply the factors of a term that belong to one group into one reading."""
    n = len(readings.sizes)
    factor = np.sort(rows.factor, axis=1)
    owner = np.append(readings.group, n)[factor]
    order = np.argsort(owner, axis=1, kind="stable")
    factor, owner = np.take_along_axis(factor, order, axis=1), np.take_along_axis(owner, order, axis=1)
    again = np.zeros(factor.shape, np.bool_)
    again[:, 1:] = (owner[:, 1:] == owner[:, :-1]) & (owner[:, 1:] < n)
    names: dict[tuple[int, ...], int] = {}
    groups: list[int] = []
    for term in np.flatnonzero(again.any(axis=1)):
        for g in np.unique(owner[term][again[term]]):
            mine = np.flatnonzero(owner[term] == g)
            key = tuple(factor[term, mine].tolist())
            if key not in names:
                names[key] = len(readings.group) + len(groups)
                groups.append(int(g))
            factor[term, mine] = -1
            factor[term, mine[0]] = names[key]
    power = [sum(readings.power[list(k)]) if readings.power[list(k)].all() else 0 for k in names]
    tables = [np.prod([readings.of_reading(r) for r in key], axis=0) for key in names]
    merged = readings.and_more(np.array(groups, np.int64), np.array(power, np.int64), tables)
    variables = len(merged.group)
    factor = np.sort(np.where((factor < 0) | (owner == n), variables, factor), axis=1)
    used = max(int((factor < variables).sum(axis=1).max(initial=0)), 1)
    return Polynomial(rows.coefficient, factor[:, :used], rows.row, rows.rows, variables), merged
