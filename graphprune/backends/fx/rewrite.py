"""A plan becomes a smaller captured graph: arguments that spell sizes or indices are mended, tensors are sliced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...coupling import couple
from ...frontends.fx.trace import TorchSource
from ...graph import Graph
from ...groups import Groups
from ...layout import Kept, kept_by
from ...plan import Plan
from .assemble import assemble
from .cuts import Cuts, cuts_of, sliced_state
from .editing import Mended
from .mending import Mending


def rewrite_graph(graph: Graph, plan: Plan, groups: Groups | None = None) -> Any:
    """Return an fx GraphModule in which every group keeps only the plan's units; it computes what was captured.

    Its parameters and buffers have the module's names. Raises PlanError when the plan does not belong to the groups.
    """
    groups = couple(graph, **plan.coupling) if groups is None else groups
    kept = kept_by(groups, plan)
    cuts = cuts_of(graph, groups, kept)
    return graph_module(graph, cuts, mend(graph, groups, kept, cuts))


def graph_module(graph: Graph, cuts: Cuts, mended: Mended, stored: Mapping[str, torch.Tensor] | None = None) -> Any:
    """Put a mended graph and sliced tensors together; ``stored`` are tensors that are sliced already, by name."""
    source: TorchSource = graph.source
    have = stored or {}
    missing = {n: t for n, t in source.program.tensors.items() if n not in have}
    tensors = {**have, **sliced_state(missing, cuts), **mended.constants}
    return assemble(source.program, mended.graph, source.module, tensors)


def mend(graph: Graph, groups: Groups, kept: Kept, cuts: Cuts) -> Mended:
    """Mend a copy of the captured graph; raises PlanError when the plan empties a group."""
    mending = Mending(graph, groups, kept)
    mending.use_copies(cuts)
    return mending.run()
