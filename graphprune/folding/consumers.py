"""The stored weights that sum over a group's units, as arrays, and the way back: what coresets and repair work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..families.pattern import letters, parse, spread
from ..graph import Array, Graph
from ..groups import Group, Groups
from ..scores import FloatArray
from ..sites import sites_of
from ..sites.site import Site
from .operands import Operand, Operands, Use, is_floating, other_operands
from .operators import number
from .slices import Slices, places, slices_of
from .values import with_values


@dataclass(frozen=True)
class Consumer:
    """A stored weight that multiplies a group's units where they are summed over.

    ``nodes`` are the graph nodes that do so: one, or all that share the weight alike.
    """

    group: str
    nodes: tuple[int, ...]
    parameter: str
    slices: Slices

    def read(self, graph: Graph) -> FloatArray:
        """Return the weights, shape (outputs, units, columns), float64.

        Columns are the places of a unit along the axis that is summed over (the positions of a flattened map), each
        with the kernel's: output o is the sum over units and columns of weight times value.
        """
        return self.slices.read(graph.parameter(self.parameter))


@dataclass(frozen=True)
class Consumers:
    """All weights that sum over a group's units; none, and the reason, where some of them are no stored weights."""

    group: str
    parts: tuple[Consumer, ...]
    reason: str = ""


def consumers_of(graph: Graph, groups: Groups) -> dict[str, Consumers]:
    """Return, for every group, the stored weights that sum over its units, or why they cannot be had.

    A group that nothing sums over has no parts and no reason.
    """
    operands = Operands(graph)
    found: dict[str, list[Consumer]] = {g.id: [] for g in groups.groups}
    reasons: dict[str, str] = {}
    for site in sites_of(graph, groups, "consumers"):
        for name in dict.fromkeys(f.group for f in site.factors):
            part = _consumer(graph, operands, groups[name], site)
            if isinstance(part, str):
                node = graph.nodes[site.node]
                reasons.setdefault(name, f"{node.op} {node.name}: {part}")
            else:
                found[name].append(part)
    for name, parts in found.items():
        merged = _merged(graph, operands, parts)
        if isinstance(merged, str):
            reasons.setdefault(name, merged)
        else:
            found[name] = merged
    return {n: Consumers(n, () if n in reasons else tuple(parts), reasons.get(n, "")) for n, parts in found.items()}


def with_consumers(graph: Graph, changes: Iterable[tuple[Consumer, FloatArray]]) -> Graph:
    """Return the graph of a copy of the model with other consumer weights, each of shape (outputs, units, columns).

    Several may lie in the same tensor. Raises UsageError where an array does not fit, and what ``with_values`` raises.
    """
    values: dict[str, Array] = {}
    for consumer, weights in changes:
        before = values.get(consumer.parameter, graph.parameter(consumer.parameter))
        wanted = consumer.slices.read(before).shape
        if np.shape(weights) != wanted:
            words = f"an array of shape {np.shape(weights)} does not fit, the weights are {wanted}"
            raise UsageError("value-shape", words, where=consumer.parameter)
        values[consumer.parameter] = consumer.slices.write(before, weights)
    return with_values(graph, values)


def _consumer(graph: Graph, operands: Operands, group: Group, site: Site) -> Consumer | str:
    """Return what multiplies a group's units at a site, or why it is no stored weight."""
    if graph.nodes[site.node].family != "contraction":
        return "it sums over its units inside"
    if number(graph, site.node, "alpha", 1.0) != 1:
        return "it multiplies its sum by a number of its own"
    reason = "what multiplies its units is no stored weight"
    for operand in other_operands(graph, site):
        name = graph.nodes[site.node].inputs[operand.position]
        parameter = operands.parameter_behind(name or "")
        if parameter is None:
            continue
        if not is_floating(graph.tensors[parameter].dtype):
            reason = "its weights are stored as integers"
            continue
        (use,) = (u for u in operands.uses(parameter) if (u.node, u.position) == (site.node, operand.position))
        found = _slices(graph, group, site, operand, use)
        if not isinstance(found, str):
            return Consumer(group.id, (site.node,), parameter, found)
        reason = found
    return reason


def _slices(graph: Graph, group: Group, site: Site, operand: Operand, use: Use) -> Slices | str:
    node = graph.nodes[site.node]
    inputs, results = parse(node.attrs["pattern"])
    shape = graph.shape(node.inputs[operand.position] or "")
    tokens = spread(inputs[operand.position], len(shape))
    positions = places(site.factors, group.id, group.size, operand.inner)
    if isinstance(positions, str):
        return positions
    token = tokens[operand.axis]
    data = spread(inputs[site.position], len(graph.shape(site.tensor)))[site.axis]
    letter = data if isinstance(data, str) else data[-1]
    assert letter == token or letter in token
    sizes: Mapping[str, int] = node.attrs.get("sizes", {})
    made = letters(spread(results[0], len(graph.shape(node.outputs[0]))))
    return slices_of(use, shape, tokens, sizes, [letter], made, positions)


def _merged(graph: Graph, operands: Operands, parts: list[Consumer]) -> list[Consumer] | str:
    """Make one of the consumers that share a weight alike; say why where a weight is shared otherwise."""
    result: list[Consumer] = []
    for parameter in dict.fromkeys(p.parameter for p in parts):
        mine = [p for p in parts if p.parameter == parameter]
        uses = operands.uses(parameter)
        if len(uses) > 1 and _overlap(graph, uses):
            same = all(_alike(mine[0].slices, p.slices) for p in mine[1:])
            if not same or len(mine) != len(uses):
                return f"{parameter} is shared with something else"
            mine = [Consumer(mine[0].group, tuple(k for p in mine for k in p.nodes), parameter, mine[0].slices)]
        result += mine
    return result


def _overlap(graph: Graph, uses: Iterable[Use]) -> bool:
    """Tell whether two uses of a stored tensor read the same element."""
    count = np.zeros(graph.tensors[next(iter(uses)).parameter].size, np.int64)
    for use in uses:
        count[slice(None) if use.index is None else use.index.ravel()] += 1
    return bool((count > 1).any())


def _alike(a: Slices, b: Slices) -> bool:
    same_index = a.index is b.index or (
        a.index is not None and b.index is not None and np.array_equal(a.index, b.index)
    )
    rest = (a.shape, a.split, a.order, a.counts) == (b.shape, b.split, b.order, b.counts)
    return same_index and rest and np.array_equal(a.positions, b.positions)
