"""Limits on costs as rows of polynomials, prepared for a search that changes one width at a time.

With all other widths fixed, every row is a polynomial in the width of a single group: its coefficients for all groups
come from one pass over the terms, and from them what every candidate width of every group would cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..cost import Costs, FloatArray, IntArray, Metric, Polynomial


@dataclass(frozen=True)
class Incidences:
    """Every (term, group) of the rows, and the (group, row) pairs they fall into, ascending by group.

    ``others`` are the remaining factors of the term, padded with ``n_groups``; ``power`` is the group's exponent less
    one. Every group has at least one pair, if need be one without terms; its pairs start at ``first``.
    """

    term: IntArray
    others: IntArray
    pair: IntArray
    power: IntArray
    degree: int
    group: IntArray
    row: IntArray
    first: IntArray


@dataclass(frozen=True)
class Limits:
    """``rows(widths) <= most`` for every row, shape (rows,); rows that hold at full width are left out.

    Costs never fall as a width grows, so that a row which holds unpruned holds everywhere.
    """

    rows: Polynomial
    most: FloatArray

    @classmethod
    def of(cls, costs: Costs, limits: Mapping[Metric, float]) -> Limits:
        """Gather the rows that limits on these metrics ask for; peak memory gives one for every step it may bind."""
        parts: list[Polynomial] = []
        most: list[FloatArray] = []
        for metric, limit in limits.items():
            rows = costs.peaks(limit) if metric == "memory" else getattr(costs, metric)
            if rows.rows and costs.full[metric] > limit:
                parts.append(rows)
                exact = costs.full[metric] < 2.0**53  # sums of whole numbers up to here have no rounding
                most.append(np.full(rows.rows, limit if exact else limit * (1 - 1e-12)))
        n = len(costs.sizes)
        return cls(_stack(parts, n), np.concatenate(most) if most else np.zeros(0))

    def slack(self, widths: NDArray[np.generic]) -> FloatArray:
        """How far every row is below its limit, shape (..., rows), at widths of shape (..., groups)."""
        return self.most - self.rows(widths)

    def holds(self, widths: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Whether all rows are within their limits, shape (...)."""
        return np.asarray((self.slack(widths) >= 0).all(axis=-1))

    def used(self, widths: NDArray[np.generic]) -> FloatArray:
        """Return the largest part of a limit that is used, shape (...)."""
        return np.asarray((1 - self.slack(widths) / self.most).max(axis=-1))

    @cached_property
    def incidences(self) -> Incidences:
        """The (term, group) table."""
        factor, n, rows = self.rows.factor, self.rows.n_groups, self.rows.rows
        same = factor[:, :, None] == factor[:, None, :]
        fresh = ~np.tril(same, -1).any(axis=2) & (factor < n)
        term, column = np.nonzero(fresh)
        group = factor[term, column]
        others = np.sort(np.where(factor[term] == group[:, None], n, factor[term]), axis=1)[:, :-1]
        power = same[term, column].sum(axis=1) - 1
        key = group * rows + self.rows.row[term]
        idle = np.setdiff1d(np.arange(n), group) * rows
        pairs, place = np.unique(np.concatenate([key, idle]), return_inverse=True)
        pair_group, pair_row = np.divmod(pairs, rows)
        first = np.searchsorted(pair_group, np.arange(n))
        degree = int(power.max(initial=0)) + 1
        return Incidences(term, others, place[: len(term)], power, degree, pair_group, pair_row, first)

    def univariate(self, widths: FloatArray) -> FloatArray:
        """Coefficients of every pair's polynomial, shape (pairs, degree), from the first power up."""
        at = self.incidences
        padded = np.append(widths, 1.0)
        rest = self.rows.coefficient[at.term]
        for column in at.others.T:
            rest *= padded[column]
        table = np.bincount(at.pair * at.degree + at.power, rest, minlength=len(at.group) * at.degree)
        return table.reshape(-1, at.degree).astype(np.float64, copy=False)

    def changes(self, widths: FloatArray, candidates: FloatArray) -> FloatArray:
        """Return how every row changes, shape (pairs, candidates), when one group moves to a candidate.

        ``candidates`` has shape (groups, candidates).
        """
        at, table = self.incidences, self.univariate(widths)
        change = (candidates - widths[:, None])[at.group] * table[:, :1]
        for power in range(1, at.degree):
            step = candidates ** (power + 1) - widths[:, None] ** (power + 1)
            change += step[at.group] * table[:, power : power + 1]
        return change

    def prices(self, widths: FloatArray, weight: FloatArray) -> FloatArray:
        """Gradient of ``weight @ rows`` by the widths, shape (groups,), with a weight for every row."""
        at, table = self.incidences, self.univariate(widths)
        slope = table[:, 0].copy()
        for power in range(1, at.degree):
            slope += (power + 1) * table[:, power] * widths[at.group] ** power
        return np.asarray(np.add.reduceat(slope * weight[at.row], at.first))


def _stack(parts: list[Polynomial], n_groups: int) -> Polynomial:
    """Put the rows of several polynomials below each other."""
    if not parts:
        return Polynomial.stack([], n_groups)
    degree = max(p.factor.shape[1] for p in parts)
    factor = [np.pad(p.factor, ((0, 0), (0, degree - p.factor.shape[1])), constant_values=n_groups) for p in parts]
    offset = np.cumsum([0, *(p.rows for p in parts)])
    row = [p.row + start for p, start in zip(parts, offset, strict=False)]
    coefficient = np.concatenate([p.coefficient for p in parts])
    return Polynomial(coefficient, np.concatenate(factor), np.concatenate(row), int(offset[-1]), n_groups)
