"""Optimisers and the learning rate, each a plain function of the step, and their state under the parameters' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ModelError
from .settings import Settings

MOMENTUM = 0.9


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are to be trained, by name; raises ModelError where there are none."""
    found = {name: p for name, p in module.named_parameters() if p.requires_grad and p.is_floating_point()}
    if not found:
        hint = "of a module, leave requires_grad on; of an ONNX model, train it before it is quantised"
        raise ModelError("nothing-to-train", "the model has no parameter to train", hint=hint)
    return found


def optimiser(parameters: Mapping[str, nn.Parameter], settings: Settings) -> Optimizer:
    """Return the optimiser: weight decay for all that has two axes or more, none for biases and scales."""
    decayed = [p for p in parameters.values() if p.ndim > 1]
    others = [p for p in parameters.values() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    filled = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(filled, lr=settings.rate)
    return torch.optim.SGD(filled, lr=settings.rate, momentum=MOMENTUM, nesterov=True)


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """Return the rate of a step, of 0 to ``steps`` - 1: a linear rise, then half a cosine down to nearly 0."""
    rise = round(settings.warmup * steps)
    if step < rise:
        return settings.rate * (step + 1) / (rise + 1)
    return settings.rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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
