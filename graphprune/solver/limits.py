"""Limits on costs as rows of polynomials over readings, prepared for a search that changes one width at a time.

With all other widths fixed, every row is a sum of readings of a single group: their coefficients for all groups come
from one pass over the terms, and from them what every candidate width of every group would cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..cost import Costs, FloatArray, IntArray, Metric, Polynomial
from .choices import Choices
from .readings import Readings, gather
from .smooth import smoothed

ROUNDING = 1e-12
"""What is taken off limits whose sums round."""


def firm(costs: Costs, metric: Metric, limit: float) -> float:
    """Return what sums may reach so that the cost is within a limit however it is added up."""
    exact = metric != "latency" and costs.full[metric] < 2.0**53  # whole numbers up to here add up without rounding
    return limit if exact else limit * (1 - ROUNDING)


@dataclass(frozen=True)
class Incidences:
    """Every (term, group) of the rows, the (group, row, reading) cells and the (group, row) pairs they fall into.

    Cells and pairs ascend by group. ``others`` are the remaining factors of the term, padded with ``readings``. Every
    group has at least one pair, if need be one without terms; its pairs start at ``first``, and the cells of a pair at
    ``start``.
    """

    term: IntArray
    others: IntArray
    cell: IntArray
    reading: IntArray
    start: IntArray
    group: IntArray
    row: IntArray
    first: IntArray

    def total(self, values: FloatArray) -> FloatArray:
        """Add up values of pairs, shape (pairs, candidates), group by group: shape (groups, candidates)."""
        return values if self._single else np.asarray(np.add.reduceat(values, self.first, axis=0))

    def every(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell where all pairs of a group are marked, shape (groups, candidates)."""
        return inside if self._single else np.asarray(np.logical_and.reduceat(inside, self.first, axis=0))

    @property
    def _single(self) -> bool:
        """Whether every group has one pair, as with one limit."""
        return len(self.first) == len(self.row)


