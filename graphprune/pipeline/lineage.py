"""Following units through several prunings: what is left of a model, in terms of the units of the original.

Each parameter keeps its name when it is cut, so a position in what is left is a position of the original, found by
composing the kept indices. A unit of the original lives as long as one of its positions does.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..coupling import kept_parameters
from ..errors import PlanError
from ..graph import Graph
from ..groups import Group, Groups, IntArray
from ..plan import Plan

Axis = tuple[str, int]
Alive = dict[Axis, IntArray]


class Lineage:
    """The original's groups, and the positions of its parameters that are still there.

    ``untraceable`` names what makes groups that no parameter of their own tells about; they are to be protected.
    """

    def __init__(self, graph: Graph, groups: Groups) -> None:
        self.graph, self.groups = graph, groups
        uses = Counter(name for node in graph.nodes for name in node.inputs if name)
        # Vectors that several nodes share are copied when their uses are cut differently: they tell nothing.
        self.shared = {t.name for t in graph.parameters if uses[t.name] > 1 and sum(n > 1 for n in t.shape or ()) <= 1}
        self.alive: Alive = {}
        self.untraceable = tuple(_escaped(g.id) for g in groups.groups if not self._members(g))

    def _members(self, group: Group) -> list[tuple[Axis, IntArray, IntArray]]:
        return [((m.tensor, m.axis), m.index, m.unit) for m in group.members if m.tensor not in self.shared]

    def follow(self, graph: Graph, groups: Groups, plan: Plan) -> tuple[str, ...]:
        """Note what a plan leaves of the current model, unless it removes parts of units of the original.

        Returns the names of the parameters it cuts so, escaped as patterns that protect them: nothing is noted then.
        """
        cut = kept_parameters(graph, groups, plan)
        after = {**self.alive}
        for name, axes in cut.items():
            if name in self.graph.tensors and name not in self.shared:
                for axis, kept in axes.items():
                    after[name, axis] = self._now(name, axis)[np.asarray(kept, np.int64)]
        strange = self._strange(after)
        cuttable = tuple(_escaped(n) for n in strange if n in cut and n in graph.tensors)
        if strange and not cuttable:
            raise PlanError(
                "steps-not-composable", f"the steps cut {strange[0]!r} in a way that no plan for the original does",
                where=strange[0], hint="prune in one step, or protect the layer with --keep, and please report this",
            )  # fmt: skip
        if not strange:
            self.alive = after
        return cuttable

    def _now(self, name: str, axis: int) -> IntArray:
        known = self.alive.get((name, axis))
        return np.arange(self.graph.shape(name)[axis]) if known is None else known

    def _strange(self, alive: Alive) -> tuple[str, ...]:
        """Return the parameters of which the best plan for the original keeps other positions than are alive."""
        wanted = kept_parameters(self.graph, self.groups, self._plan(alive))
        gone = {name for (name, _), kept in alive.items() if not len(kept)}
        found = []
        for name, axis in sorted({*alive, *((n, a) for n, axes in wanted.items() for a in axes)}):
            if name in self.shared or name in gone:
                continue
            full = range(self.graph.shape(name)[axis])
            mine = alive.get((name, axis))
            theirs = wanted.get(name, {}).get(axis, full)
            if not np.array_equal(np.asarray(full) if mine is None else mine, np.asarray(theirs)):
                found.append(name)
        return tuple(dict.fromkeys(found))

    def _plan(self, alive: Alive) -> Plan:
        keep = {g.id: self._kept(g, alive) for g in self.groups.groups}
        sizes = {g.id: g.size for g in self.groups.groups}
        return Plan(keep, sizes, self.groups.fingerprint, coupling=self.groups.options)

    def _kept(self, group: Group, alive: Alive) -> tuple[int, ...]:
        """Return the units of a group that live: those with a position left in some member."""
        members = self._members(group)
        living = np.zeros(group.size, np.bool_)
        for axis, index, unit in members:
            kept = alive.get(axis)
            living[unit if kept is None else unit[np.isin(index, kept)]] = True
        return tuple(np.flatnonzero(living if members else ~living).tolist())

    def widths(self) -> dict[str, int]:
        """Return how many units of every group of the original are left."""
        return self._plan(self.alive).widths

    def plan(self) -> Plan:
        """Return the plan for the original that leaves what is alive, with what it costs."""
        from dataclasses import replace

        from ..cost import METRICS

        plan = self._plan(self.alive)
        widths = np.array([len(plan.keep[g.id]) for g in self.groups.groups], dtype=np.int64)
        return replace(plan, costs={m: float(self.groups.costs.evaluate(m, widths)) for m in METRICS})


def _escaped(name: str) -> str:
    """Return a pattern that matches this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
