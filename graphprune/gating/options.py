"""How gates are trained, checked before anything is read. Importing this does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import UsageError
from ..scoring import choice
from .places import COUNTINGS, Counting

Target = Literal["auto", "labels", "model"]


@dataclass(frozen=True)
class GateTraining:
    """What training weights and gates together is asked to do.

    - ``data``, ``labels``, ``preprocess`` are as ``data.open_samples`` takes them. ``target`` is what is learned:
      "labels", what the original answers ("model"), or "auto": the labels where the data has any. ``loss`` is as
      ``losses.resolve`` takes it.
    - ``kl`` multiplies the gates' divergence beside the mean loss; None is 1 over the number of samples trained on, as
      the evidence lower bound has it. It rises from 0 over the first ``kl_warmup`` of all steps. ``positions`` says how
      much a group counts (see ``places.Gating.weights``).
    - ``lr`` is the highest learning rate of the weights, ``gate_lr`` that of the gates (None: the same), both along
      half a cosine after ``warmup``. ``weight_decay`` is the weights' alone.
    - ``threshold``: units whose log ratio is above it are kept, and at least ``min_keep`` of every group.
    - ``gate_inputs`` gives the features of the input a gate as well, ``interior_only`` spares residual streams.
    - ``holdout`` is the share of samples that is watched, never trained on. ``checkpoint`` names a file that a run that
      was broken off goes on from.
    """

    data: Any = field(default=None, compare=False, repr=False)
    labels: str | None = None
    preprocess: Any = None
    target: Target = "auto"
    loss: str | Callable[..., Any] = "auto"
    epochs: int = 30
    lr: float = 1e-3
    gate_lr: float | None = None
    kl: float | None = None
    kl_warmup: float = 0.0
    positions: Counting = "root"
    threshold: float = 0.0
    min_keep: int = 1
    gate_inputs: bool = False
    interior_only: bool = False
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    warmup: float = 0.0
    batch_size: int = 128
    batch_norm: str = "auto"
    holdout: float = 0.1
    seed: int = 0
    device: str = "auto"
    precision: str = "32"
    checkpoint: Any = None
    tell: Callable[[Any], None] | None = field(default=None, compare=False, repr=False)

    def weighed(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return what the gates' divergences count, by group in graph order, from what their places say: the same."""
        return dict(weights)

    def check(self, method: str) -> None:
        """Raise UsageError, naming the option, for a value that makes no sense; those of training are checked there."""
        choice(method, "target", self.target, ("auto", "labels", "model"))
        choice(method, "positions", self.positions, COUNTINGS)
        _number(method, "kl", self.kl, 0)
        _number(method, "gate_lr", self.gate_lr, 0)
        _number(method, "kl_warmup", self.kl_warmup, 0, 1)
        _number(method, "threshold", self.threshold, -math.inf)
        if not isinstance(self.min_keep, int) or isinstance(self.min_keep, bool) or self.min_keep < 1:
            hint = "give 1 or more"
            raise UsageError("bad-option", f"{self.min_keep!r} is not a whole number", where="min_keep", hint=hint)


def _number(method: str, name: str, value: float | None, low: float, high: float = math.inf) -> None:
    if value is None or (isinstance(value, (int, float)) and low <= value <= high and math.isfinite(value)):
        return
    words = f"{method} has no {name} {value!r}"
    raise UsageError("bad-option", words, where=name, hint=f"give a number from {low:g} to {high:g}")
