"""A forward written down as a graph of ATen operators, while it runs on tensors without data."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from .dataless import UncapturableError
from .dispatch import handler
from .following import Following
from .modules import modules_of
from .nodes import new_call
from .operators import Operator
from .program import Origin


class Capture(Following):
    """Writes down what it follows."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.graph = fx.Graph()
        self.origins: dict[str, Origin] = {}
        self.stack: list[dict[str, tuple[str, str]]] = [{}]
        self.paths = {id(m): path for path, m in modules_of(module)}
        self.first_input: fx.Node | None = None

    # Placeholders ---------------------------------------------------------------------------------------------------

    def place(self, name: str, tensor: torch.Tensor, letter: str) -> fx.Node:
        """Make a placeholder with the name that ``torch.export`` gives it."""
        title = f"{letter}_{name.replace('.', '_')}"
        if self.first_input is None:
            node = self.graph.create_node("placeholder", title, name=title)
        else:
            with self.graph.inserting_before(self.first_input):
                node = self.graph.create_node("placeholder", title, name=title)
        node.meta["val"] = tensor
        self.origins[node.name] = Origin("tensor", name)
        return node

    def input(self, title: str, value: Any) -> Any:
        """Return what stands for an input of the user's; one that is no tensor stands for itself."""
        node = self.graph.create_node("placeholder", title, name=title)
        held = self.stand_in(node, value) if isinstance(value, torch.Tensor) else value
        node.meta["val"] = held
        self.origins[node.name] = Origin("input", title)  # fx gives a node another name than a builtin's
        self.first_input = self.first_input or node
        return held

    # Operators ------------------------------------------------------------------------------------------------------

    def call(self, operator: Operator, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Node:
        """Write an operator down."""
        node = new_call(self.graph, operator.target, args, kwargs, operator.name)
        node.meta["nn_module_stack"] = self.stack[-1]
        return node

    def part(self, node: fx.Node, position: int) -> fx.Node:
        """Write down that one of several results is taken."""
        taken = new_call(self.graph, operator.getitem, (node, position), {}, "getitem")
        taken.meta["nn_module_stack"] = self.stack[-1]
        return taken

    def made(self, node: fx.Node, value: Any) -> None:
        """Keep the sizes with the node."""
        node.meta["val"] = value

    def finish(self, results: Sequence[Any]) -> None:
        """Write the results down."""
        strange = [type(r).__name__ for r in results if not isinstance(r, (torch.Tensor, int, float, str, type(None)))]
        if strange:
            raise UncapturableError(f"the forward returns a {strange[0]}")
        self.graph.output(tuple(self.node_of(r) if isinstance(r, torch.Tensor) else r for r in results))

    # Modules --------------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: Any) -> None:
        """Remember the module whose forward begins."""
        if handler() is not self:
            return  # another thread's
        path, kind = self.paths.get(id(module), ""), type(module)
        self.stack.append({**self.stack[-1], path: (path, f"{kind.__module__}.{kind.__qualname__}")})

    def leave(self, module: nn.Module, args: Any, result: Any) -> None:
        """Forget the module whose forward ends."""
        if handler() is self:
            self.stack.pop()
