"""Does a module's own forward do what the mended graph says? Then it is the pruned function, whatever the numbers."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from ...frontends.fx.context import parameters_of
from ...frontends.fx.dataless import UncapturableError
from ...frontends.fx.following import Following
from ...frontends.fx.operators import Operator
from ...frontends.fx.program import Program, inference_mode
from ...frontends.fx.trace import TorchSource
from ...verification.verify_torch import RUN_ERRORS
from .align import calls
from .cuts import Cuts, shape_after, sliced
from .editing import Mended


def captures_as(small: nn.Module, source: TorchSource, mended: Mended, cuts: Cuts) -> bool:
    """Run a pruned module without data, and tell whether it does exactly what the mended graph says.

    Same operators in the same order, same arguments, same tensors by their names, of the sizes that ``cuts`` leave,
    same constants: then nothing depends on what the numbers are. False where it fails, and where it comes to the same
    in another way.
    """
    if source.program.exported is not None or cuts.copies:
        return False
    try:
        from ...frontends.fx.capture import follow

        with inference_mode(small):
            comparing = Comparing(small, source.program, mended.graph, cuts)
            comparing.hold()
            leaves, spec = pytree.tree_flatten((source.args, dict(source.kwargs)))
            results, out_spec = follow(comparing, comparing.inputs(leaves), spec)
            return spec == source.program.in_spec and comparing.ends_with(results, out_spec)
    except (ImportError, *RUN_ERRORS):
        return False


class OtherwiseError(UncapturableError):
    """The forward does something else than what is expected."""


class Comparing(Following):
    """Compares what it follows with a graph whose placeholders are those of a program; raises where they differ."""

    def __init__(self, module: nn.Module, program: Program, graph: fx.Graph, cuts: Cuts) -> None:
        super().__init__(module)
        self.program, self.cuts = program, cuts
        self.placeholders: dict[str, fx.Node] = {}
        self.expected_inputs: list[fx.Node] = []
        for node in graph.nodes:
            if node.op == "get_attr":
                raise OtherwiseError("the graph needs a tensor that the module does not have")
            if node.op == "placeholder":
                self._expect(node)
        self.end = next(iter(reversed(graph.nodes)))
        self.expected = iter(calls(graph))

    def _expect(self, node: fx.Node) -> None:
        origin = self.program.origins.get(node.name)
        if origin is not None and origin.kind == "tensor":
            self.placeholders[origin.target] = node
        else:
            self.expected_inputs.append(node)

    def place(self, name: str, tensor: torch.Tensor, letter: str) -> fx.Node:
        """Return the placeholder of a stored tensor that has the size, and as a constant the values, that are left."""
        node, whole = self.placeholders.get(name), self.program.tensors.get(name)
        if node is None or whole is None:
            raise OtherwiseError(f"{name} is a tensor of this module alone")
        cut = self.cuts.by_name.get(name)
        size = whole.shape if cut is None else shape_after(whole, cut)
        if tensor.shape != size or tensor.dtype != whole.dtype:
            raise OtherwiseError(f"{name} has another size")
        if letter == "c" and not torch.equal(tensor, sliced(whole, cut or {})):
            raise OtherwiseError(f"{name} has other values")
        return node

    def inputs(self, leaves: list[Any]) -> list[Any]:
        """Return what stands for the flat inputs."""
        pairs = zip(self.expected_inputs, leaves, strict=True)
        return [self.stand_in(node, x) if isinstance(x, torch.Tensor) else x for node, x in pairs]

    def call(self, operator: Operator, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Node:
        """Return the node that is expected now, if it is this call."""
        return self._next(operator.target, args, kwargs)

    def part(self, node: fx.Node, position: int) -> fx.Node:
        """Return the node that takes one of several results, if it is expected now."""
        return self._next(operator.getitem, (node, position), {})

    def _next(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Node:
        node: fx.Node | None = next(self.expected, None)
        if node is None or node.target is not target:
            raise OtherwiseError(f"the forward calls {target}")
        if len(args) == len(node.args) and not kwargs and not node.kwargs:
            same = _equal(args, node.args)
        else:
            same = _equal(_spelled_out(target, args, kwargs), _spelled_out(target, node.args, node.kwargs))
        if not same:
            raise OtherwiseError(f"the forward calls {target} with other arguments")
        return node

    def ends_with(self, results: list[Any], out_spec: Any) -> bool:
        """Tell whether nothing is left to be expected but these results."""
        given = tuple(self.node_of(r) if isinstance(r, torch.Tensor) else r for r in results)
        done = next(self.expected, None) is None and out_spec == self.program.out_spec
        return done and _equal(given, self.end.args[0])


def _spelled_out(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return all arguments, defaults filled in."""
    if not hasattr(target, "_schema"):
        return (args, kwargs)
    rest = parameters_of(target)[len(args) :]
    return (*args, *(kwargs.get(name, default) for name, default in rest))


def _equal(a: Any, b: Any) -> bool:
    """Tell whether arguments are the same: nodes by identity, numbers by type and value."""
    if a is b:
        return True
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(v, b[k]) for k, v in a.items())
    return type(a) is type(b) and not isinstance(a, fx.Node) and bool(a == b)
