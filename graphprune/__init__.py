"""graphprune: structured pruning of exported neural networks, within a budget.

The steps ``trace``, ``couple``, a scoring pass, ``solve``, ``rewrite`` and ``verify`` can be used one by one; ``prune``
is all of them, for ONNX models and torch modules alike. ``to_torch`` makes a differentiable copy of an ONNX model,
``from_torch`` writes what it learned back, ``finetune`` trains; ``save`` and ``load`` are for pruned torch modules.
``compare`` tells what two models differ in, ``sweep`` what several budgets cost, and ``figures`` draws reports.
Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import figures
    from .budget import Budget
    from .checkpoint import load, save
    from .comparison import Comparison, compare
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
    from .progress import show_progress
    from .report.report import Report
    from .scores import Scores
    from .solver.solve import solve
    from .views import to_networkx
    from .worlds import rewrite, trace, verify

    __version__: str

_HOMES = {
    "Budget": "budget",
    "Comparison": "comparison",
    "FinetuneReport": "finetune",
    "Graph": "graph",
    "GraphpruneError": "errors",
    "Group": "groups",
    "Groups": "groups",
    "Plan": "plan",
    "Report": "report.report",
    "Scores": "scores",
    "compare": "comparison",
    "count": "count",
    "couple": "coupling",
    "finetune": "finetune",
    "from_torch": "interpret",
    "load": "checkpoint",
    "prune": "pipeline.run",
    "rewrite": "worlds",
    "save": "checkpoint",
    "show_progress": "progress",
    "solve": "solver.solve",
    "sweep": "pipeline.sweep",
    "to_networkx": "views",
    "to_torch": "interpret",
    "trace": "worlds",
    "verify": "worlds",
}

__all__ = [
    "Budget",
    "Comparison",
    "FinetuneReport",
    "Graph",
    "GraphpruneError",
    "Group",
    "Groups",
    "Plan",
    "Report",
    "Scores",
    "__version__",
    "compare",
    "count",
    "couple",
    "figures",
    "finetune",
    "from_torch",
    "load",
    "prune",
    "rewrite",
    "save",
    "show_progress",
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
    if name == "figures":  # a room of functions, one a figure
        return import_module(".figures", __name__)
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
