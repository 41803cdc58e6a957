"""graphprune: structured pruning of exported neural networks, within a budget.

The steps ``trace``, ``couple``, a scoring pass, ``solve``, ``rewrite`` and ``verify`` can be used one by one; ``prune``
is all of them, for ONNX models and torch modules alike. ``to_torch`` makes a differentiable copy of an ONNX model,
``from_torch`` writes what it learned back, ``finetune`` trains; ``save`` and ``load`` are for pruned torch modules.
Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Budget
    from .checkpoint import load, save
    from .count import count
    from .coupling import couple
    from .errors import GraphpruneError
    from .finetune import FinetuneReport, finetune
    from .graph import Graph
    from .groups import Group, Groups
    from .interpret import from_torch, to_torch
    from .pipeline.run import prune
    from .pipeline.sweep import sweep
    from .plan import Plan
    from .report.report import Report
    from .scores import Scores
    from .solver.solve import solve
    from .views import to_networkx
    from .worlds import rewrite, trace, verify

    __version__: str

_HOMES = {
    "Budget": "budget",
    "FinetuneReport": "finetune",
    "Graph": "graph",
    "GraphpruneError": "errors",
    "Group": "groups",
    "Groups": "groups",
    "Plan": "plan",
    "Report": "report.report",
    "Scores": "scores",
    "count": "count",
    "couple": "coupling",
    "finetune": "finetune",
    "from_torch": "interpret",
    "load": "checkpoint",
    "prune": "pipeline.run",
    "rewrite": "worlds",
    "save": "checkpoint",
    "solve": "solver.solve",
    "sweep": "pipeline.sweep",
    "to_networkx": "views",
    "to_torch": "interpret",
    "trace": "worlds",
    "verify": "worlds",
}

__all__ = [
    "Budget",
    "FinetuneReport",
    "Graph",
    "GraphpruneError",
    "Group",
    "Groups",
    "Plan",
    "Report",
    "Scores",
    "__version__",
    "count",
    "couple",
    "finetune",
    "from_torch",
    "load",
    "prune",
    "rewrite",
    "save",
    "solve",
    "sweep",
    "to_networkx",
    "to_torch",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("graphprune")
        except PackageNotFoundError:
            return "unknown (not installed)"
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package where ``count`` stays the function, though importing ``graphprune.count`` would bind the module."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
