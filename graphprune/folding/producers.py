"""The stored weights that make a group's units, as rows with their bias, and what happens to the units afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..families.pattern import parse, spread
from ..graph import Graph, Node
from ..groups import Group, Groups
from ..layout import Layout
from ..scores import FloatArray
from ..sites.producers import own_axes
from ..sites.site import OUTPUT, Factor, factors_of, from_inputs, letter_size
from .operands import Operands, is_floating
from .operators import number
from .slices import Slices, places, slices_of


@dataclass(frozen=True)
class Producer:
    """A contraction that makes a group's units: ``node`` in the graph, by ``parameter``.

    ``after`` is the last node that does so: the contraction itself, or an addition of a stored vector that follows.
    ``biases`` are the stored operands that are added, with their factors; ``factor`` multiplies the sum itself.
    """

    group: str
    node: int
    after: int
    parameter: str
    slices: Slices
    biases: tuple[tuple[str, float], ...]
    factor: float = 1.0

    def read(self, graph: Graph) -> FloatArray:
        """Return a row for every unit, shape (units, inputs + 1), float64: the flattened weights, the bias at the end.

        ``rows @ [window, 1]`` are the units' values at that window of the input, before any activation.
        """
        weights = self.factor * self.slices.read(graph.parameter(self.parameter))[0]
        bias, operands = np.zeros(len(weights)), Operands(graph)
        for name, factor in self.biases:
            value = operands.constant(name)
            assert value is not None
            vector = value.astype(np.float64).ravel()
            bias += factor * (vector[self.slices.positions[:, 0]] if vector.size > 1 else vector)
        return np.concatenate([weights, bias[:, None]], axis=1)


@dataclass(frozen=True)
class Producers:
    """All contractions that make a group's units; none, and the reason, where they are not all of a plain kind.

    ``between`` are the graph's nodes that units pass through afterwards, in order: activations, pooling, additions.
    """

    group: str
    parts: tuple[Producer, ...]
    between: tuple[int, ...]
    reason: str = ""


def producers_of(graph: Graph, groups: Groups) -> dict[str, Producers]:
    """Return, for every group, the stored rows that make its units, or why they cannot be had.

    A batch normalisation behind a producer belongs to ``between``: fold it first (``batch_norm_folded``).
    """
    reader = _Reader(graph, groups)
    found: dict[str, list[Producer]] = {g.id: [] for g in groups.groups}
    reasons: dict[str, str] = {}
    for k, node in enumerate(graph.nodes):
        for axis in own_axes(graph, node, reader.data):
            for factor in reader.factors(node, node.outputs[0], axis):
                part = reader.producer(groups[factor.group], k, axis)
                if isinstance(part, str):
                    reasons.setdefault(factor.group, f"{node.op} {node.name}: {part}")
                else:
                    found[factor.group].append(part)
    for name, parts in found.items():
        if not parts:
            reasons.setdefault(name, "no contraction makes its units")
    return {
        n: Producers(n, () if n in reasons else tuple(parts), reader.between(n, parts), reasons.get(n, ""))
        for n, parts in found.items()
    }


class _Reader:
    """What finding the producers of a graph's groups needs; nothing in it changes."""

    def __init__(self, graph: Graph, groups: Groups) -> None:
        self.graph, self.groups = graph, groups
        self.layout: Layout = groups.layout
        self.operands = Operands(graph)
        self.data = from_inputs(graph)
        self.ordinal = {g.id: k for k, g in enumerate(groups.groups)}

    def factors(self, node: Node, name: str, axis: int) -> Sequence[Factor]:
        dims = self.layout.facts.tensor(name)
        assert dims is not None
        size = letter_size(node, OUTPUT, axis, len(dims)) if node.family == "contraction" else None
        return factors_of(self.groups, dims[axis], size)

    def producer(self, group: Group, k: int, axis: int) -> Producer | str:
        """Return the rows of a contraction whose output has the units on an axis, or why there are none."""
        node = self.graph.nodes[k]
        if node.family != "contraction":
            return "its units are looked up, not summed"
        stored = [place for place, n in enumerate(node.inputs[:2]) if n is not None and n not in self.data]
        if len(stored) != 1:
            return "its units are made of data alone"
        name = node.inputs[stored[0]]
        parameter = self.operands.parameter_behind(name or "")
        if parameter is None or not is_floating(self.graph.tensors[parameter].dtype):
            return "its weights are computed, or stored as integers"
        slices = self._slices(group, k, axis, stored[0], parameter)
        if isinstance(slices, str):
            return slices
        after, biases = self._biases(k, axis)
        if isinstance(biases, str):
            return biases
        return Producer(group.id, k, after, parameter, slices, biases, number(self.graph, k, "alpha", 1.0))

    def _slices(self, group: Group, k: int, axis: int, place: int, parameter: str) -> Slices | str:
        node = self.graph.nodes[k]
        inputs, results = parse(node.attrs["pattern"])
        out, shape = self.graph.shape(node.outputs[0]), self.graph.shape(node.inputs[place] or "")
        token = spread(results[0], len(out))[axis]
        on = (token,) if isinstance(token, str) else token
        tokens = spread(inputs[place], len(shape))
        have = {letter for t in tokens for letter in ((t,) if isinstance(t, str) else t)}
        if not have.issuperset(on):
            return "it passes on a part of what its units are"
        factors = self.factors(node, node.outputs[0], axis)
        positions = places(factors, group.id, group.size, out[axis])
        if isinstance(positions, str):
            return positions
        if positions.shape[1] != 1:
            return f"a unit has {positions.shape[1]} rows"
        (use,) = (u for u in self.operands.uses(parameter) if (u.node, u.position) == (k, place))
        return slices_of(use, shape, tokens, node.attrs.get("sizes", {}), on, frozenset(), positions)

    def _biases(self, k: int, axis: int) -> tuple[int, tuple[tuple[str, float], ...] | str]:
        """Return the stored vectors that are added to a contraction's output, with their signs; the last node too."""
        node, found = self.graph.nodes[k], []
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = node.inputs[2]
            if self.operands.constant(bias) is None or not _is_vector(self.graph.shape(bias)):
                return k, "its bias is no stored vector"
            found.append((bias, number(self.graph, k, "beta", 1.0)))
        last = k
        while (step := self._added(last, axis)) is not None:
            last, name, sign = step
            found.append((name, sign))
        return last, tuple(found)

    def _added(self, k: int, axis: int) -> tuple[int, str, float] | None:
        """Return the node that adds a stored vector to a node's output alone, with the vector and its sign."""
        name = self.graph.nodes[k].outputs[0]
        readers = self.operands.readers.get(name, [])
        if len(readers) != 1 or readers[0][0] < 0:
            return None
        at, place = readers[0]
        node = self.graph.nodes[at]
        op = node.op.lower().split(".")[0].rstrip("_")
        if op not in ("add", "sub") or len(node.inputs) != 2 or (op == "sub" and place == 1):
            return None
        other = node.inputs[1 - place]
        if other is None or self.operands.constant(other) is None:
            return None
        if not self._fits(other, name, node.outputs[0], axis):
            return None
        factor = number(self.graph, at, "alpha", 1.0)
        if place == 1 and factor != 1:
            return None
        return at, other, factor if op == "add" else -factor

    def _fits(self, vector: str, data: str, out: str, axis: int) -> bool:
        """Tell whether a stored tensor has one number for each position of an axis, or one for all."""
        shape, size = self.graph.shape(vector), self.graph.shape(data)
        behind = len(size) - axis
        wanted = [n for j, n in enumerate(reversed(shape), start=1) if j != behind]
        return self.graph.shape(out) == size and all(n == 1 for n in wanted)

    def between(self, group: str, parts: Sequence[Producer]) -> tuple[int, ...]:
        """Return the nodes that get a group's units and pass them on."""
        biases = {k for p in parts for k in range(p.node + 1, p.after + 1)} & {p.after for p in parts}
        return tuple(
            k
            for k, node in enumerate(self.graph.nodes)
            if k not in biases
            and any(n in self.data and self._carries(n, group) for n in node.inputs if n)
            and any(self._carries(n, group) for n in node.outputs)
        )

    def _carries(self, name: str, group: str) -> bool:
        dims = self.layout.facts.tensor(name) or ()
        ordinal = self.ordinal[group]
        return any(self.layout.has_units(d) and bool((self.layout.carried(d).group == ordinal).any()) for d in dims)


def _is_vector(shape: Sequence[int]) -> bool:
    return sum(n > 1 for n in shape) <= 1
