"""What widths cost: polynomials in the widths, derived once from the graph, evaluated in microseconds.

The size of an axis is a sum of products of widths, so MACs, parameters and bytes are polynomials with non-negative
coefficients; the peak activation memory is the largest of such polynomials over the steps of the graph. Latency is
measured: a polynomial of what kernels charge for widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Metric = Literal["macs", "params", "size", "memory", "latency"]
METRICS: tuple[Metric, ...] = ("macs", "params", "size", "memory")
"""The costs that are counted on a file; latency, in seconds, is known only where it was measured."""

Monomial = tuple[int, ...]
"""The groups (by position, ascending, with repetition) whose widths are multiplied; () is the constant."""
Terms = dict[Monomial, int]


def add_into(total: Terms, other: Terms, factor: int = 1) -> None:
    """Add ``factor * other`` to ``total`` in place."""
    for monomial, coefficient in other.items():
        total[monomial] = total.get(monomial, 0) + factor * coefficient


def scaled(terms: Terms, factor: int) -> Terms:
    """Multiply a polynomial by a number."""
    return terms if factor == 1 else {m: c * factor for m, c in terms.items()}


def product(left: Terms, right: Terms) -> Terms:
    """Multiply two polynomials."""
    if len(right) == 1 and () in right:
        return scaled(left, right[()])
    if len(left) == 1 and () in left:
        return scaled(right, left[()])
    result: Terms = {}
    for a, x in left.items():
        for b, y in right.items():
            key = tuple(sorted(a + b)) if a and b else a or b
            result[key] = result.get(key, 0) + x * y
    return result


@dataclass(frozen=True)
class Polynomial:
    """``rows`` polynomials over the widths of ``n_groups`` groups, as flat arrays.

    Monomial k is ``coefficient[k] * prod(width[factor[k]])`` and belongs to polynomial ``row[k]``; ``factor`` is padded
    with ``n_groups``, a width of one.
    """

    coefficient: FloatArray
    factor: IntArray
    row: IntArray
    rows: int
    n_groups: int

    @classmethod
    def stack(cls, polynomials: Sequence[Terms], n_groups: int) -> Polynomial:
        """Build from one dictionary of terms per row."""
        degree = max((len(m) for p in polynomials for m in p), default=0) or 1
        count = sum(len(p) for p in polynomials)
        coefficient = np.fromiter((c for p in polynomials for c in p.values()), np.float64, count)
        pads = [(n_groups,) * (degree - rank) for rank in range(degree + 1)]
        flat = chain.from_iterable(m + pads[len(m)] for p in polynomials for m in p)
        factor = np.fromiter(flat, np.int64, count * degree).reshape(count, degree)
        row = np.repeat(np.arange(len(polynomials)), [len(p) for p in polynomials])
        return cls(coefficient, factor, row, len(polynomials), n_groups)

    def select(self, term: IntArray, row: IntArray, rows: int) -> Polynomial:
        """Build polynomials of these terms, the k-th in row ``row[k]``; like terms of a row are added up."""
        distinct, name = np.unique(self.factor, axis=0, return_inverse=True)
        key, place = np.unique(row * len(distinct) + name.reshape(-1)[term], return_inverse=True)
        coefficient = np.bincount(place, self.coefficient[term], minlength=len(key)).astype(np.float64)
        new_row, monomial = np.divmod(key, max(len(distinct), 1))
        return Polynomial(coefficient, distinct[monomial], new_row, rows, self.n_groups)

    def monomials(self, widths: NDArray[np.generic]) -> FloatArray:
        """Value of every monomial, shape (..., terms), at widths of shape (..., groups)."""
        widths = np.asarray(widths)
        padded = np.ones((*widths.shape[:-1], self.n_groups + 1))
        padded[..., :-1] = widths
        first, *others = self._columns
        values: FloatArray = self.coefficient * padded.take(first, axis=-1)
        for column in others:  # a handful: far faster than a product over a short last axis
            values *= padded.take(column, axis=-1)
        return values

    @cached_property
    def _columns(self) -> tuple[IntArray, ...]:
        """The first factor of every monomial, the second, and so on."""
        return tuple(np.ascontiguousarray(column) for column in self.factor.T)

    @cached_property
    def _segments(self) -> tuple[IntArray | slice, IntArray, IntArray]:
        """The order that sorts the terms by row, the rows that have terms, and where each of them starts."""
        rising = bool((self.row[1:] >= self.row[:-1]).all())
        order = slice(None) if rising else np.argsort(self.row, kind="stable")
        rows, starts = np.unique(self.row[order], return_index=True)
        return order, rows, starts

    def sum_rows(self, terms: FloatArray) -> FloatArray:
        """Add up values of monomials, shape (..., terms), row by row: shape (..., rows)."""
        if self.rows == 1:
            return np.asarray(np.add.reduce(terms, axis=-1, keepdims=True))
        order, rows, starts = self._segments
        out = np.zeros((*terms.shape[:-1], self.rows))
        if len(rows):
            out[..., rows] = np.add.reduceat(terms[..., order], starts, axis=-1)
        return out

    def __call__(self, widths: NDArray[np.generic]) -> FloatArray:
        """Value of every row, shape (..., rows), at widths of shape (..., groups)."""
        return self.sum_rows(self.monomials(widths))

    def log_gradient(self, widths: NDArray[np.generic]) -> FloatArray:
        """Gradient of every row by the logarithms of the widths, shape (rows, groups), at widths of shape (groups,).

        ``w_g * d row / d w_g``: the sum of the row's monomials, each times its exponent of the group.
        """
        terms = self.monomials(widths)
        cell = (self.row[:, None] * (self.n_groups + 1) + self.factor).ravel()
        weight = np.repeat(terms, self.factor.shape[1])
        table = np.bincount(cell, weight, minlength=self.rows * (self.n_groups + 1)).astype(np.float64)
        return table.reshape(self.rows, self.n_groups + 1)[:, :-1]


@dataclass(frozen=True)
class Latency:
    """Seconds of one run as a function of the widths: a sum of terms, each a coefficient times a product of gauges.

    A gauge is what a kernel charges for a group's width: ``table[k][w]``, never falling in w, is what gauge k shows
    when group ``group[k]`` keeps w of its units (0 to all). Blocked kernels charge for whole blocks, so that gauges
    have steps. ``seconds`` is one polynomial with non-negative coefficients whose factors are gauges in place of
    widths.
    """

    seconds: Polynomial
    group: IntArray
    table: tuple[FloatArray, ...]

    @cached_property
    def _flat(self) -> tuple[FloatArray, IntArray]:
        """All tables in one array, and where each of them starts."""
        first = np.cumsum([0, *map(len, self.table)])[:-1]
        return np.concatenate([np.zeros(0), *self.table]), first.astype(np.int64)

    def gauges(self, widths: NDArray[np.generic]) -> FloatArray:
        """Return what every gauge shows, shape (..., gauges), at whole widths of shape (..., groups)."""
        flat, first = self._flat
        return np.asarray(flat[first + np.asarray(widths).astype(np.int64)[..., self.group]])

    def __call__(self, widths: NDArray[np.generic]) -> FloatArray:
        """Seconds of one run, shape (...), at whole widths of shape (..., groups)."""
        return np.asarray(self.seconds(self.gauges(widths))[..., 0])


@dataclass(frozen=True)
class Costs:
    """The costs of a model as functions of the widths of its groups.

    ``params`` and ``size`` (bytes of the file) have one row, ``macs`` one for each way through the model's branches, of
    which the dearest counts. ``tensors`` has a row (bytes) for every
    activation tensor, which is alive from step ``born`` to step ``died``, both included: the peak is the largest sum
    over the steps. ``latency`` is there where it was measured.
    """

    sizes: IntArray
    macs: Polynomial
    params: Polynomial
    size: Polynomial
    tensors: Polynomial
    born: IntArray
    died: IntArray
    latency: Latency | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The costs that are known: those counted on a file, and latency where it was measured."""
        return METRICS if self.latency is None else (*METRICS, "latency")

    @cached_property
    def _steps(self) -> IntArray:
        """The steps that can be the peak: something dies there, and something was born since the last such step."""
        count = int(self.died.max(initial=-1)) + 1
        deaths = np.flatnonzero(np.bincount(self.died, minlength=count))
        born_by = (np.bincount(self.born, minlength=count) > 0).cumsum()[deaths]
        return deaths[np.diff(born_by, prepend=0) > 0]

    @cached_property
    def _lifetimes(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Tensors by birth and by death, and how many are born and dead at each of the steps that can be the peak."""
        by_birth, by_death = np.argsort(self.born, kind="stable"), np.argsort(self.died, kind="stable")
        born = np.searchsorted(self.born[by_birth], self._steps, side="right")
        dead = np.searchsorted(self.died[by_death], self._steps, side="left")
        return by_birth, by_death, born, dead

    def live_bytes(self, widths: NDArray[np.generic]) -> FloatArray:
        """Bytes alive at every step that can be the peak, shape (..., steps), at widths of shape (..., groups)."""
        held = self.tensors(widths)
        by_birth, by_death, born, dead = self._lifetimes
        start = np.zeros((*held.shape[:-1], 1))
        gained = np.concatenate([start, np.cumsum(held[..., by_birth], axis=-1)], axis=-1)
        lost = np.concatenate([start, np.cumsum(held[..., by_death], axis=-1)], axis=-1)
        alive: FloatArray = gained[..., born] - lost[..., dead]
        return alive

    def memory(self, widths: NDArray[np.generic]) -> FloatArray:
        """Peak activation bytes at widths of shape (..., groups)."""
        if not len(self._steps):
            return np.zeros(np.asarray(widths).shape[:-1])
        peak: FloatArray = self.live_bytes(widths).max(axis=-1)
        return peak

    def peaks(self, limit: float) -> Polynomial:
        """Return the steps that exceed ``limit`` bytes in the unpruned model, as polynomials, one a row.

        The peak is within the limit exactly when all of these rows are: bytes grow with the widths, so that any other
        step stays within it whatever is removed.
        """
        over = self._steps[self.live_bytes(self.sizes) > limit] if len(self._steps) else self._steps
        step, tensor = np.nonzero((self.born <= over[:, None]) & (over[:, None] <= self.died))
        source = self.tensors
        count = np.bincount(source.row, minlength=source.rows)
        first = np.cumsum(count) - count
        ends = np.cumsum(count[tensor])
        pair = np.repeat(np.arange(len(tensor)), count[tensor])  # join the live tensors with their terms
        rank = np.arange(len(pair)) - (ends - count[tensor])[pair] + first[tensor[pair]]
        term = np.argsort(source.row, kind="stable")[rank]
        return source.select(term, step[pair], len(over))

    def evaluate(self, metric: Metric, widths: NDArray[np.generic]) -> FloatArray:
        """Cost by name at whole widths of shape (..., groups); the result has shape (...).

        Raises UsageError for a latency that was not measured.
        """
        if metric == "memory":
            return self.memory(widths)
        if metric == "latency":
            return self.measured(widths)
        polynomial: Polynomial = getattr(self, metric)
        return np.asarray(polynomial(widths).max(axis=-1))

    def measured(self, widths: NDArray[np.generic]) -> FloatArray:
        """Seconds of one run at whole widths of shape (..., groups); raises UsageError where nothing was measured."""
        if self.latency is None:
            raise UsageError("latency-unknown", "no latency was measured for this model", where="--budget")
        return self.latency(widths)

    @cached_property
    def full(self) -> Mapping[Metric, float]:
        """Every known cost of the unpruned model."""
        return {m: float(self.evaluate(m, self.sizes)) for m in self.metrics}
