"""Groups as people and passes see them: members with roles, names, kinds; and the axes that stay, with reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .branches import vanishing_groups
from .families.facts import Dims, Facts
from .graph import Graph
from .groups import ARGUMENT, FOLDABLE, Frozen, Group, IntArray, Member, Role
from .kinds import Kinds
from .layout import Layout
from .units import NO_REASON

COMPUTING = ("norm", "reduce")
"""Families by which a model may standardise its weights as it runs (Brock et al. 2021, arXiv 2101.08692)."""


def parameter_dims(graph: Graph, facts: Facts) -> Iterator[tuple[str, Dims, tuple[int, int] | None]]:
    """Yield (name, dimensions, use) of every parameter; an untied one comes once for each (node, input) using it."""
    untied = set()
    for (node, place), dims in facts.of_use.items():
        name = graph.nodes[node].inputs[place]
        if name is not None and dims is not None and graph.tensors[name].kind == "parameter":
            untied.add(name)
            yield name, dims, (node, place)
    for tensor in graph.parameters:
        dims = facts.tensor(tensor.name)
        if tensor.name not in untied and dims is not None:
            yield tensor.name, dims, None


def groups_of(graph: Graph, layout: Layout) -> tuple[Group, ...]:
    """Return the groups of a layout, with their members, in graph order."""
    members = _members(graph, layout)
    inexact = np.full(len(layout.sizes), NO_REASON)
    is_unit = layout.group >= 0
    np.minimum.at(inexact, layout.group[is_unit], layout.units.inexact[is_unit])
    taken: Counter[str] = Counter()
    vanishing = vanishing_groups(graph, layout)
    kinds = Kinds(graph, layout)
    result = []
    for g, size in enumerate(layout.sizes.tolist()):
        name = _name(graph, members[g]) if members[g] else _name_of_filled(graph, layout, g)
        taken[name] += 1
        label = name if taken[name] == 1 else f"{name}#{taken[name]}"
        exact = inexact[g] == NO_REASON
        reason = "" if exact else layout.facts.inexact[int(inexact[g])].reason
        kind = kinds.of(g, [(k, place, m.axis) for m, (k, place) in members[g] if k >= 0], exact=exact)
        result.append(Group(label, kind, size, tuple(m for m, _ in members[g]), exact, reason, g in vanishing))
    return tuple(result)


Placed = tuple[Member, tuple[int, int]]


def _members(graph: Graph, layout: Layout) -> list[list[Placed]]:
    """Return each group's members with the (node, input) that gives them their role."""
    facts = layout.facts
    users: dict[str | None, list[tuple[int, int]]] = {t.name: [] for t in graph.parameters}
    users |= {name: [] for node in graph.nodes if node.family == "quantize" for name in node.outputs}
    for k, node in enumerate(graph.nodes):
        for place, name in enumerate(node.inputs):
            if name in users:
                users[name].append((k, place))
    result: list[list[Placed]] = [[] for _ in layout.sizes]
    said: list[set[tuple[object, ...]]] = [set() for _ in layout.sizes]
    for name, dims, use in parameter_dims(graph, facts):
        uses = list(_beyond(graph, users, [use] if use is not None else users[name]))
        for axis, dim in enumerate(dims):
            if not layout.has_units(dim):
                continue
            where, role = _role(facts, uses, axis)
            for group, index, unit in layout.carried(dim).parts:
                if use is not None and _repeated(said[group], name, axis, index, unit):
                    continue
                result[group].append((Member(name, axis, index, unit, role), where))
    return result


def _repeated(said: set[tuple[object, ...]], name: str, axis: int, index: IntArray, unit: IntArray) -> bool:
    """Tell whether a group has this member already (one vector used alike by several nodes), and note it."""
    key = (name, axis, index.tobytes(), unit.tobytes())
    before = len(said)
    said.add(key)
    return len(said) == before


def _beyond(
    graph: Graph, users: Mapping[str | None, list[tuple[int, int]]], uses: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield uses, those of what a quantised parameter stands for in place of the use of its codes."""
    for k, place in uses:
        further = users[graph.nodes[k].outputs[0]] if graph.nodes[k].family == "quantize" and place == 0 else []
        if further:
            yield from _beyond(graph, users, further)
        else:
            yield k, place


def _role(facts: Facts, uses: Sequence[tuple[int, int]], axis: int) -> tuple[tuple[int, int], Role]:
    for node, place in uses:
        role = facts.roles.get((node, place, axis))
        if role is not None:
            return (node, place), role
    return (uses[0] if uses else (-1, -1)), "other"


def _name(graph: Graph, members: Sequence[Placed]) -> str:
    """Name a group after the first node that produces its units, or else the first that has it in a parameter."""
    producers = [where for member, where in members if member.role == "producer"] or [where for _, where in members]
    node = min((k for k, _ in producers if k >= 0), default=-1)
    return graph.nodes[node].name if node >= 0 else members[0][0].tensor


def _name_of_filled(graph: Graph, layout: Layout, group: int) -> str:
    """Name a group whose weights are all filled in at run time (ConstantOfShape) after the first of them."""
    for node in graph.nodes:
        if node.family == "fill":
            dims = layout.facts.tensor(node.outputs[0]) or ()
            if any(layout.has_units(d) and group in layout.carried(d).group for d in dims):
                return node.outputs[0]
    return f"group {group}"


def frozen_axes(graph: Graph, layout: Layout) -> Iterator[Frozen]:
    """Yield for every parameter axis the indices that stay, with the commonest reason."""
    facts = layout.facts
    seen: set[tuple[str, int]] = set()
    fed: set[str] | None = None
    for name, dims, _ in parameter_dims(graph, facts):
        for axis, dim in enumerate(dims):
            if facts.size[facts.find(dim)] <= 1 or (name, axis) in seen:
                continue
            seen.add((name, axis))
            count, commonest = layout.frozen(dim)
            if not count:
                continue
            remark = layout.units.remarks[commonest]
            node = graph.nodes[remark.node] if remark.node >= 0 else None
            # Arguments, and the axes of a kernel itself, are nothing anyone would remove.
            kernel = remark.reason.startswith("spatial axis") and node is not None and name in node.inputs
            if remark.reason == ARGUMENT or kernel:
                continue
            reason = remark.reason
            if node is not None and node.family in COMPUTING:
                fed = _fed(graph) if fed is None else fed
                reason += "" if fed.intersection(node.outputs) else FOLDABLE
            yield Frozen(name, axis, reason, count, node.name if node is not None else "")


def _fed(graph: Graph) -> set[str]:
    """Return the tensors that depend on the model's inputs."""
    found = set(graph.inputs)
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found
