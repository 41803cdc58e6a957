"""The least sum of tables over the choices of several groups, exactly: groups are eliminated one after the other.

A table says what the choices of a few groups cost together. Eliminating a group adds up the tables it is in and leaves
the least over its choices, a table over the groups beside it (Bertele and Brioschi, *Nonserial Dynamic Programming*,
1972; also known as bucket elimination). Chains leave tables of one group; the blocks of residual networks, whose
shortcut has one width, tables of two. Where tables would grow too large, there is no order.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cost import FloatArray, IntArray

Scope = tuple[int, ...]
"""The groups of a table, ascending, one axis each."""


@dataclass(frozen=True)
class Source:
    """A table that a step adds up: which one, and its axes in the order of the step, ``None`` for those it lacks."""

    table: int
    axes: tuple[int, ...]
    spread: tuple[slice | None, ...]


@dataclass(frozen=True)
class Step:
    """The elimination of ``group``, which then shares tables with the groups ``beside`` it, ascending.

    What it leaves is table ``left``; a step that leaves nothing ends a part of the network that stands alone.
    """

    group: int
    beside: Scope
    sources: tuple[Source, ...]
    left: int


@dataclass(frozen=True)
class Order:
    """Steps of elimination for tables of the given scopes, and how many entries they fill in all."""

    steps: tuple[Step, ...]
    work: int

    @classmethod
    def of(cls, count: IntArray, scopes: Sequence[Scope], most: int) -> Order | None:
        """Find an order in which tables stay small: always the group whose table is smallest, the first among equals.

        ``count`` is the number of choices of every group, and every group needs a table of its own. Returns None where
        the steps would fill more than ``most`` entries.
        """
        found = _order(count, scopes, most)
        if found is None:
            return None
        groups, besides, work = found
        place = {g: k for k, g in enumerate(groups)}
        buckets: list[list[tuple[int, Scope]]] = [[] for _ in groups]
        for k, scope in enumerate(scopes):
            buckets[min(place[g] for g in scope)].append((k, scope))
        steps = []
        for k, (group, beside) in enumerate(zip(groups, besides, strict=True)):
            left = len(scopes) + k if beside else -1
            if beside:
                buckets[min(place[g] for g in beside)].append((left, beside))
            sources = tuple(_source(table, scope, (group, *beside)) for table, scope in buckets[k])
            steps.append(Step(group, beside, sources, left))
        return cls(tuple(steps), work)

    def least(self, tables: Sequence[FloatArray]) -> tuple[float, IntArray]:
        """Return the least sum over all choices and the ranks of the choices that give it, shape (groups,)."""
        filled = self._filled(tables)
        rank = np.zeros(len(self.steps), np.int64)
        total = 0.0
        for step in reversed(self.steps):
            values = np.zeros(())
            for source in step.sources:
                values = values + _arranged(filled[source.table], source)[_beside(step, source, rank)]
            best = int(values.argmin())
            rank[step.group] = best
            total += 0.0 if step.beside else float(values[best])
        return total, rank

    def marginals(self, tables: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the least sum with each choice of each group, shape (choices,) each."""
        filled = self._filled(tables)
        above: dict[int, FloatArray] = {}
        found: list[FloatArray] = [np.zeros(0)] * len(self.steps)
        for step in reversed(self.steps):
            belief = _added(filled, step)
            if step.beside:
                belief = belief + above[step.left]
            found[step.group] = belief.min(axis=tuple(range(1, belief.ndim)))
            for s in step.sources:
                if s.table >= len(tables):
                    gone = tuple(k for k, x in enumerate(s.spread) if x is None)
                    above[s.table] = belief.min(axis=gone) - filled[s.table].transpose(s.axes)
                    above[s.table] = above[s.table].transpose(np.argsort(s.axes))
        ends = {k: float(f.min()) for k, f in enumerate(found)}
        whole = sum(ends[step.group] for step in self.steps if not step.beside)
        return [f + (whole - ends[k]) for k, f in enumerate(found)]

    def _filled(self, tables: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the tables, then what every step leaves (nothing of a step that leaves nothing)."""
        filled = list(tables)
        for step in self.steps:
            filled.append(_added(filled, step).min(axis=0) if step.beside else np.zeros(0))
        return filled


def _order(count: IntArray, scopes: Sequence[Scope], most: int) -> tuple[list[int], list[Scope], int] | None:
    near: list[set[int]] = [set() for _ in count]
    for scope in scopes:
        for g in scope:
            near[g] |= {h for h in scope if h != g}
    sizes = [int(c) for c in count]
    entries = [_entries(sizes, g, near[g]) for g in range(len(sizes))]
    queue = [(n, g) for g, n in enumerate(entries)]
    heapq.heapify(queue)
    beside: dict[int, Scope] = {}
    work = 0
    while queue:
        n, g = heapq.heappop(queue)
        if g in beside or n != entries[g]:  # done already, or its table has grown or shrunk since
            continue
        work += n
        if work > most:
            return None
        beside[g] = tuple(sorted(near[g]))
        for h in beside[g]:
            near[h] = (near[h] | near[g]) - {g, h}
            entries[h] = _entries(sizes, h, near[h])
            heapq.heappush(queue, (entries[h], h))
    return list(beside), list(beside.values()), work


def _entries(sizes: Sequence[int], group: int, near: set[int]) -> int:
    total = sizes[group]
    for h in near:
        total *= sizes[h]
    return total


def _source(table: int, scope: Scope, target: Scope) -> Source:
    """Say how a table over ``scope`` lies within one over ``target``."""
    axes = tuple(scope.index(g) for g in target if g in scope)
    return Source(table, axes, tuple(slice(None) if g in scope else None for g in target))


def _beside(step: Step, source: Source, rank: IntArray) -> tuple[slice | int, ...]:
    """Say where the choices of the groups beside are, in the table of a source as it lies within the step's."""
    ranks = [0 if axis is None else int(rank[g]) for g, axis in zip(step.beside, source.spread[1:], strict=True)]
    return (slice(None), *ranks)


def _arranged(table: FloatArray, source: Source) -> FloatArray:
    return np.asarray(table.transpose(source.axes)[source.spread])


def _added(filled: Sequence[FloatArray], step: Step) -> FloatArray:
    """Add up the tables of a step, over its group and those beside it."""
    parts = sorted((_arranged(filled[s.table], s) for s in step.sources), key=lambda part: part.size)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
