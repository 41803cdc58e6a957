"""Our methods on one model: scored once, then pruned to any number of budgets, as ``graphprune sweep`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import onnx
from task import Samples

from graphprune.budget import Budget
from graphprune.errors import BudgetError
from graphprune.pipeline import fitting
from graphprune.pipeline.opening import Opened, aligned, open_model, read
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    from graphprune.scoring import Prepared

WITHOUT = "without data"
"""In place of a repair: samples are made up, and nothing but the file is given."""


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
