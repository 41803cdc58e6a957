"""Small things to fine-tune: data that can be learned, a net, and a run made ready."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from models import mlp
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from graphprune.data import open_samples
from graphprune.finetune import Settings
from graphprune.finetune.engine import Engine, start
from graphprune.finetune.extras import NOTHING, Extras
from graphprune.finetune.job import Job, prepare
from graphprune.finetune.student import trainee
from graphprune.finetune.teacher import teacher_of
from graphprune.finetune.train import gradients

SETTINGS = Settings(epochs=2, batch_size=16, precision="32", device="cpu")


def samples(count: int = 200, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Ten classes of points in 16 dimensions, each around a centre of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    centres = np.random.default_rng(99).standard_normal((10, 16))
    return {"x": (centres[labels] + 0.5 * rng.standard_normal((count, 16))).astype(np.float32), "labels": labels}


def unlabelled(count: int = 200, seed: int = 0) -> dict[str, NDArray[Any]]:
    return {"x": samples(count, seed)["x"]}


def job_of(
    settings: Settings = SETTINGS, model: ModelProto | None = None, teacher: ModelProto | None = None, data: Any = None,
    extras: Extras = NOTHING,
) -> Job:  # fmt: skip
    """A run made ready; by default a net learns from another of other weights, without labels."""
    engine: Engine = start("cpu", "32", static=True)
    trained = trainee(mlp(batch="N") if model is None else model)
    source = teacher_of(mlp(batch="N", seed=1) if teacher is None else teacher, trained.specs, torch.device("cpu"))
    opened = open_samples(unlabelled() if data is None else data, trained.specs)
    return prepare(settings, engine, trained, source, opened, extras)


def gradients_of(job: Job, size: int) -> dict[str, NDArray[Any]]:
    """The gradients of one step over the first samples."""
    share = job.train.first(size).step(0, size, rank=job.engine.rank, world=job.engine.world)
    gradients(job, share.batches, share.total)
    found: dict[str, Tensor | None] = {name: p.grad for name, p in job.parameters.items()}
    return {name: g.numpy().copy() for name, g in found.items() if g is not None}
