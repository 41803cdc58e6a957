"""Branches that may go: what happens to the graph when a group loses all its units.

Tensors with an emptied axis are dead. A contraction that sums over nothing gives its bias, a constant; it may take part
in broadcasting until an elementwise operator meets a full tensor (the residual add). A concatenation simply loses the
empty input. Whatever else an emptied tensor or a constant runs into makes the group keep at least one unit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .graph import Graph, Node
from .layout import Layout


@dataclass(frozen=True)
class Vanishing:
    """What an emptied branch means: nodes that die, sums that become constants, tensors that then only broadcast."""

    dead: tuple[int, ...]
    constants: tuple[int, ...]
    shrunken: frozenset[str]


def follow(
    graph: Graph,
    candidates: Iterable[int],
    empty: set[str],
    users: Mapping[str, list[int]],
    already: Iterable[str] = (),
) -> Vanishing | None:
    """Follow the emptied tensors through the nodes that touch them; None where the graph does not allow it.

    ``already`` names tensors that only broadcast because of other branches.
    """
    dead, constants = [], []
    shrunken = set(already)
    for k in candidates:
        node = graph.nodes[k]
        if k in graph.bodies.enclosed:  # what a body or a function gives back must be made
            return None
        if empty.issuperset(node.outputs):
            dead.append(k)
        elif empty.isdisjoint(node.inputs) or node.family in ("concat", "split"):
            continue
        elif node.family == "contraction" and _bias_is_stored(graph, node) and node.outputs[0] not in empty:
            constants.append(k)
        else:
            return None
    if not _broadcast(graph, constants, shrunken, users):
        return None
    return Vanishing(tuple(dead), tuple(constants), frozenset(shrunken))


def _bias_is_stored(graph: Graph, node: Node) -> bool:
    """Tell whether what is left of a contraction over nothing is known: a stored bias vector, or zero."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return len(node.inputs) <= 3 and len(node.outputs) == 1
    bias = graph.tensors[node.inputs[2]]
    return bias.kind == "parameter" and bias.shape is not None and sum(n > 1 for n in bias.shape) <= 1


def _broadcast(graph: Graph, constants: list[int], shrunken: set[str], users: Mapping[str, list[int]]) -> bool:
    """Follow constants to the elementwise operators that absorb them; False if they run into anything else."""
    queue: list[int] = []
    outputs = set(graph.outputs)

    def reach(name: str) -> bool:
        if name in outputs:
            return False
        shrunken.add(name)
        for user in users.get(name, ()):
            heapq.heappush(queue, user)
        return True

    if not all(reach(graph.nodes[k].outputs[0]) for k in constants):
        return False
    seen: set[int] = set()
    while queue:
        k = heapq.heappop(queue)
        if k in seen:
            continue
        seen.add(k)
        node = graph.nodes[k]
        out = node.outputs[0]
        if node.family == "elementwise":
            full = any(n and n not in shrunken and graph.shape(n) == graph.shape(out) for n in node.inputs)
        elif node.op == "BatchNormalization" and node.inputs[0] in shrunken:
            full = False
        else:
            return False
        if not full and not reach(out):
            return False
    return True


def users_of(graph: Graph) -> dict[str, list[int]]:
    """Return the nodes that use each tensor, in order."""
    users: dict[str, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        for name in filter(None, node.inputs):
            users.setdefault(name, []).append(k)
    return users


def vanishing_groups(graph: Graph, layout: Layout) -> set[int]:
    """Return groups that may lose all their units, any of them together.

    Each is tried by itself, then in view of those accepted before it; an axis fed by several groups (a concatenation)
    always keeps one of them.
    """
    emptied, joint = _emptied_by(graph, layout)
    by_group: dict[int, set[str]] = {}
    for name, groups in emptied.items():
        for g in groups:
            by_group.setdefault(g, set()).add(name)
    touching: dict[int, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        for g in {g for n in (*node.inputs, *node.outputs) if n for g in emptied.get(n, ())}:
            touching.setdefault(g, []).append(k)
    users = users_of(graph)
    feeding: dict[int, list[frozenset[frozenset[int]]]] = {}
    for monomials in joint:
        for g in frozenset().union(*monomials):
            feeding.setdefault(g, []).append(monomials)
    accepted: set[int] = set()
    empty: set[str] = set()
    shrunken: frozenset[str] = frozenset()
    for g, nodes in touching.items():
        if any(all(g in m or accepted & m for m in monomials) for monomials in feeding.get(g, ())):
            continue
        if follow(graph, nodes, by_group[g], users) is not None:
            more = by_group[g] - empty
            empty |= more
            found = follow(graph, nodes, empty, users, shrunken)
            if found is None:
                empty -= more
            else:
                accepted.add(g)
                shrunken = found.shrunken
    return accepted


def _emptied_by(graph: Graph, layout: Layout) -> tuple[dict[str, frozenset[int]], set[frozenset[frozenset[int]]]]:
    """Return the groups without which an axis of each tensor is empty, and the axes that several groups feed."""
    needed: dict[int, frozenset[int]] = {}
    joint: set[frozenset[frozenset[int]]] = set()
    none: frozenset[int] = frozenset()
    roots = {name: layout.facts.roots(dims) for name, dims in layout.facts.of_tensor.items() if dims}
    for root in set().union(*roots.values()):
        if layout.has_units(root):
            monomials = frozenset(map(frozenset, layout.terms(root)))
            needed[root] = frozenset.intersection(*monomials)
            if not needed[root] and none not in monomials:
                joint.add(monomials)
    found = ((name, [needed[r] for r in axes if r in needed]) for name, axes in roots.items())
    return {name: none.union(*groups) for name, groups in found if any(groups)}, joint
