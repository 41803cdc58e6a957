"""The networkx view has the nodes, the tensors between them, and the groups."""

from __future__ import annotations

import networkx
from models import residual_cnn

import graphprune as gp
from graphprune.views import to_networkx


def test_paths_and_groups_of_a_residual_net() -> None:
    graph = gp.trace(residual_cnn())
    view = to_networkx(graph, gp.couple(graph))
    assert networkx.is_directed_acyclic_graph(view)
    assert set(view) == {n.name for n in graph.nodes}
    assert view.edges["stem", "stem.norm"]["tensor"] == "stem.out"
    # The residual add is reached around the block and through it.
    assert len(list(networkx.all_simple_paths(view, "stem", "add"))) == 2
    assert view.nodes["block.second"]["groups"].split() == ["stem", "block.first"]
    assert view.nodes["block.first"]["groups"].split() == ["stem", "block.first"]


def test_without_groups_it_is_the_plain_graph() -> None:
    view = to_networkx(gp.trace(residual_cnn()))
    assert view.nodes["fc"] == {"op": "Gemm", "family": "contraction", "groups": ""}
