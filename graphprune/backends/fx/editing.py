"""A copy of a captured graph to be mended: what was changed in it, and how arguments are read and set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from ...frontends.fx.context import parameters_of
from ...frontends.fx.nodes import new_call
from ...frontends.fx.trace import TorchSource
from ...graph import Graph
from ...groups import Groups, IntArray
from ...layout import Kept
from .sizes import Sizes


@dataclass(frozen=True)
class Change:
    """An argument that had to be mended: the module it was called in, its name, and its entries before and after."""

    path: str
    argument: str
    old: tuple[int, ...]
    new: tuple[int, ...]


@dataclass
class Mended:
    """A copy of the captured graph with mended arguments, the constants it now needs, and what was changed.

    ``awkward`` are the paths of modules in which something changed that no argument of theirs spells: an index, a
    scale. ``copies`` are the nodes that give what the captured ones gave.
    """

    graph: fx.Graph
    copies: dict[fx.Node, fx.Node] = field(default_factory=dict)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    awkward: list[str] = field(default_factory=list)


class Editing:
    """One mending of a captured graph: what is kept, the copy, and what its nodes stand for."""

    def __init__(self, graph: Graph, groups: Groups, kept: Kept) -> None:
        self.graph, self.kept, self.facts = graph, kept, groups.layout.facts
        self.source: TorchSource = graph.source
        self.env: dict[fx.Node, fx.Node] = {}
        self.copy = copied(self.source.program.graph, self.env)
        self.sizes = Sizes(self.facts, kept, self.source.name_of)
        self.result = Mended(self.copy, self.env)

    def _node(self, k: int) -> fx.Node:
        """Return the copy of the fx node that a node of the graph stands for."""
        return self.env[self.source.origin[k][-1]]

    def _note(self, k: int, argument: str, old: Iterable[int], new: Iterable[int]) -> None:
        self.result.changes.append(Change(self.source.paths[k], argument, tuple(old), tuple(new)))

    def _constant(self, fx_node: fx.Node, value: IntArray) -> fx.Node:
        """Store an index beside the parameters and return a node that reads it."""
        name = f"index_of_{fx_node.name}"
        while name in self.result.constants or name in self.source.program.tensors:
            name += "_"
        home = next(iter(self.source.parameters.values()), None)
        device = home.device if home is not None else None
        self.result.constants[name] = torch.from_numpy(np.array(value)).to(device)
        with self.copy.inserting_before(fx_node):
            return self.copy.create_node("get_attr", name, name=name)


def copied(graph: fx.Graph, env: dict[fx.Node, fx.Node]) -> fx.Graph:
    """Do what ``Graph.graph_copy`` does, which looks through all arguments for symbolic numbers; fill ``env``."""
    result = fx.Graph(owning_module=graph.owning_module)
    for node in graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), env.__getitem__)
        if node.op == "output":
            result.output(args[0])
        elif node.op == "call_function":
            env[node] = new_call(result, node.target, args, kwargs, node.name)
        else:
            env[node] = result.create_node(node.op, node.target, args, kwargs, name=node.name)
        if node.op != "output":
            env[node].meta.update(node.meta)
    return result


def get_argument(node: fx.Node, name: str) -> Any:
    """Return an argument by its name in the operator's schema, its default where it is not given."""
    for position, (argument, default) in enumerate(parameters_of(node.target)):
        if argument == name:
            return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)
    raise KeyError(name)


def set_argument(node: fx.Node, name: str, value: Any) -> None:
    """Set an argument by its name in the operator's schema."""
    position = [argument for argument, _ in parameters_of(node.target)].index(name)
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)
