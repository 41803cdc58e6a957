"""The report's entries from what the steps return."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from ..cost import METRICS, Metric
from ..layout import kept_by
from ..members import parameter_dims
from .report import Agreement, FrozenReport, GroupReport, Side

if TYPE_CHECKING:
    from ..budget import Budget
    from ..frontends.files.load import Loaded
    from ..graph import Graph
    from ..groups import Groups
    from ..plan import Plan
    from ..verification.verify import Verification

Kept = dict[str, dict[str, tuple[int, ...]]]


def side(costs: Mapping[Metric, float], loaded: Loaded | None = None) -> Side:
    """Return one of the two models from its costs; "size" is the bytes of its file."""
    path, sha256 = (None, None) if loaded is None else (str(loaded.path), loaded.sha256)
    macs, params, size, memory = (round(costs[m]) for m in METRICS)
    return Side(path=path, sha256=sha256, bytes=size, macs=macs, params=params, memory=memory)


def budget_of(budget: Budget | None, plan: Plan) -> dict[str, float | str]:
    """Return the limits asked for, or those that the plan was made for."""
    return dict(plan.budget) if budget is None else {str(metric): limit for metric, limit in budget.to_dict().items()}


def agreement_of(check: Verification, changed_by: str = "") -> Agreement:
    """Return what verification found; ``changed_by`` names the method that changed the model before it was masked."""
    against = f"what {changed_by} made of the original" if changed_by else "the original"
    return Agreement(check.max_abs, check.max_rel, check.samples, check.tolerance, finite(check.agreement), against)


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold: None for infinity, the loss of a group that vanished, and for no number."""
    return value if value is not None and isfinite(value) else None


def groups_of(groups: Groups, plan: Plan) -> tuple[GroupReport, ...]:
    """Return every group with the units it keeps; one that the plan does not name keeps all."""
    return tuple(
        GroupReport(g.id, g.kind, g.size, tuple(plan.keep.get(g.id, range(g.size))), bool(g.exact))
        for g in groups.groups
    )


def frozen_of(groups: Groups) -> tuple[FrozenReport, ...]:
    """Return every axis that is not open to pruning, with the reason."""
    return tuple(FrozenReport(f.tensor, f.axis, f.reason) for f in groups.frozen)


def kept_of(graph: Graph, groups: Groups, plan: Plan) -> Kept:
    """Return the kept indices of every cut axis of every parameter, under its name in the input model.

    A vector that several nodes share is cut for each use by itself; its entry lists what any of them keeps.
    """
    kept = kept_by(groups, plan)
    every: dict[tuple[str, int], list[np.ndarray[tuple[int], np.dtype[np.int64]] | None]] = {}
    for name, dims, _ in parameter_dims(graph, groups.layout.facts):
        for axis, dim in enumerate(dims):
            every.setdefault((name, axis), []).append(kept.index(dim))
    result: Kept = {}
    for (name, axis), indices in every.items():
        cut = [i for i in indices if i is not None]
        if len(cut) == len(indices):
            result.setdefault(name, {})[str(axis)] = tuple(np.unique(np.concatenate(cut)).tolist())
    return result
