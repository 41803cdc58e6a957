"""Consumers of units: the operands of contractions that are summed over them."""

from __future__ import annotations

from collections.abc import Iterator

from ..families.pattern import parse, spread
from ..graph import Graph, Node
from ..groups import Groups
from ..layout import Layout
from .site import Site, factors_of, from_inputs, last_letter, letter_size


def consumers(graph: Graph, groups: Groups) -> Iterator[Site]:
    """Yield the operands of contractions that carry units along the letter that is summed over."""
    layout: Layout = groups.layout
    data = from_inputs(graph)
    for c in layout.facts.contractions:
        node = graph.nodes[c.node]
        position, axis = c.position, c.axis
        if node.family == "contraction":
            position, axis = _at_data(graph, node, position, axis, data)
        name = node.inputs[position]
        assert name is not None
        dims = layout.facts.of_use.get((c.node, position)) or layout.facts.tensor(name)
        assert dims is not None
        factors = factors_of(groups, dims[axis], letter_size(node, position, axis, len(dims)))
        if factors:
            yield Site(c.node, position, name, axis, factors, name in data)


def _at_data(graph: Graph, node: Node, position: int, axis: int, data: frozenset[str]) -> tuple[int, int]:
    """Return where the letter that is summed over at (input, axis) stands in an operand that is data, if it does."""
    operands, _ = parse(node.attrs["pattern"])
    letter = last_letter(spread(operands[position], _rank(graph, node, position))[axis])
    for place, operand in enumerate(operands[: len(node.inputs)]):
        if node.inputs[place] in data:
            for k, token in enumerate(spread(operand, _rank(graph, node, place))):
                if last_letter(token) == letter:
                    return place, k
    return position, axis


def _rank(graph: Graph, node: Node, position: int) -> int:
    return len(graph.shape(node.inputs[position] or ""))
