"""How to fine-tune, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import UsageError

OPTIMISERS = {"adamw": 1e-3, "sgd": 1e-2}
"""Optimisers by name, with the learning rate each begins with unless told otherwise."""
PRECISIONS = ("auto", "32", "bf16", "fp16")
NORMS = ("auto", "train", "freeze")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Settings:
    """What fine-tuning is asked to do.

    - ``loss``, ``temperature``: see ``losses.resolve``; with a teacher and labels, ``auto`` is the divergence from the
      teacher, and ``label_weight`` of it the loss from the labels.
    - ``lr``: the highest learning rate (None: 0.001 for AdamW, 0.01 for SGD). It rises over the first ``warmup`` of all
      steps and falls to 0 along a half cosine (Loshchilov and Hutter 2017).
    - ``optimizer``: "adamw" (decoupled decay, Loshchilov and Hutter 2019) or "sgd" with Nesterov momentum 0.9;
      ``weight_decay`` spares biases and the scales of normalisations.
    - ``batch_size``: samples a step, over all processes together.
    - ``precision``: "32", "bf16" or "fp16" (mixed), or "auto": bf16 where a GPU has it, fp16 on an older one, else 32.
    - ``holdout``: the fraction of the samples that is never trained on; the weights that do best there are kept.
      ``patience``: how many epochs without a new best end the run (None: none do).
    - ``batch_norm``: "train" by the batch's statistics, "freeze" at the running ones, or "auto": freeze where a process
      sees fewer than 8 samples at once. Each process normalises by its own share of a step.
    """

    loss: str | Callable[..., Any] = "auto"
    temperature: float = 1.0
    label_weight: float = 0.5
    epochs: int = 3
    lr: float | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    warmup: float = 0.05
    batch_size: int = 32
    precision: str = "auto"
    seed: int = 0
    holdout: float = 0.1
    patience: int | None = None
    batch_norm: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raise UsageError, naming the option, for a value that makes no sense for any model."""
        _one_of("optimizer", self.optimizer, tuple(OPTIMISERS))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("batch_norm", self.batch_norm, NORMS)
        _one_of("device", self.device, DEVICES)
        _whole("epochs", self.epochs, 1)
        _whole("batch_size", self.batch_size, 1)
        _whole("seed", self.seed, 0)
        if self.patience is not None:
            _whole("patience", self.patience, 1)
        _between("lr", self.rate, 0, math.inf, least_included=False)
        _between("weight_decay", self.weight_decay, 0, math.inf)
        _between("temperature", self.temperature, 0, math.inf, least_included=False)
        _between("label_weight", self.label_weight, 0, 1, most_included=True)
        _between("warmup", self.warmup, 0, 1)
        _between("holdout", self.holdout, 0, 1)
        if self.patience is not None and self.holdout == 0:
            words = "without held-out samples there is nothing to see improvement by"
            raise UsageError("bad-patience", words, where="--patience", hint="give --holdout 0.1, or no patience")

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return OPTIMISERS[self.optimizer] if self.lr is None else self.lr

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, with the learning rate that is used."""
        loss = self.loss if isinstance(self.loss, str) else getattr(self.loss, "__qualname__", "function")
        return asdict(replace(self, loss="")) | {"lr": self.rate, "loss": loss}


def option(name: str) -> str:
    """Return how an option is written on the command line."""
    return f"--{name.replace('_', '-')}"


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        words = f"{value!r} is not one of {', '.join(allowed)}"
        raise UsageError(_code(name), words, where=option(name), hint=f"give {' or '.join(allowed)}")


def _whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        words = f"{value!r} is not a whole number of at least {least}"
        raise UsageError(_code(name), words, where=option(name), hint=f"give {least} or more")


def _between(
    name: str, value: float, low: float, high: float, *, least_included: bool = True, most_included: bool = False
) -> None:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    fits = (
        number
        and (value >= low if least_included else value > low)
        and (value < high or (most_included and value <= high))
    )
    if not fits:
        least = "at least" if least_included else "more than"
        most = "" if high == math.inf else f" and {'at most' if most_included else 'less than'} {high:g}"
        words = f"{value!r} is not {least} {low:g}{most}"
        raise UsageError(_code(name), words, where=option(name), hint=f"give a number {least} {low:g}{most}")


def _code(name: str) -> str:
    return f"bad-{name.replace('_', '-')}"
