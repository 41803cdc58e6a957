"""The tensors of a torch module on its example and on random inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from ..backends.fx.masked import run_graph
from ..frontends.fx.trace import TorchSource, array_of
from ..graph import Array, Graph
from ..verification.verify import integer_limits


def observed(graph: Graph, names: Sequence[str], seed: int) -> dict[str, Array]:
    """Return tensors of the captured forward: on the example for seed 0, else on random inputs of its sizes."""
    source: TorchSource = graph.source
    seen: dict[str, Array] = {}

    def note(name: str) -> Any:
        def finish(result: Any) -> Any:
            seen[name] = array_of(result).copy()
            return result

        return finish

    finishes: dict[fx.Node, list[Any]] = {}
    for name in names:
        if name not in graph.inputs:
            finishes.setdefault(source.node_of[name], []).append(note(name))
    leaves = pytree.tree_leaves((source.args, dict(source.kwargs)))
    drawn = _drawn(graph, leaves, seed)
    with torch.no_grad():
        run_graph(source, drawn, finishes=finishes)
    tensors = [x for x in drawn if isinstance(x, torch.Tensor)]
    seen.update({n: array_of(x) for n, x in zip(graph.inputs, tensors, strict=False) if n in names})
    return seen


def _drawn(graph: Graph, leaves: Sequence[Any], seed: int) -> list[Any]:
    """Return other tensors of the same sizes and types; numbers that may be positions stay below their limits."""
    if seed == 0:
        return list(leaves)
    generator, limits = torch.Generator().manual_seed(seed), integer_limits(graph)
    names = iter(graph.inputs)
    drawn = []
    for leaf in leaves:
        name = next(names, "") if isinstance(leaf, torch.Tensor) else ""
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            made = torch.randn(leaf.shape, generator=generator)
            drawn.append(made.to(dtype=leaf.dtype, device=leaf.device))
        elif name in limits:
            made = torch.randint(0, limits[name], leaf.shape, generator=generator)
            drawn.append(made.to(dtype=leaf.dtype, device=leaf.device))
        else:
            drawn.append(leaf)
    return drawn
