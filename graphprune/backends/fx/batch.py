"""A graph captured at one batch size is freed of it: a second capture at twice the size tells which sizes follow it."""

from __future__ import annotations

from typing import Any

from torch.utils import _pytree as pytree

from ...errors import GraphpruneError
from ...frontends.fx.program import Program
from ...frontends.fx.trace import TorchSource, trace_call
from ...graph import Graph
from ...verification.verify_torch import RUN_ERRORS
from .align import aligned, calls, doubled, free_sizes, moving_axes
from .editing import Mended


def free_batch(graph: Graph, mended: Mended) -> bool:
    """Let a mended graph follow the batch size of its inputs; False, and nothing changed, where that is not possible.

    A graph that ``torch.export`` made with dynamic shapes follows them already.
    """
    source: TorchSource = graph.source
    if source.dynamic_shapes is not None or source.program.exported is not None or source.module is None:
        return False
    leaves, spec = pytree.tree_flatten((source.args, dict(source.kwargs)))
    twice = doubled(leaves)
    if twice is None:
        return False
    try:
        args, kwargs = pytree.tree_unflatten(twice, spec)
        other: Program = trace_call(source.module, args, kwargs).source.program
    except (GraphpruneError, *RUN_ERRORS):
        return False
    return free_of(source.program, other, mended)


def free_of(program: Program, other: Program, mended: Mended) -> bool:
    """Free a mended copy of ``program`` of the sizes in which another capture of the same code differs from it."""
    first, second = calls(program.graph), calls(other.graph)
    if not aligned(first, second):
        return False
    mine, theirs = _inputs(program), _inputs(other)
    if len(mine) != len(theirs):
        return False
    axes = moving_axes(mine, theirs)
    return free_sizes(mended.graph, first, second, mended.copies, axes, {n: mended.copies[n] for n in mine})


def _inputs(program: Program) -> list[Any]:
    nodes = [n for n in program.graph.nodes if n.op == "placeholder"]
    return [n for n in nodes if program.origins.get(n.name) is None or program.origins[n.name].kind != "tensor"]
