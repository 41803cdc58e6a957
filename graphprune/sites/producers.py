"""Producers of units: the nodes whose outputs have them on an axis of their own, and what they are linear in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..branches import users_of
from ..families.pattern import letters, parse, spread
from ..graph import Graph, Node
from ..groups import Groups
from ..layout import Layout
from .site import OUTPUT, Site, factors_of, from_inputs, last_letter, letter_size

ADDITIVE = frozenset({"add", "sub"})
LINEAR = frozenset({"mul", "div"})


def producers(graph: Graph, groups: Groups) -> Iterator[Site]:
    """Yield the outputs that carry units along a letter of their own, after the affine tail that follows each."""
    tails = _Tails(graph, groups)
    for k, node in enumerate(graph.nodes):
        for axis in own_axes(graph, node, tails.data):
            dims = tails.layout.facts.tensor(node.outputs[0])
            assert dims is not None
            size = letter_size(node, OUTPUT, axis, len(dims)) if node.family == "contraction" else None
            factors = factors_of(groups, dims[axis], size)
            if factors:
                parameters = tails.stored(n for n in node.inputs if n and n not in tails.data)
                yield tails.after(Site(k, OUTPUT, node.outputs[0], axis, factors, parameters=parameters))


def own_axes(graph: Graph, node: Node, data: frozenset[str]) -> list[int]:
    """Return the axes of a node's output whose letter no operand that is data has."""
    if not node.outputs or node.outputs[0] not in data:
        return []
    if node.family == "lookup" and node.inputs[0] not in data:
        looked_up = len(graph.shape(node.inputs[1] or ""))
        at = node.attrs["axis"]
        return [k for k in range(len(graph.shape(node.outputs[0]))) if not at <= k < at + looked_up]
    if node.family != "contraction":
        return []
    operands, results = parse(node.attrs["pattern"])
    taken: set[str] = set()
    for name, operand in zip(node.inputs, operands, strict=False):
        if name in data:
            taken |= letters(tuple(spread(operand, len(graph.shape(name or "")))))
    tokens = spread(results[0], len(graph.shape(node.outputs[0])))
    return [k for k, token in enumerate(tokens) if last_letter(token) not in taken and last_letter(token) != "1"]


@dataclass(frozen=True)
class _Step:
    """An affine node that follows: its position among the nodes, and what the result is linear in from there on."""

    node: int
    parameters: tuple[str, ...]


class _Tails:
    """Follows what stored scales and offsets make of an output, as long as nobody else looks at it in between."""

    def __init__(self, graph: Graph, groups: Groups) -> None:
        self.graph, self.layout = graph, groups.layout
        assert isinstance(self.layout, Layout)
        self.data = from_inputs(graph)
        self.users: Mapping[str, list[int]] = users_of(graph)
        self.maker = {n: k for k, node in enumerate(graph.nodes) for n in node.outputs}

    def after(self, site: Site) -> Site:
        """Move a site behind the affine nodes that follow it."""
        step = self._next(site)
        while step is not None:
            name = self.graph.nodes[step.node].outputs[0]
            site = Site(step.node, OUTPUT, name, site.axis, site.factors, parameters=step.parameters)
            step = self._next(site)
        return site

    def stored(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the parameters that some tensors are made of, themselves included."""
        found: dict[str, None] = {}
        queue = list(names)
        while queue:
            name = queue.pop(0)
            if self.graph.tensors[name].kind == "parameter":
                found[name] = None
            elif name in self.maker:
                queue += [n for n in self.graph.nodes[self.maker[name]].inputs if n]
        return tuple(found)

    def _next(self, site: Site) -> _Step | None:
        users = self.users.get(site.tensor, [])
        if len(users) != 1 or site.tensor in self.graph.outputs:
            return None
        node = self.graph.nodes[users[0]]
        if self.graph.tensors[node.outputs[0]].shape != self.graph.tensors[site.tensor].shape:
            return None
        others = [n for n in node.inputs if n and n != site.tensor]
        if not others or any(n in self.data for n in others) or node.inputs.count(site.tensor) > 1:
            return None
        op = node.op.lower().split(".")[0].rstrip("_")
        if node.family == "norm" and not any(s.node == users[0] for s in self.layout.facts.statistics):
            return _Step(users[0], self.stored(others[:2]))
        if node.family == "elementwise" and op in LINEAR and (op == "mul" or node.inputs[0] == site.tensor):
            return _Step(users[0], site.parameters)
        if node.family == "elementwise" and op in ADDITIVE:
            return _Step(users[0], (*site.parameters, *self.stored(others)))
        return None
