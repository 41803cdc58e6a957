"""Branches that may go: what happens to the graph when a group loses all its units.

Tensors with an emptied axis are dead. A contraction that sums over nothing gives its bias, a constant; it may take part
in broadcasting until an elementwise operator meets a full tensor (the residual add). A concatenation simply loses the
empty input. Whatever else an emptied tensor or a constant runs into makes the group keep at least one unit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .graph import Graph, Node
from .layout import Layout

IsEmpty = Callable[[str], bool]


@dataclass(frozen=True)
class Vanishing:
    """What an emptied branch means: nodes that die, sums that become constants, tensors that then only broadcast."""

    dead: tuple[int, ...]
    constants: tuple[int, ...]
    shrunken: frozenset[str]


def follow(
    graph: Graph,
    candidates: Iterable[int],
    is_empty: IsEmpty,
    users: Mapping[str, list[int]],
    already: Iterable[str] = (),
) -> Vanishing | None:
    """Follow emptied tensors through the nodes that touch them; None where the graph does not allow it.

    ``already`` names tensors that only broadcast because of other branches.
    """
    dead, constants = [], []
    shrunken = set(already)
    for k in candidates:
        node = graph.nodes[k]
        if all(is_empty(o) for o in node.outputs):
            dead.append(k)
        elif not any(n and is_empty(n) for n in node.inputs) or node.family in ("concat", "split"):
            continue
        elif node.family == "contraction" and _bias_is_stored(graph, node) and not is_empty(node.outputs[0]):
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
    shrunken: frozenset[str] = frozenset()
    none: frozenset[int] = frozenset()
    for g, nodes in touching.items():
        together = accepted | {g}
        if any(all(together & m for m in monomials) for monomials in feeding.get(g, ())):
            continue

        def alone(name: str, g: int = g) -> bool:
            return g in emptied.get(name, none)

        def with_others(name: str, gone: set[int] = together) -> bool:
            return not gone.isdisjoint(emptied.get(name, none))

        if follow(graph, nodes, alone, users) is not None:
            found = follow(graph, nodes, with_others, users, shrunken)
            if found is not None:
                accepted, shrunken = together, found.shrunken
    return accepted


def _emptied_by(graph: Graph, layout: Layout) -> tuple[dict[str, frozenset[int]], set[frozenset[frozenset[int]]]]:
    """Return the groups without which an axis of each tensor is empty, and the axes that several groups feed."""
    memo: dict[int, frozenset[int]] = {}
    joint: set[frozenset[frozenset[int]]] = set()
    none: frozenset[int] = frozenset()

    def of(root: int) -> frozenset[int]:
        monomials = frozenset(map(frozenset, layout.terms(root))) if layout.has_units(root) else frozenset()
        needed = frozenset.intersection(*monomials) if monomials else none
        if monomials and not needed and none not in monomials:
            joint.add(monomials)
        return needed

    result = {}
    for name, dims in layout.facts.of_tensor.items():
        groups = none
        for dim in dims or ():
            root = layout.facts.find(dim)
            if root not in memo:
                memo[root] = of(root)
            groups = groups | memo[root] if memo[root] else groups
        if groups:
            result[name] = groups
    return result, joint
