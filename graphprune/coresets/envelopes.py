"""Bounds on what units are worth, carried along the graph from the rows that make them to the sums that take them.

One walk in graph order. A unit starts where a contraction has it as a row of a stored weight, p = [w; b]: its product
with the data is at most beta |p|. Batch normalisations are folded into the row, bias additions too; activations map the
bounds, pooling and reshaping keep them, a residual connection adds them up, a gate multiplies them, a depthwise
convolution takes the sum of its absolute weights. What nothing is known of keeps the bound and is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..graph import Array, Graph, Node
from ..groups import Groups
from ..scores import FloatArray
from ..sites.consumers import consumers
from ..sites.site import Site
from ..weights import slice_sums
from .activations import plain
from .attributes import constant
from .between import STRUCTURAL, Between
from .reach import Linear, Reach
from .stored import Along, Stored

Radius = Callable[[int], float]
"""The radius beta of the data that a contraction is fed: of [x; 1], x a row or window of its input."""
Reaches = dict[int, Reach]


@dataclass(frozen=True)
class Envelopes:
    """What every tensor's units may be worth: tensor → group number → Reach. ``sums`` are where units are summed up."""

    at: Mapping[str, Reaches]
    sums: tuple[Site, ...]
    stored: Stored


def envelopes(graph: Graph, groups: Groups, radius: Radius) -> Envelopes:
    """Carry the bounds of all units along the graph."""
    walk = Walk(graph, groups, radius)
    for k in range(len(graph.nodes)):
        walk.step(k)
    return Envelopes(walk.at, walk.sums, walk.stored)


class Walk(Between):
    """Steps over the nodes; not to be reused."""

    def __init__(self, graph: Graph, groups: Groups, radius: Radius) -> None:
        super().__init__(graph, Stored.of(graph, groups))
        self.groups, self.radius = groups, radius
        self.at: dict[str, Reaches] = {}
        self.softmax: set[str] = set()
        ordinal = {name: g for g, name in enumerate(groups)}
        self.sums = tuple(consumers(graph, groups))
        self.summed = {(s.node, s.position, ordinal[f.group]) for s in self.sums for f in s.factors}

    def step(self, k: int) -> None:
        """Find the reach of the groups along a node's outputs."""
        node = self.graph.nodes[k]
        data = [self.at.get(name or "", {}) for name in node.inputs]
        self._note_softmax(node)
        for name in node.outputs:
            ordinals = dict.fromkeys(a.group for a in self.stored.along_tensor(name))
            found = {g: self._reach(k, node, g, [x.get(g) for x in data]) for g in ordinals}
            self.at[name] = {g: reach for g, reach in found.items() if reach is not None}

    def _note_softmax(self, node: Node) -> None:
        """Remember what holds rows of a softmax, also where masked ones are set to zero."""
        held = [n for n in node.inputs if n in self.softmax]
        masked = plain(node.op.split(".")[0]) == "where" and all(
            n in self.softmax or constant(self.graph, (n,)) == 0 for n in node.inputs[1:]
        )
        if node.family == "softmax" or (held and (masked or _moves(node))):
            self.softmax.update(node.outputs)

    def _reach(self, k: int, node: Node, group: int, data: list[Reach | None]) -> Reach | None:
        """Return what a node makes of a group's units, None where they do not come from here or before."""
        if node.family == "contraction":
            return self._contraction(k, node, group, data)
        if node.family == "lookup":
            return self._lookup(k, group)
        found = [x for x in data if x is not None]
        if not found:
            return None
        if node.family == "attention":  # the rows of a softmax add up to one: values stay between their ends
            return found[-1].between(found[-1].low, found[-1].high)
        if node.family == "norm":
            return self.norm(k, node, group, found[0])
        if node.family == "elementwise":
            return self.elementwise(k, node, group, data)
        return self.structure(k, node, found)

    # Contractions -----------------------------------------------------------------------------------------------

    def _contraction(self, k: int, node: Node, group: int, data: list[Reach | None]) -> Reach | None:
        rows = self._rows(k, node, group)
        passed = [(place, x) for place, x in enumerate(data) if x is not None and (k, place, group) not in self.summed]
        if not passed:
            return None if rows is None else self._made(k, node, group, *rows)
        place, reach = next((x for x in passed if node.inputs[x[0]] not in self.softmax), passed[0])
        if rows is not None:
            return self._depthwise(reach, *rows, self._bias(k, node, group))
        others = [n for p, n in enumerate(node.inputs) if p != place and n is not None]
        if any(n in self.softmax for n in others):
            return reach.between(reach.low, reach.high)
        return reach.untold(node.op)

    def _rows(self, k: int, node: Node, group: int) -> tuple[Array, Along] | None:
        """Return the stored operand that has a group's units as rows, and where."""
        roles = self.stored.layout.facts.roles
        for place in range(min(2, len(node.inputs))):
            use = self.stored.use(k, place)
            for along in self.stored.along(k, place) if use is not None else ():
                if along.group == group and use is not None and roles.get((k, place, along.axis)) == "producer":
                    return self.stored.array(use), along
        return None

    def _made(self, k: int, node: Node, group: int, array: Array, along: Along) -> Reach:
        """Bound the products of stored rows; of a unit that owns several, nothing but the bound is carried on."""
        squares = along.most(slice_sums(array, 2)[along.axis])
        reach = Reach.of_rows(Linear(self.radius(k), squares, self._bias(k, node, group, len(squares))), k)
        return reach.between(reach.low, reach.high) if along.several else reach

    def _bias(self, k: int, node: Node, group: int, size: int | None = None) -> FloatArray:
        """Return the offsets of a contraction's units; where a unit owns several, the largest in absolute value."""
        size = int(self.stored.layout.sizes[group]) if size is None else size
        use = self.stored.use(k, 2) if len(node.inputs) > 2 else None
        for along in self.stored.along(k, 2) if use is not None else ():
            if use is not None and along.group == group:
                low, high = along.ends(self.stored.array(use))
                return np.where(-low > high, low, high)
        return np.zeros(size)

    def _depthwise(self, reach: Reach, array: Array, along: Along, bias: FloatArray) -> Reach:
        """Bound a sum over a unit's own positions: padding may put zeros among them."""
        values = np.moveaxis(np.asarray(array, dtype=np.float64), along.axis, 0).reshape(array.shape[along.axis], -1)
        up = along.most(np.maximum(values, 0.0).sum(axis=1))
        down = along.most(np.maximum(-values, 0.0).sum(axis=1))
        padded = reach.with_zero()
        low, high = up * padded.low - down * padded.high, up * padded.high - down * padded.low
        return padded.between(low + bias, high + bias, monotone=not down.any())

    def _lookup(self, k: int, group: int) -> Reach | None:
        use = self.stored.use(k, 0)
        for along in self.stored.along(k, 0) if use is not None else ():
            if use is not None and along.group == group:
                low, high = along.ends(self.stored.array(use))
                return Reach(low, high, monotone=False, sources=frozenset([k]), path=("lookup",))
        return None


def _moves(node: Node) -> bool:
    return node.family in STRUCTURAL or plain(node.op) in ("dropout", "cast", "identity")
