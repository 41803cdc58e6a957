"""Our methods on one model: scored once, then pruned to any number of budgets, as ``graphprune sweep`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from graphprune.passes import Magnitude
from task import Samples

import graphprune as gp
from graphprune.budget import Budget
from graphprune.errors import BudgetError
from graphprune.pipeline import fitting
from graphprune.pipeline.opening import Opened, aligned, open_model, read
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    from graphprune.scoring import Prepared

WITHOUT = "without data"
"""In place of a repair: samples are made up, and nothing but the file is given."""
RATIOS = np.linspace(1, 0, 400, endpoint=False)


@dataclass(frozen=True)
class Ours:
    """A method on a model, with samples, or with none; scoring waits until a budget is asked for."""

    model: onnx.ModelProto
    method: str
    sizes: Mapping[str, tuple[int, ...]]
    samples: Samples | None = None
    seed: int = 0

    def pruned(self, repair: str, budget: float) -> onnx.ModelProto | None:
        """Return the model at a budget; None where that is out of reach."""
        opened, settings, prepared = self._scored
        calibration = settings.calibration
        if self.samples is not None:
            calibration = replace(calibration, repair=repair)
        now = replace(settings, budget=Budget.parse(budget), calibration=calibration)
        try:
            fitted = fitting.fit_prepared(prepared, opened, now, lambda stage: None)
        except BudgetError:
            return None
        made: onnx.ModelProto = fitted.model
        return made

    @cached_property
    def _scored(self) -> tuple[Opened, Settings, Prepared]:
        given: dict[str, Any] = {"budget": 0.5, "method": self.method, "seed": self.seed, "input_shapes": self.sizes}
        if self.samples is not None:
            count = max(len(values) for values in self.samples.values())
            given |= {"data": dict(self.samples), "holdout": 0.0, "samples": count}
        settings = Settings.of(**given)
        opened = open_model(read(self.model), settings)
        settings = aligned(opened, settings)
        return opened, settings, fitting.prepare(fitting.scoring_pass(settings), opened)


@dataclass(frozen=True)
class Uniform:
    """The plain way: the same part of every group is kept, the units with the largest coupled L1 norms."""

    model: onnx.ModelProto
    sizes: Mapping[str, tuple[int, ...]]

    def pruned(self, budget: float) -> onnx.ModelProto | None:
        """Return the model that keeps the largest such part within the budget; None where that is out of reach."""
        graph, groups, scores = self._scored
        full = groups.costs.full["macs"]
        sizes = np.array([g.size for g in groups.groups])
        widths = np.maximum(1, np.floor(RATIOS[:, None] * sizes)).astype(np.int64)
        fitting_in = np.flatnonzero(groups.costs.evaluate("macs", widths.astype(np.float64)) <= budget * full)
        if not fitting_in.size:
            return None
        keep = {
            g.id: tuple(np.sort(np.argsort(-scores[g.id], kind="stable")[:width]).tolist())
            for g, width in zip(groups.groups, widths[fitting_in[0]].tolist(), strict=True)
        }
        plan = gp.Plan(
            keep=keep, sizes={g.id: g.size for g in groups.groups}, fingerprint=groups.fingerprint,
            coupling=groups.options,
        )  # fmt: skip
        made: onnx.ModelProto = gp.rewrite(graph, plan, groups)
        return made

    @cached_property
    def _scored(self) -> tuple[Any, Any, Any]:
        graph = gp.trace(self.model, input_shapes=dict(self.sizes))
        groups = gp.couple(graph)
        return graph, groups, Magnitude(norm=1)(graph, groups)
