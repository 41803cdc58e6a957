"""A differentiable copy that trains: operators that the capture fixed in inference follow the module's mode again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from ..backends.fx.modes import ByMode, mode_of
from ..interpret.ops_norm import BatchNorm

OWN = "graphprune_modes"
NORMS = (torch.ops.aten.batch_norm.default,)
MOMENTUM = 6
"""Where ``aten.batch_norm`` takes its momentum."""


class TracedNorm(ByMode):
    """Batch normalisation of a captured torch module; ``momentum`` is what it was captured with, unless set.

    New running statistics are (1 - momentum) times the old plus momentum times the batch's, as in torch.
    """

    momentum: float | None = None
    moves_statistics = True
    """What fine-tuning knows a batch normalisation by, to freeze it."""

    def forward(self, *args: Any) -> Any:
        """Normalise by the batch while training, and move the running statistics, else by those."""
        if self.momentum is not None:
            args = (*args[:MOMENTUM], self.momentum, *args[MOMENTUM + 1 :])
        return super().forward(*args)


def follow_mode(module: fx.GraphModule) -> fx.GraphModule:
    """Make every operator of a captured module whose meaning depends on the mode follow ``train()`` and ``eval()``.

    Changes the module given, and returns it; a model from ONNX has modules of its own there, and stays as it is.
    """
    holder = nn.Module()
    for node in list(module.graph.nodes):
        position = mode_of(node.target, node.args) if node.op == "call_function" else None
        if position is None:
            continue
        kind = TracedNorm if node.target in NORMS else ByMode
        name = f"{OWN}.{len(list(holder.children()))}"
        holder.add_module(name.rpartition(".")[2], kind(node.target, position))
        module.add_module(OWN, holder)
        with module.graph.inserting_before(node):
            called = module.graph.call_module(name, node.args)
        called.meta = dict(node.meta)
        node.replace_all_uses_with(called)
        module.graph.erase_node(node)
    module.recompile()
    return module


def norms_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the batch normalisations of a differentiable copy, each with a ``momentum`` that can be set."""
    for inner in module.modules():
        if isinstance(inner, (BatchNorm, TracedNorm)):
            yield inner


def set_share(norm: nn.Module, share: float) -> None:
    """Let a normalisation's new running statistics take so much from the next batch, in either world's terms."""
    norm.momentum = 1.0 - share if isinstance(norm, BatchNorm) else share
