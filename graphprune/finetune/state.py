"""Where a run is: what it found so far, its best weights, and how it is kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, optimiser
from .checkpoint import Checkpoint
from .job import Job
from .report import Epoch, Score, epoch_of, score_of

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """Where a run is: in ``epoch`` of ``epochs``, after ``step`` of ``steps``, with the mean loss of the epoch so far.

    ``held_out`` is the score at the end of an epoch (and before the first, as epoch 0), None in between.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    held_out: Score | None = None


Tell = Callable[[Progress], None]


@dataclass
class State:
    """Where a run is and what it found so far. ``loss`` sums over the ``seen`` samples of the epoch in progress.

    ``noted`` has what was observed after each epoch (see ``extras``).
    """

    epoch: int = 0
    step: int = 0
    done: int = 0
    loss: float = 0.0
    seen: int = 0
    best_epoch: int = 0
    before: Score | None = None
    history: list[Epoch] = field(default_factory=list)
    best: Weights = field(default_factory=dict, repr=False)
    noted: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best_score(self) -> Score | None:
        """The held-out score of the best weights."""
        return self.history[self.best_epoch - 1].held_out if self.best_epoch else self.before

    def to_dict(self) -> dict[str, Any]:
        """Return all but the weights as plain data."""
        plain = {key: value for key, value in vars(self).items() if key not in ("best", "before", "history")}
        before = None if self.before is None else asdict(self.before)
        return {**plain, "before": before, "history": [asdict(epoch) for epoch in self.history]}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], best: Weights) -> State:
        """Return a state from its plain data and the best weights."""
        history = [epoch_of(entry) for entry in body["history"]]
        return cls(**{**body, "before": score_of(body["before"]), "history": history, "best": best})


def weights_of(job: Job) -> Weights:
    """Return a copy of the weights and running statistics."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors_of(job).items()}


def tensors_of(job: Job) -> Weights:
    """Return the model's parameters and buffers by name, each tensor once."""
    return {**dict(job.core.named_parameters()), **dict(job.core.named_buffers())}


def set_weights(job: Job, weights: Weights) -> None:
    """Give the model these weights."""
    with torch.no_grad():
        for name, tensor in tensors_of(job).items():
            tensor.copy_(weights[name])


def keep(job: Job, state: State, path: Path, made_with: Mapping[str, Any]) -> None:
    """Write a checkpoint of a run; only one process does."""
    if not job.engine.writes:
        return
    parts = {
        "model": tensors_of(job),
        "best": state.best,
        "optimizer": optimiser.state_of(job.optimizer, job.parameters),
    }
    tensors = {f"{part}/{name}": tensor for part, held in parts.items() for name, tensor in held.items()}
    body = {**state.to_dict(), "scaling": job.engine.scaling()}
    checkpoint.save(path, Checkpoint(tensors, body, made_with))


def resume(job: Job, found: Checkpoint) -> State:
    """Take up a run where a checkpoint left it."""
    body = dict(found.state)
    job.engine.restore_scaling(body.pop("scaling"))
    set_weights(job, found.part("model"))
    optimiser.restore(job.optimizer, job.parameters, found.part("optimizer"))
    return State.from_dict(body, found.part("best"))
