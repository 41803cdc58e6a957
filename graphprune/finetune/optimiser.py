"""Optimisers and the learning rate, each a plain function of the step, and their state under the parameters' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ModelError
from .extras import NOTHING, Extras
from .settings import Settings

MOMENTUM = 0.9
TIMES = "times"
"""Where an optimiser's group of parameters says how many times the learning rate it has."""


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are to be trained, by name; raises ModelError where there are none."""
    found = {name: p for name, p in module.named_parameters() if p.requires_grad and p.is_floating_point()}
    if not found:
        hint = "of a module, leave requires_grad on; of an ONNX model, train it before it is quantised"
        raise ModelError("nothing-to-train", "the model has no parameter to train", hint=hint)
    return found


def optimiser(parameters: Mapping[str, nn.Parameter], settings: Settings, extras: Extras = NOTHING) -> Optimizer:
    """Return the optimiser: weight decay for all that has two axes or more, none for biases, scales and the extras'."""
    own = {name: rate for name in parameters if (rate := extras.rate_of(name)) is not None}
    plain = [p for name, p in parameters.items() if name not in own]
    groups = [
        {"params": [p for p in plain if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in plain if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups += [
        {"params": [parameters[n] for n in own if own[n] == rate], "weight_decay": 0.0, TIMES: rate}
        for rate in dict.fromkeys(own.values())
    ]
    filled = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        # On the CPU one kernel for all steps of the update takes a third of the time.
        fused = all(p.device.type == "cpu" for p in parameters.values())
        return torch.optim.AdamW(filled, lr=settings.rate, fused=fused or None)
    return torch.optim.SGD(filled, lr=settings.rate, momentum=MOMENTUM, nesterov=True)


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """Return the rate of a step, of 0 to ``steps`` - 1: a linear rise, then half a cosine down to nearly 0."""
    rise = round(settings.warmup * steps)
    if step < rise:
        return settings.rate * (step + 1) / (rise + 1)
    return settings.rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters, times what their group has of its own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(TIMES, 1.0)


def state_of(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimiser's tensors as ``NAME/KEY``; a parameter that never had a gradient has none."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Set the optimiser's tensors as ``state_of`` gave them."""
    for path, value in state.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        entry: dict[str, Any] = optimizer.state[parameter]
        # AdamW's count of steps stays on the CPU, as it makes it.
        entry[key] = value.clone() if value.ndim == 0 else value.to(parameter.device, copy=True)
