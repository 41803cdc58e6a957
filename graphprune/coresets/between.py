"""What lies between rows and sums, as maps of reaches: normalisation, activations, arithmetic, pooling, reshaping."""

from __future__ import annotations

from math import inf

import numpy as np

from ..graph import Graph, Node
from ..scores import FloatArray
from .activations import RULES, number, plain, prelu
from .attributes import attributes_of
from .reach import Reach
from .stored import Stored

ADDS = frozenset({"add", "sum", "sub"})
MULTIPLIES = frozenset({"mul", "multiply", "div", "divide", "truedivide"})
STRUCTURAL = frozenset({
    "reshape", "transpose", "permutation", "concat", "split", "select", "expand", "tile", "shuffle", "quantize",
})  # fmt: skip
"""Families that only move elements."""


class Between:
    """Maps the reaches of one group's units, ``data[i]`` that of a node's input i, None where it does not carry them.

    ``k`` is the node's place in the graph, ``group`` the group's number.
    """

    def __init__(self, graph: Graph, stored: Stored) -> None:
        self.graph, self.stored = graph, stored

    def norm(self, k: int, node: Node, group: int, reach: Reach) -> Reach:
        """Return what a normalisation makes of units: with stored statistics a scale and a shift, else a bound."""
        if not node.attrs.get("statistics") and len(node.inputs) >= 5:
            (factor, most), (low, high) = self._affine(k, group)
            if np.array_equal(factor, most) and np.array_equal(low, high):
                return reach.scaled(factor, low)
            return reach.times(Reach(factor, most, monotone=False)).shifted(low, high)
        scale, shift = self.of_units(k, 1, group, 1.0), self.of_units(k, 2, group, 0.0)
        largest = np.maximum(np.abs(scale[0]), np.abs(scale[1]))
        # A value normalised over n others of its kind is at most sqrt(n) in absolute value.
        count = np.sqrt(float(np.prod(self.graph.shape(node.inputs[0] or "")[1:])))
        return reach.between(shift[0] - largest * count, shift[1] + largest * count, name=plain(node.op))

    def _affine(self, k: int, group: int) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        """Return the smallest and largest factor, and offset, that a normalisation has for each unit's channels."""
        gamma, beta, mean, var = (self._channels(k, place, absent) for place, absent in enumerate((1, 0, 0, 1), 1))
        epsilon = number(attributes_of(self.graph, k), 1e-5, "epsilon", "eps")
        factor = gamma / np.sqrt(np.maximum(var, 0.0) + epsilon)
        both = np.stack(np.broadcast_arrays(factor, beta - factor * mean))
        for along in self.stored.along(k, 3):
            if along.group == group:
                return along.ends(both[0]), along.ends(both[1])
        size = int(self.stored.layout.sizes[group])
        (low, high), (least, most) = ((np.full(size, v.min()), np.full(size, v.max())) for v in both)
        return (low, high), (least, most)

    def _channels(self, k: int, place: int, absent: float) -> FloatArray:
        """Return what an input of a normalisation holds for each channel; ``absent`` where it is not stored."""
        name = self.graph.nodes[k].inputs[place]
        known = self.graph.known.get(name or "")
        use = None if name is None else self.stored.use(k, place)
        array = self.stored.array(use) if use is not None else np.full(1, absent) if known is None else known.value
        return np.asarray(array, dtype=np.float64).ravel()

    def elementwise(self, k: int, node: Node, group: int, data: list[Reach | None]) -> Reach:
        """Return what arithmetic and activations make of units."""
        op = plain(node.op.split(".")[0])
        if op in ADDS | MULTIPLIES and len(node.inputs) == 1:
            return self._by_number(k, node, data[0], op)
        if op in ADDS:
            return self._sum(k, node, group, data, op)
        if op in MULTIPLIES:
            return self._product(k, node, group, data, op)
        found = [(place, x) for place, x in enumerate(data) if x is not None]
        place, reach = found[0]
        if op == "glu" and len(found) == 2:
            return reach.times(RULES["sigmoid"](found[1][1], {}))
        if op == "prelu" and place == 0:
            low, high = self.of_units(k, 1, group, inf)
            return prelu(reach, float(low.min()), float(high.max())) if np.isfinite(low).all() else reach.untold(op)
        rule = RULES.get(op)
        others = [n for p, n in enumerate(node.inputs) if p != place and n is not None]
        computed = [n for n in others if n not in self.graph.known and self.graph.tensors[n].kind != "parameter"]
        if rule is None or len(found) > 1 or place > 0 or computed:
            for _, other in found[1:]:
                reach = reach.or_else(other)
            return reach.untold(op)
        return rule(reach, attributes_of(self.graph, k))

    def _by_number(self, k: int, node: Node, reach: Reach | None, op: str) -> Reach:
        """Add, or multiply by, a number that is an argument of the call and no tensor."""
        assert reach is not None
        value = number(attributes_of(self.graph, k), inf, "other")
        if not np.isfinite(value) or (value == 0 and op not in (*ADDS, "mul", "multiply")):
            return reach if op == "sum" else reach.untold(node.op)
        ones = np.ones_like(reach.low)
        if op in ADDS:
            return reach.shifted(*[ones * (-value if op == "sub" else value)] * 2)
        return reach.scaled(ones * (value if op in ("mul", "multiply") else 1 / value))

    def _sum(self, k: int, node: Node, group: int, data: list[Reach | None], op: str) -> Reach:
        total: Reach | None = None
        factor = number(attributes_of(self.graph, k), 1.0, "alpha")
        for place, reach in enumerate(data):
            if reach is not None:
                term = reach.scaled(-np.ones_like(reach.low)) if op == "sub" and place else reach
                total = term if total is None else total.plus(term)
        assert total is not None
        if factor != 1:
            return total.untold(node.op)
        for place, name in enumerate(node.inputs):
            if data[place] is None and name is not None:
                low, high = self.of_units(k, place, group, inf)
                if not np.isfinite(low).all():
                    total = total.untold(op)
                elif op == "sub" and place:
                    total = total.shifted(-high, -low)
                else:
                    total = total.shifted(low, high)
        return total

    def _product(self, k: int, node: Node, group: int, data: list[Reach | None], op: str) -> Reach:
        found = [x for x in data if x is not None]
        total, divides = found[0], op not in ("mul", "multiply")
        if len(found) > 1:
            return total.untold(op) if divides else total.times(found[1])
        place = next(p for p, x in enumerate(data) if x is None)
        low, high = self.of_units(k, place, group, inf)
        if not np.isfinite(low).all() or (divides and (place == 0 or (low * high <= 0).any())):
            return total.untold(op)
        low, high = (1 / high, 1 / low) if divides else (low, high)
        if np.array_equal(low, high):
            return total.scaled(low)
        return total.times(Reach(low, high, monotone=False))

    def structure(self, k: int, node: Node, found: list[Reach]) -> Reach:
        """Return what pooling, reductions and what moves elements make of units."""
        reach = found[0]
        for other in found[1:]:
            reach = reach.or_else(other)
        op = plain(node.op.split(".")[0])
        if node.family == "softmax":
            return reach.between(np.zeros_like(reach.low), np.ones_like(reach.high), name="softmax")
        if node.family == "reduce" and op in ("reducesum", "sum"):
            count = float(np.prod([self.graph.shape(node.inputs[0] or "")[a] for a in node.attrs["axes"]]))
            return reach.between(np.minimum(reach.low * count, reach.low), np.maximum(reach.high * count, reach.high))
        kept = node.family in STRUCTURAL or "pool" in op or op in ("reducemean", "mean", "reducemax", "amax")
        if node.family in ("pad", "spatial") and (kept or op.startswith(("upsample", "resize", "pad"))):
            # Zeros may join an average, or the border; a maximum leaves them out.
            smooth = "max" in op and "pool" in op
            return reach if smooth else reach.with_zero()
        return reach if kept else reach.untold(op)

    def of_units(self, k: int, place: int, group: int, absent: float) -> tuple[FloatArray, FloatArray]:
        """Return the ends of what a stored input holds for each unit; ``absent`` where it is computed or not there."""
        size = int(self.stored.layout.sizes[group])
        name = self.graph.nodes[k].inputs[place] if place < len(self.graph.nodes[k].inputs) else None
        use = None if name is None else self.stored.use(k, place)
        if use is None:
            known = self.graph.known.get(name or "")
            values = np.full(1, absent) if known is None else np.asarray(known.value, dtype=np.float64).ravel()
            return np.full(size, values.min(initial=inf)), np.full(size, values.max(initial=-inf))
        array = self.stored.array(use)
        for along in self.stored.along(k, place):
            if along.group == group:
                return along.ends(array)
        return np.full(size, float(array.min())), np.full(size, float(array.max()))
