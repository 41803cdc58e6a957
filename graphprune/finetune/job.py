"""A run made ready: model, teacher, loss, data and processes, all checked against each other on a first batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import losses
from ..data import Batch, Samples
from ..data.samples import Array
from ..errors import ModelError, UsageError
from ..losses import Loss
from ..outputs import OutputSpec, describe_outputs
from .engine import Engine
from .extras import NOTHING, Extras
from .optimiser import optimiser, trainable
from .scoring import class_output
from .settings import Settings
from .student import Feeds, Trainee, evaluating
from .teacher import Source, check_outputs

PROBE = 16
"""Samples that outputs are described by and scales are measured on."""
FEW = 8
"""Statistics of fewer samples than this are too noisy to normalise by."""
NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Job:
    """Everything a run works with; only the weights and the optimiser change.

    ``trained`` is the student as the processes train it together, ``stepping`` the optimiser as the precision steps it.
    ``data`` tells one set of samples from another.
    """

    settings: Settings
    engine: Engine
    trainee: Trainee
    parameters: dict[str, nn.Parameter] = field(repr=False)
    trained: nn.Module = field(repr=False)
    optimizer: Optimizer = field(repr=False)
    stepping: Any = field(repr=False)
    teacher: Source | None
    outputs: tuple[OutputSpec, ...]
    loss: Loss
    train: Samples
    held: Samples | None
    frozen_norms: tuple[nn.Module, ...] = field(repr=False)
    data: str
    warnings: tuple[str, ...] = ()
    extras: Extras = NOTHING

    @property
    def core(self) -> nn.Module:
        """The module that is trained."""
        return self.trainee.student.core

    @property
    def steps(self) -> int:
        """Steps an epoch takes."""
        return self.train.steps_in(self.settings.batch_size)


def prepare(
    settings: Settings, engine: Engine, trainee: Trainee, teacher: Source | None, samples: Samples,
    extras: Extras = NOTHING,
) -> Job:  # fmt: skip
    """Bring all parts together.

    Raises UsageError where they do not fit: data and model, teacher and model, loss and outputs, labels and outputs.
    """
    train, held = _split(samples, settings)
    student = trainee.student.to(engine.device)
    parameters = trainable(student.core)
    seen = probe(trainee, teacher, train, engine)
    loss = choose_loss(settings, seen, teacher=teacher is not None, labels=samples.has_labels)
    if trainee.static:
        parameters = _reached(parameters, loss, seen, extras)
    optimizer = optimiser(parameters, settings, extras)
    trained, stepping = engine.setup(student, optimizer)
    norms, told = _norms(student, settings, engine, train)
    warnings = (*train.notes, *told)
    return Job(
        settings, engine, trainee, parameters, trained, optimizer, stepping, teacher, seen.outputs, loss, train, held,
        norms, digest_of(samples), warnings, extras,
    )  # fmt: skip


def _split(samples: Samples, settings: Settings) -> tuple[Samples, Samples | None]:
    train, held = samples.split(settings.holdout, settings.seed)
    train.steps_in(settings.batch_size)
    return train, held if len(held) else None


@dataclass(frozen=True)
class Probe:
    """A first batch: what the outputs mean, the outputs themselves, with gradients, the teacher's, and the labels."""

    outputs: tuple[OutputSpec, ...]
    ours: tuple[Tensor, ...]
    theirs: tuple[Tensor, ...] | None
    labels: Tensor | None
    size: int


def probe(trainee: Trainee, teacher: Source | None, samples: Samples, engine: Engine) -> Probe:
    """Run the first samples; raises UsageError where outputs are no tensors, or not the teacher's."""
    batch = samples.take(np.arange(samples.fixed_batch or min(PROBE, len(samples))))
    feeds = feeds_of(batch, engine.device)
    with evaluating(trainee.student), torch.enable_grad():
        ours = trainee.student(feeds)
    if not ours:
        words = "the model's outputs are not tensors, nor tuples, lists or dictionaries of them"
        raise UsageError("outputs-unknown", words, where="model", hint="wrap it in a module that returns tensors")
    outputs, theirs = describe_outputs(ours, trainee.outputs), None
    if teacher is not None:
        theirs = ask(teacher, feeds, engine)
        check_outputs(ours, theirs, trainee.outputs)
    return Probe(outputs, ours, theirs, labels_of(batch, outputs, engine.device), batch.size)


