"""What the options of pruning ask for: the settings of a run, and what trains between its steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .options import Options, calibration, settings_of

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..pipeline.settings import Settings
    from ..pipeline.stepwise import Train


def settings_from(model: Path, options: Options) -> Settings:
    """Read what is wanted; raises GraphpruneError for values that make no sense for any model."""
    from ..budget import Budget
    from ..pipeline.settings import check_settings
    from ..plan import Plan

    settings = settings_of(
        options,
        budget=Budget.parse(options.budget) if options.budget else None,
        steps=options.steps,
        plan=Plan.load(options.plan) if options.plan else None,
        train=_trainer(model, options),
    )
    check_settings(settings)
    return settings


def _trainer(model: Path, options: Options) -> Train | None:
    """Return what trains between steps, to do what the original does, if that is asked for; raises UsageError."""
    if not options.epochs:
        return None
    if options.epochs < 0:
        words, hint = f"{options.epochs} is negative", "give a number of epochs, such as 1"
        raise UsageError("bad-epochs", words, where="--epochs", hint=hint)
    if options.data is None:
        words, hint = "there is nothing to train on", "give samples by --data"
        raise UsageError("data-missing", words, where="--data", hint=hint)

    def train(small: ModelProto, step: int) -> ModelProto:
        from ..finetune import finetune

        trained, _ = finetune(
            small, data=calibration(options).seen, teacher=model, loss=options.loss or "auto", epochs=options.epochs,
            seed=options.seed + step,
        )  # fmt: skip
        return trained

    return train
