"""What tests of pruned torch modules share: random plans, a reference made without the package's masks, comparisons."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_models import made

from graphprune.coupling import couple, kept_parameters
from graphprune.frontends.fx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.plan import Plan

torch.set_num_threads(1)  # small tensors; more threads only wait for each other on a busy machine


def random_plan(groups: Groups, seed: int = 0, least: float = 0.3) -> Plan:
    """Keep a random share, at least one unit, of every group."""
    rng = np.random.default_rng(seed)
    keep = {}
    for g in groups.groups:
        count = max(1, round(g.size * rng.uniform(least, 0.9)))
        keep[g.id] = tuple(sorted(rng.choice(g.size, count, replace=False).tolist()))
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def opened(name: str, seed: int = 0) -> tuple[nn.Module, tuple[Any, ...], Graph, Groups]:
    module, args = made(name, seed)
    graph = trace(module, args)
    return module, args, graph, couple(graph)


def tensors(outputs: Any) -> list[Tensor]:
    return [t for t in torch.utils._pytree.tree_leaves(outputs) if isinstance(t, Tensor)]


def run(module: nn.Module, args: tuple[Any, ...]) -> list[Tensor]:
    with torch.no_grad():
        return tensors(module(*(a.clone() for a in args)))


def far(mine: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest difference relative to the largest value."""
    assert [a.shape for a in mine] == [b.shape for b in wanted]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(mine, wanted, strict=True))


def with_zeros(module: nn.Module, graph: Graph, groups: Groups, plan: Plan) -> nn.Module:
    """A copy of the original in which every weight that reads a removed unit is zero there: nothing of it is summed."""
    zeroed = copy.deepcopy(module)
    held = dict(zeroed.named_parameters(remove_duplicate=False))
    consumed = {(m.tensor, m.axis) for g in groups.groups for m in g.members if m.role == "consumer"}
    with torch.no_grad():
        for name, axes in kept_parameters(graph, groups, plan).items():
            for axis, kept in axes.items():
                if (name, axis) in consumed:
                    gone = np.setdiff1d(np.arange(held[name].shape[axis]), kept)
                    held[name].index_fill_(axis, torch.from_numpy(gone), 0.0)
    return zeroed