def _reached(
    parameters: dict[str, nn.Parameter], loss: Loss, seen: Probe, extras: Extras
) -> dict[str, nn.Parameter]:  # fmt: skip
    """Return the parameters that the loss depends on; the others are frozen, so that no process waits for them.

    Those with a rate of their own count as well: some have a part in training alone, which the probe does not see.
    """
    value = loss(seen.ours, seen.theirs, seen.labels, batch=seen.size).sum()
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True) if value.requires_grad else ()
    used = {n for n, g in zip(parameters, found, strict=bool(found)) if g is not None}
    reached = {n: p for n, p in parameters.items() if n in used or extras.rate_of(n) is not None}
    if not used:
        hint = "choose a loss of outputs that weights have a part in"
        raise ModelError("nothing-to-train", "no weight has a part in the loss", hint=hint)
    for name in parameters.keys() - reached.keys():
        parameters[name].requires_grad_(False)
    return reached


def ask(teacher: Source, feeds: Feeds, engine: Engine) -> tuple[Tensor, ...]:
    """Return the teacher's outputs, on the run's device and at its precision."""
    with torch.no_grad(), engine.autocast():
        return widened(tuple(t.to(engine.device) for t in teacher.call(feeds)))


def widened(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return outputs in single precision where they are in half: what a loss is computed with."""
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in outputs)


def choose_loss(settings: Settings, seen: Probe, *, teacher: bool, labels: bool) -> Loss:
    """Return the loss of a run: from the teacher, from the labels, or from both; raises UsageError."""
    outputs, targets = seen.outputs, seen.theirs
    name, scales = settings.loss, losses.variances(targets) if targets is not None else None
    if name != "auto":
        told = name if isinstance(name, str) else "this loss"
        loss = losses.resolve(name, outputs, labels, temperature=settings.temperature, scales=scales)
        if loss.needs_targets and not teacher:
            hint = "give the original model with --teacher, or labels and --loss ce"
            raise UsageError("teacher-missing", f"{told} needs a teacher", where="--teacher", hint=hint)
        return loss
    if not teacher and not labels:
        words = "there is neither a teacher nor labels to learn from"
        hint = "give the original model with --teacher, or data with labels"
        raise UsageError("teacher-missing", words, where="--teacher", hint=hint)
    parts = []
    if teacher:
        parts.append(losses.resolve(name, outputs, False, temperature=settings.temperature, scales=scales))
    if labels:
        parts.append(losses.resolve(name, outputs, True))
    return parts[0] if len(parts) == 1 else losses.mixed(parts[0], parts[1], settings.label_weight)


def feeds_of(batch: Batch, device: torch.device) -> Feeds:
    """Return a batch as tensors on a device."""
    return Feeds({name: to_tensor(array).to(device) for name, array in batch.inputs.items()}, batch.inputs)


def to_tensor(array: Array) -> Tensor:
    """Return an array as a tensor; what cannot be written to, as a file mapped into memory, is copied."""
    if array.dtype.name == "bfloat16":
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array) if array.flags.writeable and array.flags.c_contiguous else torch.tensor(array)


def labels_of(batch: Batch, outputs: tuple[OutputSpec, ...], device: torch.device) -> Tensor | None:
    """Return a batch's labels on the device; raises UsageError for class numbers that the outputs do not have."""
    labels = batch.labels
    if labels is None:
        return None
    k, numbered = class_output(outputs), labels.dtype.kind in "iu"
    if k is not None and numbered and labels.size:
        low, high, classes = int(labels.min()), int(labels.max()), outputs[k].size
        if high >= classes or (low < 0 and low != losses.IGNORED):
            words = f"labels from {low} to {high}, but {outputs[k].name!r} has {classes} classes"
            raise UsageError("labels-mismatch", words, where="--labels", hint=f"number the classes 0 to {classes - 1}")
    return to_tensor(labels.astype(np.int64) if numbered else labels).to(device)


def _norms(
    student: nn.Module, settings: Settings, engine: Engine, train: Samples
) -> tuple[tuple[nn.Module, ...], tuple[str, ...]]:  # fmt: skip
    """Return the batch normalisations to keep at their running statistics, and a note if that was decided here."""
    from ..interpret.ops_norm import BatchNorm

    norms = tuple(
        m for m in student.modules() if isinstance(m, (*NORMS, BatchNorm)) or getattr(m, "moves_statistics", False)
    )
    fewest = train.fixed_batch or len(train) // train.steps_in(settings.batch_size) // engine.world
    if settings.batch_norm == "train" or not norms or (settings.batch_norm == "auto" and fewest >= FEW):
        return (), ()
    if settings.batch_norm == "freeze":
        return norms, ()
    words = f"batch normalisation keeps its statistics: only {fewest} samples are seen at once (--batch-norm train)"
    return norms, (words,)


def digest_of(samples: Samples) -> str:
    """Return a hash of the first sample, which tells most data sets apart."""
    batch = samples.take(np.arange(samples.fixed_batch or 1))
    digest = hashlib.sha256()
    for name, array in _arrays(batch):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays(batch: Batch) -> Iterator[tuple[str, Array]]:
    yield from batch.inputs.items()
    if batch.labels is not None:
        yield "labels", batch.labels