@dataclass(frozen=True)
class Limits:
    """``rows`` of what ``readings`` show of the widths are at most ``most``, shape (rows,); no row holds at full width.

    Costs never fall as a width grows, so that a row which holds unpruned holds everywhere.
    """

    rows: Polynomial
    most: FloatArray
    readings: Readings

    @classmethod
    def of(cls, costs: Costs, limits: Mapping[Metric, float]) -> Limits:
        """Gather the rows that limits on these metrics ask for; peak memory gives one for every step it may bind.

        Raises UsageError for a limit on a latency that was not measured.
        """
        parts: list[Polynomial] = []
        most: list[FloatArray] = []
        timed = None
        for metric in (m for m in limits if m != "latency"):
            rows = costs.peaks(limits[metric]) if metric == "memory" else getattr(costs, metric)
            if rows.rows and costs.full[metric] > limits[metric]:
                parts.append(rows)
                most.append(np.full(rows.rows, firm(costs, metric, limits[metric])))
        if "latency" in limits and costs.measured(costs.sizes) > limits["latency"]:
            timed = costs.latency
            most.append(np.full(1, firm(costs, "latency", limits["latency"])))
        rows, readings = gather(costs.sizes, parts, timed)
        return cls(rows, np.concatenate(most) if most else np.zeros(0), readings)

    def cost(self, widths: NDArray[np.generic]) -> FloatArray:
        """Value of every row, shape (..., rows), at whole widths of shape (..., groups)."""
        return self.rows(self.readings.values(widths))

    def slack(self, widths: NDArray[np.generic]) -> FloatArray:
        """How far every row is below its limit, shape (..., rows), at whole widths of shape (..., groups)."""
        return self.most - self.cost(widths)

    def holds(self, widths: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Whether all rows are within their limits, shape (...)."""
        return np.asarray((self.slack(widths) >= 0).all(axis=-1))

    def used(self, widths: NDArray[np.generic]) -> FloatArray:
        """Return the largest part of a limit that is used, shape (...)."""
        return np.asarray((1 - self.slack(widths) / self.most).max(axis=-1))

    @cached_property
    def smooth(self) -> Polynomial:
        """The rows as polynomials over real widths: the same, or close to it where they hold gauges."""
        return smoothed(self.rows, self.readings)

    def worthwhile(self, choices: Choices) -> Choices:
        """Leave out choices whose next wider one costs as much in every row and loses no more: steps have one width."""
        used = np.unique(self.rows.factor)
        used = used[used < len(self.readings.group)]
        dearer = np.append(choices.owner[1:] != choices.owner[:-1], True)
        dearer[:-1] |= choices.loss[1:] > choices.loss[:-1]
        for reading in used if not self.readings.plain else ():
            group = self.readings.group[reading]
            mine = slice(choices.start[group], choices.start[group] + choices.count[group])
            first = self.readings.start[reading]
            shown = self.readings.table[first + choices.width[mine].astype(np.int64)]
            dearer[mine][:-1] |= shown[1:] > shown[:-1]
        return choices if self.readings.plain else choices.only(dearer)

    @cached_property
    def incidences(self) -> Incidences:
        """The (term, group) table."""
        factor, readings, rows = self.rows.factor, len(self.readings.group), self.rows.rows
        n = len(self.readings.sizes)
        term, column = np.nonzero(factor < readings)
        reading = factor[term, column]
        others = factor[term]
        others[np.arange(len(term)), column] = readings
        others = np.sort(others, axis=1)[:, :-1]
        group = self.readings.group[reading]
        idle = np.flatnonzero(np.bincount(group, minlength=n) == 0)
        key = (group * rows + self.rows.row[term]) * readings + reading
        cells, place = np.unique(np.concatenate([key, idle * rows * readings + idle]), return_inverse=True)
        pair, cell_reading = np.divmod(cells, readings)
        start = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
        pair_group, pair_row = np.divmod(pair[start], rows)
        first = np.searchsorted(pair_group, np.arange(n))
        return Incidences(term, others, place[: len(term)], cell_reading, start, pair_group, pair_row, first)

    def slopes(self, shown: FloatArray) -> FloatArray:
        """Change of every cell's row by its reading, shape (cells,), where readings show ``shown``, (readings,)."""
        at = self.incidences
        padded = np.append(shown, 1.0)
        rest = self.rows.coefficient[at.term]
        for column in at.others.T:
            rest *= padded[column]
        return np.bincount(at.cell, rest, minlength=len(at.reading)).astype(np.float64, copy=False)

    def changes(self, widths: FloatArray, candidates: FloatArray) -> FloatArray:
        """Return how every row changes, shape (pairs, candidates), when one group moves to a candidate.

        ``candidates`` has shape (groups, candidates).
        """
        at, shown = self.incidences, self.readings.values(widths)
        change = self.readings.at(at.reading, candidates) - shown[at.reading][:, None]
        change *= self.slopes(shown)[:, None]
        return change if len(at.start) == len(at.reading) else np.add.reduceat(change, at.start, axis=0)

    def fits(self, widths: FloatArray, candidates: FloatArray) -> NDArray[np.bool_]:
        """Tell whether every limit holds when one group moves to a candidate, shape (groups, candidates)."""
        at, room = self.incidences, self.slack(widths)
        inside = self.changes(widths, candidates) <= room[at.row][:, None]
        return at.every(inside)

    def priced(self, widths: FloatArray, weight: FloatArray, candidates: FloatArray) -> FloatArray:
        """Return what candidates cost, shape (groups, candidates), with a weight for every row, the other groups fixed.

        But for what the group does not change. ``widths``, of shape (groups,), may lie between whole widths.
        """
        at, readings = self.incidences, self.readings
        row = at.row if len(at.start) == len(at.reading) else np.repeat(at.row, np.diff([*at.start, len(at.reading)]))
        worth = self.slopes(readings.between(widths)) * weight[row]
        slope = np.bincount(at.reading, worth, minlength=len(readings.group)).astype(np.float64, copy=False)
        if readings.plain:
            return slope[:, None] * candidates
        used, n = np.unique(np.append(np.arange(len(readings.sizes)), at.reading)), readings.group
        used = used[np.argsort(n[used], kind="stable")]
        cost = slope[used][:, None] * readings.at(used, candidates)
        return np.add.reduceat(cost, np.flatnonzero(np.diff(n[used], prepend=-1)), axis=0)
