"""The Lagrangian bound: limits priced, every product of widths kept, the least over all choices found exactly.

For any prices, none negative, the least of loss plus priced costs less the priced limits is a lower bound on the loss
of every plan within the limits (weak duality), and it is a concave function of the prices whose slope is by how much
the limits are missed (Lemarechal, *Lagrangian relaxation*, 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..cost import FloatArray, IntArray
from .choices import Choices
from .elimination import Order, Scope
from .limits import Limits

ENTRIES = 2 * 10**7
"""How many entries the tables of products may have: 160 MB."""
SAFETY = 1e-9
"""What is taken off a bound for rounding, relative to the sums it is made of."""


@dataclass(frozen=True)
class Priced:
    """Tables of the products in the rows over the choices of their groups, as parts of the limits.

    ``fixed`` (rows,) is what no choice changes and ``alone`` (rows, choices) what a choice costs by itself. Of products
    of several groups, ``tables[k]`` has one each along its first axis, over the groups of ``scopes[k]``, and
    ``weights[k]``, of shape (products, rows), their coefficients.
    """

    limits: Limits
    choices: Choices
    fixed: FloatArray
    alone: FloatArray
    scopes: tuple[Scope, ...]
    tables: tuple[FloatArray, ...]
    weights: tuple[FloatArray, ...]
    order: Order

    @classmethod
    def of(cls, limits: Limits, choices: Choices, most: int) -> Priced | None:
        """Make the tables; None where groups are woven together too much: more than ``most`` entries to fill."""
        rows, readings = limits.rows, limits.readings
        distinct, name = np.unique(rows.factor, axis=0, return_inverse=True)
        cell = name.reshape(-1) * rows.rows + rows.row
        coefficient = np.bincount(cell, rows.coefficient, minlength=len(distinct) * rows.rows)
        parts = coefficient.reshape(len(distinct), rows.rows) / limits.most
        of_scope: dict[Scope, list[int]] = {}
        group, count = readings.group.tolist(), choices.count.tolist()
        for k, factor in enumerate(distinct.tolist()):
            scope = tuple(sorted(group[f] for f in factor if f < len(group)))
            of_scope.setdefault(scope, []).append(k)
        woven = {scope: products for scope, products in of_scope.items() if len(scope) > 1}
        order = Order.of(choices.count, _scopes(len(choices.start), tuple(woven)), most)
        if order is None or sum(len(p) * prod(count[g] for g in scope) for scope, p in woven.items()) > ENTRIES:
            return None
        alone = np.zeros((rows.rows, len(choices.width)))
        for scope, products in of_scope.items():
            for k in products if len(scope) == 1 else ():
                at = slice(choices.start[scope[0]], choices.start[scope[0]] + choices.count[scope[0]])
                alone[:, at] += parts[k][:, None] * _product(limits, choices, distinct[k], scope)
        tables = tuple(np.stack([_product(limits, choices, distinct[k], s) for k in p]) for s, p in woven.items())
        weights = tuple(parts[p] for p in woven.values())
        fixed = np.asarray(parts[of_scope.get((), [])].sum(axis=0))
        return cls(limits, choices, fixed, alone, tuple(woven), tables, weights, order)

    def only(self, kept: NDArray[np.bool_]) -> Priced:
        """Return the same over the marked choices, of every group at least one; ``order`` stays."""
        ranks = [np.flatnonzero(mine) for mine in np.split(kept, self.choices.start[1:])]
        tables = tuple(
            table[np.ix_(np.arange(len(table)), *(ranks[g] for g in scope))]
            for scope, table in zip(self.scopes, self.tables, strict=True)
        )
        choices = self.choices.only(kept)
        return Priced(
            self.limits, choices, self.fixed, self.alone[:, kept], self.scopes, tables, self.weights, self.order
        )

    def __call__(self, worth: FloatArray) -> tuple[float, FloatArray]:
        """Return the bound at what every limit is worth, shape (rows,), and the widths that give it, (groups,)."""
        least, rank = self.order.least(self._tables(worth))
        bound = least - self._owed(worth) - self._rounding(np.array(least), worth)
        return float(bound), self.choices.width[self.choices.start + rank]

    def marginals(self, worth: FloatArray) -> FloatArray:
        """Return the bound with each choice taken, shape (choices,), at what every limit is worth, shape (rows,)."""
        least = np.concatenate(self.order.marginals(self._tables(worth)))
        return np.asarray(least - self._owed(worth) - self._rounding(least, worth))

    def _tables(self, worth: FloatArray) -> list[FloatArray]:
        alone = np.split(self.choices.loss + worth @ self.alone, self.choices.start[1:])
        return [*alone, *(_weighed(t, w @ worth) for t, w in zip(self.tables, self.weights, strict=True))]

    def _owed(self, worth: FloatArray) -> float:
        return float(worth @ (1 - self.fixed))

    def _rounding(self, least: FloatArray, worth: FloatArray) -> FloatArray:
        return np.asarray(SAFETY * (np.abs(least) + self._losses + worth.sum()))

    @cached_property
    def _losses(self) -> float:
        """The sum of the largest losses of all groups."""
        return float(np.maximum.reduceat(np.abs(self.choices.loss), self.choices.start).sum())


def _scopes(groups: int, woven: tuple[Scope, ...]) -> list[Scope]:
    return [*((g,) for g in range(groups)), *woven]


def _weighed(table: FloatArray, weight: FloatArray) -> FloatArray:
    """Add up products by weights: far faster than a general contraction, as there are one or two."""
    total: FloatArray = weight[0] * table[0]
    for w, t in zip(weight[1:], table[1:], strict=True):
        total += w * t
    return total


def _product(limits: Limits, choices: Choices, factor: IntArray, scope: Scope) -> FloatArray:
    """Return a product of readings over the choices of its groups."""
    readings = limits.readings
    result: FloatArray = np.ones(())
    of_group = {int(readings.group[f]): int(f) for f in factor if f < len(readings.group)}
    for group in scope:
        mine = slice(choices.start[group], choices.start[group] + choices.count[group])
        shown = readings.table[readings.start[of_group[group]] + choices.width[mine].astype(np.int64)]
        result = result[..., None] * shown
    return result
