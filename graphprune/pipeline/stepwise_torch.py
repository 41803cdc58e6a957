"""Pruning torch modules in steps; see ``stepwise``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..frontends.fx.trace import TorchSource, trace_call
from ..verification.verify import Verification
from ..verification.verify_torch import Reference, verify_module
from .stepwise import World

if TYPE_CHECKING:
    from ..graph import Graph
    from .fitting import Apply, Fitted


def torch_world(apply: Apply, reference: Callable[[], Reference | None]) -> World:
    """Return what steps do to torch modules: ``reference`` gives the one that ``apply`` made for its last plan."""

    def again(before: Graph, module: Any) -> Graph:
        source: TorchSource = before.source
        return trace_call(module, source.args, source.kwargs, source.dynamic_shapes)

    def verify(fitted: Fitted, seed: int) -> Verification:
        module, of = fitted.model.module, fitted.opened
        return verify_module(of.graph, of.groups, fitted.applied, module, seed=seed, reference=reference())

    return World(apply, lambda fitted: fitted.model.module, again, verify)
