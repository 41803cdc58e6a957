"""Training gates in a line, and what there is to learn."""

from __future__ import annotations

from typing import Any

import torch
from gated_models import classes

import graphprune as gp
from graphprune.gating.options import GateTraining
from graphprune.gating.training import Method, Trained, train_gates
from graphprune.gating.vib import VibGate, worth

VIB = Method(VibGate, worth)
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "device": "cpu"}


def labelled(count: int = 200) -> dict[str, Any]:
    return classes(count, 16, of=10)


def learn(model: Any, data: Any, example: Any = None, method: Method = VIB, **options: Any) -> Trained:
    graph = gp.trace(model) if example is None else gp.trace(model, example)
    return train_gates(graph, gp.couple(graph), GateTraining(data=data, **{**QUICK, **options}), method, "vib")


def states(trained: Trained) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trained.model.module.state_dict().items()}
