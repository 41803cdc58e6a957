"""The dependency graph for people: nodes, tensors between them and the groups they belong to, as a networkx graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import Graph
from .groups import Groups

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph, groups: Groups | None = None) -> networkx.DiGraph:
    """Return the nodes of a graph, an edge for every tensor between two of them, and the groups that run through them.

    A node has ``op`` and ``family``, an edge ``tensor`` and ``shape``. With ``groups``, a node also has the ids of the
    ``groups`` that its parameters carry; ``networkx.write_graphml`` and its like take it as it is.
    """
    import networkx

    result = networkx.DiGraph()
    producer = {name: node.name for node in graph.nodes for name in node.outputs}
    carried: dict[str, list[str]] = {}
    for group in groups.values() if groups is not None else ():
        for member in group.members:
            ids = carried.setdefault(member.tensor, [])
            if group.id not in ids:
                ids.append(group.id)
    for node in graph.nodes:
        through = dict.fromkeys(i for name in node.inputs if name for i in carried.get(name, ()))
        result.add_node(node.name, op=node.op, family=node.family, groups=" ".join(through))
        for name in node.inputs:
            if name in producer:
                shape = graph.tensors[name].shape
                result.add_edge(producer[name], node.name, tensor=name, shape=str(shape))
    return result
