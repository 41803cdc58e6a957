"""A module's stretch of the mended graph of the whole, as a graph of its own.

To find which nodes of the whole are the module's, and which of them are its arguments, it is captured by itself, with
the arguments it is called with: the same code gives the same nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from ...errors import GraphpruneError
from ...frontends.fx.program import Program, inference_mode
from ...frontends.fx.trace import TorchSource, trace_call
from ...verification.verify_torch import RUN_ERRORS, exactly
from ..fx.align import aligned, calls, free_sizes, moving_axes, pairs
from ..fx.assemble import assemble, path_of
from ..fx.editing import Mended
from .loud import loud

Call = tuple[tuple[Any, ...], dict[str, Any]]
Shape = Callable[[fx.Node], tuple[int, ...] | None]


# How modules are called -----------------------------------------------------------------------------------------------


def calls_of(module: nn.Module, leaves: Sequence[Any] | None, spec: Any, paths: Iterable[str]) -> dict[str, Call]:
    """Run the original and return how modules were called first; nothing where it does not run."""
    found: dict[str, Call] = {}
    wanted, handles = set(paths), []
    for path, child in module.named_modules():
        if path in wanted:

            def note(_m: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                found.setdefault(path, (tuple(args), dict(kwargs)))

            handles.append(child.register_forward_pre_hook(note, with_kwargs=True))
    try:
        args, kwargs = pytree.tree_unflatten([_copy(x) for x in leaves or ()], spec)
        with exactly(), inference_mode(module):
            module(*args, **kwargs)
    except RUN_ERRORS:
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return found


def _copy(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


class _Alone(nn.Module):
    """Calls a child with flat tensors of which each is given once, so that equal arguments stay one and the same."""

    def __init__(self, child: nn.Module, call: Call) -> None:
        super().__init__()
        self.child = child
        leaves, self.spec = pytree.tree_flatten(call)
        self.place: list[int | None] = []
        self.distinct: list[torch.Tensor] = []
        known: dict[int, int] = {}
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor) and id(leaf) not in known:
                known[id(leaf)] = len(self.distinct)
                self.distinct.append(leaf)
            self.place.append(known[id(leaf)] if isinstance(leaf, torch.Tensor) else None)
        self.leaves = [None if isinstance(x, torch.Tensor) else x for x in leaves]

    def forward(self, *tensors: torch.Tensor) -> Any:
        filled = [x if p is None else tensors[p] for x, p in zip(self.leaves, self.place, strict=True)]
        args, kwargs = pytree.tree_unflatten(filled, self.spec)
        return self.child(*args, **kwargs)


def _captured(child: nn.Module, call: Call) -> tuple[_Alone, Program] | None:
    alone = _Alone(child, call)
    try:
        return alone, trace_call(alone, tuple(alone.distinct), {}).source.program
    except (GraphpruneError, *RUN_ERRORS):
        return None


# Its stretch of the graph ---------------------------------------------------------------------------------------------


class Stretch:
    """A module's stretch of the mended graph of the whole."""

    def __init__(self, source: TorchSource, mended: Mended, path: str, call: Call, other: Call | None) -> None:
        assert source.module is not None
        self.source, self.mended, self.path = source, mended, path
        self.child = source.module.get_submodule(path)
        self.alone = _captured(self.child, call)
        self.other = _captured(self.child, other) if other is not None else None
        self.env: dict[fx.Node, fx.Node] = {}
        self.given: dict[int, fx.Node] = {}
        self.new = fx.Graph(owning_module=source.program.graph.owning_module)

    def graph(self, small: nn.Module) -> nn.Module | None:
        """Return a GraphModule that shares the tensors of ``small``; None where the stretch is not found."""
        if self.alone is None:
            return None
        alone, program = self.alone
        mine = calls(program.graph)
        every = calls(self.source.program.graph)
        # One stretch from its first node on: a layer that is shared (one activation for all) has its path elsewhere.
        start = next((k for k, n in enumerate(every) if _inside(path_of(n), self.path)), 0)
        region = every[start : start + len(mine)]
        if not aligned(region, mine):
            return None
        inputs = self._place_inputs(alone, program)
        copies = self._copy(region, mine, program, inputs)
        end = next(n for n in program.graph.nodes if n.op == "output")
        inner = dict(zip(mine, region, strict=True))
        results = [self.env[self.mended.copies[inner[x]]] if x in inner else inputs.get(x, x) for x in end.args[0]]
        if any(isinstance(x, fx.Node) and x.graph is not self.new for x in results):
            return None
        self.new.output(tuple(results))
        self._free(mine, copies, program, inputs)
        return self._module(alone, program, small)

    def loud_call(self, shape_of: Shape) -> Call:
        """Return a call with random numbers, in the shapes that the pruned whole calls the module with."""
        assert self.alone is not None
        alone = self.alone[0]
        shapes = [shape_of(self.given[k]) if k in self.given else None for k in range(len(alone.distinct))]
        tensors = [loud(x, s) for x, s in zip(alone.distinct, shapes, strict=True)]
        filled = [x if p is None else tensors[p] for x, p in zip(alone.leaves, alone.place, strict=True)]
        args, kwargs = pytree.tree_unflatten(filled, alone.spec)
        return tuple(args), dict(kwargs)

    def _place_inputs(self, alone: _Alone, program: Program) -> dict[fx.Node, fx.Node]:
        """Make a placeholder for every leaf of the call; the first for each distinct tensor is the one that is used."""
        nodes = [n for n in program.graph.nodes if n.op == "placeholder" and _is_input(program, n)]
        placed: dict[fx.Node, fx.Node] = {}
        for k, place in enumerate(alone.place):
            made = self.new.placeholder(f"argument_{k}")
            made.meta["val"] = alone.leaves[k]
            if place is not None:
                made.meta["val"] = nodes[place].meta["val"]
                placed.setdefault(nodes[place], made)
        return placed

    def _copy(
        self, region: Sequence[fx.Node], mine: Sequence[fx.Node], program: Program, inputs: Mapping[fx.Node, fx.Node]
    ) -> dict[fx.Node, fx.Node]:
        """Copy the mended nodes of the region; what comes from outside is an argument, or a tensor of the child's."""
        within, order = set(region), list(inputs)
        for o, c in zip(region, mine, strict=True):
            for pair in pairs(o, c):
                if pair is not None and isinstance(pair[0], fx.Node) and pair[0] not in within:
                    self.env.setdefault(self.mended.copies[pair[0]], self._outside(pair[1], program, inputs))
                    if pair[1] in inputs:
                        self.given.setdefault(order.index(pair[1]), pair[0])
        there = [(c, self.mended.copies[o]) for o, c in zip(region, mine, strict=True) if o in self.mended.copies]
        return {c: self._bring(copy) for c, copy in there}

    def _outside(self, node: fx.Node, program: Program, inputs: Mapping[fx.Node, fx.Node]) -> fx.Node:
        if node in inputs:
            return inputs[node]
        return self.new.create_node("get_attr", program.origins[node.name].target.removeprefix("child."))

    def _bring(self, node: fx.Node) -> fx.Node:
        """Copy a node, and before it what mending put in front of it."""
        if node not in self.env:
            for used in node.all_input_nodes:
                if used not in self.env:
                    self._bring(used)
            self.env[node] = self.new.node_copy(node, self.env.__getitem__)
        return self.env[node]

    def _free(
        self, mine: Sequence[fx.Node], copies: Mapping[fx.Node, fx.Node], program: Program,
        inputs: Mapping[fx.Node, fx.Node],
    ) -> None:  # fmt: skip
        """Let sizes follow the batch."""
        if self.other is None:
            return
        theirs = self.other[1]
        first = [n for n in program.graph.nodes if n.op == "placeholder" and _is_input(program, n)]
        second = [n for n in theirs.graph.nodes if n.op == "placeholder" and _is_input(theirs, n)]
        if len(first) == len(second) and aligned(mine, calls(theirs.graph)):
            free_sizes(self.new, mine, calls(theirs.graph), copies, moving_axes(first, second), inputs)

    def _module(self, alone: _Alone, program: Program, small: nn.Module) -> nn.Module:
        here = small.get_submodule(self.path)
        stored = dict(here.named_parameters(remove_duplicate=False)) | dict(here.named_buffers(remove_duplicate=False))
        used = {str(n.target) for n in self.new.nodes if n.op == "get_attr"}
        stored |= {n: t for n, t in self.mended.constants.items() if n in used}
        held = {n.removeprefix("child."): t for n, t in program.tensors.items()}
        stored |= {n: held[n] for n in used if n not in stored and n in held}
        form = Program(self.new, {}, stored, alone.spec, program.out_spec)
        result: nn.Module = assemble(form, self.new, self.child, stored, inner=True)
        return result


def _inside(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}.")


def _is_input(program: Program, node: fx.Node) -> bool:
    origin = program.origins.get(node.name)
    return origin is None or origin.kind != "tensor"
