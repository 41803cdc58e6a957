"""Sums of products of gauges, and how they become what the solver reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..cost import FloatArray, IntArray, Latency, Monomial, Polynomial

LOWEST = 0.25
"""Sizes below this part of the full one do not count where a gauge is taken for a line."""


@dataclass
class Formula:
    """Seconds as a sum of terms: the gauges (by number, ascending) that are multiplied, and a weight."""

    terms: dict[tuple[int, ...], float] = field(default_factory=dict)

    def add(self, other: Formula, factor: float = 1.0) -> None:
        """Add a multiple of another formula in place."""
        for gauges, weight in other.terms.items():
            self.terms[gauges] = self.terms.get(gauges, 0.0) + factor * weight

    def times(self, other: Formula) -> Formula:
        """Return the product with another formula."""
        result = Formula()
        for a, x in self.terms.items():
            result.add(Formula({tuple(sorted(a + b)): y for b, y in other.terms.items()}), x)
        return result


class Gauges:
    """The gauges of a model, each once: tables over the widths of a group."""

    def __init__(self, sizes: IntArray) -> None:
        self.sizes = sizes
        self.group: list[int] = []
        self.table: list[FloatArray] = []
        self._number: dict[tuple[int, bytes], int] = {}

    def of(self, group: int, table: FloatArray) -> int:
        """Return the number of a gauge, shape (size + 1,)."""
        key = (group, table.tobytes())
        if key not in self._number:
            self._number[key] = len(self.group)
            self.group.append(group)
            self.table.append(table)
        return self._number[key]

    def width(self, group: int) -> int:
        """Return the number of the gauge that shows a group's width."""
        return self.of(group, np.arange(int(self.sizes[group]) + 1.0))

    def constant(self, seconds: float) -> Formula:
        """Return a formula of a number alone."""
        return Formula({(): seconds})

    def polynomial(self, terms: Mapping[Monomial, float]) -> Formula:
        """Return a polynomial in the widths."""
        made = Formula()
        for monomial, c in terms.items():
            made.add(Formula({tuple(sorted(self.width(g) for g in monomial)): float(c)}))
        return made

    def shown(self, table: FloatArray, terms: Mapping[Monomial, float]) -> Formula:
        """Return what a table over sizes, shape (full + 1,), shows for a size that is a polynomial in the widths.

        Where the size is more than one group's width times a number, the table is taken for a line.
        """
        full = len(table) - 1
        growing = {monomial: c for monomial, c in terms.items() if monomial and c}
        offset = float(terms.get((), 0.0))
        if not growing:
            return self.constant(float(table[min(round(offset), full)]))
        (monomial, factor), *more = growing.items()
        if not more and len(monomial) == 1:
            width = np.arange(int(self.sizes[monomial[0]]) + 1)
            at = np.minimum(np.ceil(offset + factor * width - 1e-9).astype(np.int64), full)
            return Formula({(self.of(monomial[0], np.asarray(table[at])),): 1.0})
        start, slope = straight(table)
        made = self.constant(start)
        made.add(self.polynomial(terms), slope)
        return made

    def latency(self, total: Formula) -> Latency:
        """Return a formula as what the solver reads: gauges of one group in a term are multiplied into one table.

        What depends on one group alone is a single table.
        """
        alone: dict[int, FloatArray] = {}
        merged = Gauges(self.sizes)
        terms: dict[tuple[int, ...], float] = {}
        for gauges, weight in total.terms.items():
            tables: dict[int, FloatArray] = {}
            for k in gauges:
                group = self.group[k]
                tables[group] = tables[group] * self.table[k] if group in tables else self.table[k]
            if len(tables) == 1:
                ((group, table),) = tables.items()
                alone[group] = alone.get(group, np.zeros(len(table))) + weight * table
            elif weight:
                key = tuple(sorted(merged.of(group, table) for group, table in tables.items()))
                terms[key] = terms.get(key, 0.0) + weight
        for group, table in alone.items():
            terms[(merged.of(group, np.asarray(table)),)] = 1.0
        polynomial = _stacked(terms, len(merged.group))
        return Latency(polynomial, np.array(merged.group, np.int64), tuple(merged.table))


def straight(table: FloatArray) -> tuple[float, float]:
    """Return start and slope, none negative, of a line close to a table over sizes; it meets the table at the end.

    It follows the table where blocks are full: a plan that aligns all parts of a sum fills the blocks of the sum.
    """
    full = len(table) - 1
    ends = np.flatnonzero(np.append(np.diff(table) > 0, True))
    ends = ends[ends >= LOWEST * full]
    # end - table = slope * (1 - size): a line through the end.
    away = 1 - ends / full
    spread = float(away @ away)
    slope = float(away @ (table[-1] - table[ends])) / spread if spread else float(table[-1])
    slope = min(max(slope, 0.0), float(table[-1]))
    return float(table[-1]) - slope, slope / full


def _stacked(terms: Mapping[tuple[int, ...], float], gauges: int) -> Polynomial:
    """Return one row of terms; numbers are not rounded to whole ones."""
    degree = max((len(t) for t in terms), default=0) or 1
    factor = np.array([(*t, *(gauges,) * (degree - len(t))) for t in terms], np.int64).reshape(len(terms), degree)
    weight = np.array(list(terms.values()), np.float64)
    return Polynomial(weight, factor, np.zeros(len(terms), np.int64), 1, gauges)
