"""What widths cost: polynomials in the widths, derived once from the graph, evaluated in microseconds.

The size of an axis is a sum of products of widths, so MACs, parameters and bytes are polynomials with non-negative
coefficients; the peak activation memory is the largest of such polynomials over the steps of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Metric = Literal["macs", "params", "size", "memory"]
METRICS: tuple[Metric, ...] = ("macs", "params", "size", "memory")

Monomial = tuple[int, ...]
"""The groups (by position, ascending, with repetition) whose widths are multiplied; () is the constant."""
Terms = dict[Monomial, int]


def add_into(total: Terms, other: Terms, factor: int = 1) -> None:
    """Add ``factor * other`` to ``total`` in place."""
    for monomial, coefficient in other.items():
        total[monomial] = total.get(monomial, 0) + factor * coefficient


def product(left: Terms, right: Terms) -> Terms:
    """Multiply two polynomials."""
    if len(right) == 1 and () in right:
        return {m: c * right[()] for m, c in left.items()}
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
        degree = max((len(m) for p in polynomials for m in p), default=0)
        count = sum(len(p) for p in polynomials)
        coefficient = np.fromiter((c for p in polynomials for c in p.values()), np.float64, count)
        pad = (n_groups,) * degree
        flat = [g for p in polynomials for m in p for g in (m + pad)[:degree]]
        factor = np.array(flat, dtype=np.int64).reshape(count, degree)
        row = np.repeat(np.arange(len(polynomials)), [len(p) for p in polynomials])
        return cls(coefficient, factor, row, len(polynomials), n_groups)

    def _padded(self, widths: NDArray[np.generic]) -> FloatArray:
        widths = np.asarray(widths, dtype=np.float64)
        return np.concatenate([widths, np.ones((*widths.shape[:-1], 1))], axis=-1)

    def monomials(self, widths: NDArray[np.generic]) -> FloatArray:
        """Value of every monomial, shape (..., terms), at widths of shape (..., groups)."""
        values: FloatArray = self._padded(widths)[..., self.factor].prod(axis=-1) * self.coefficient
        return values

    def __call__(self, widths: NDArray[np.generic]) -> FloatArray:
        """Value of every row, shape (..., rows), at widths of shape (..., groups)."""
        terms = self.monomials(widths)
        flat = terms.reshape(-1, terms.shape[-1])
        out = np.zeros((flat.shape[0], self.rows))
        np.add.at(out, (slice(None), self.row), flat)
        return out.reshape(*terms.shape[:-1], self.rows)


@dataclass(frozen=True)
class Costs:
    """The costs of a model as functions of the widths of its groups.

    ``macs``, ``params`` and ``size`` (bytes of the file) have one row. ``tensors`` has a row (bytes) for every activation
    tensor and ``live`` (steps, tensors) tells which are alive at each step: the peak is the largest sum over the steps.
    ``nodes`` names the rows of ``node_macs`` (MACs of each node) and of ``node_params``.
    """

    sizes: IntArray
    macs: Polynomial
    params: Polynomial
    size: Polynomial
    tensors: Polynomial
    born: IntArray
    died: IntArray
    nodes: tuple[str, ...] = ()
    node_macs: Polynomial | None = None
    node_params: Polynomial | None = None

    def memory(self, widths: NDArray[np.generic]) -> FloatArray:
        """Peak activation bytes at widths of shape (..., groups)."""
        bytes_ = self.tensors(widths)
        if bytes_.shape[-1] == 0:
            return np.zeros(bytes_.shape[:-1])
        steps = int(self.died.max()) + 2
        change = np.zeros((*bytes_.shape[:-1], steps))
        np.add.at(change, (..., self.born), bytes_)
        np.add.at(change, (..., self.died + 1), -bytes_)
        peak: FloatArray = np.cumsum(change, axis=-1).max(axis=-1)
        return peak

    def evaluate(self, metric: Metric, widths: NDArray[np.generic]) -> FloatArray:
        """Cost by name at widths of shape (..., groups); the result has shape (...)."""
        if metric == "memory":
            return self.memory(widths)
        polynomial: Polynomial = getattr(self, metric)
        return polynomial(widths)[..., 0]

    @cached_property
    def full(self) -> Mapping[Metric, float]:
        """Every cost of the unpruned model."""
        return {m: float(self.evaluate(m, self.sizes)) for m in METRICS}
