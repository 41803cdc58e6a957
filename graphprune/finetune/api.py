"""Fine-tuning from end to end: open, check, train, give the best weights back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data import Preprocess, open_samples
from . import checkpoint
from .engine import start
from .extras import NOTHING, Extras
from .job import Job, prepare
from .report import FinetuneReport
from .scoring import measure_of
from .settings import Settings
from .state import Progress, State, keep, resume, set_weights
from .student import Model, Trainee, trainee
from .teacher import teacher_of, with_batch_of
from .train import begin, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto

EVERY = 60.0
"""Seconds between checkpoints within an epoch."""


@dataclass(frozen=True)
class Tuned:
    """What a run gives: the model with the best weights, the report, and whether this process is to write.

    ``noted`` has what was observed after each epoch (see ``extras``).
    """

    model: Any
    report: FinetuneReport
    writes: bool
    noted: tuple[Mapping[str, Any], ...] = ()


def silent(_progress: Progress) -> None:
    """Report no progress."""


def finetune(
    model: Model,
    *,
    data: Any,
    teacher: Model | None = None,
    labels: str | None = None,
    preprocess: str | Path | Preprocess | None = None,
    example_inputs: Any = None,
    loss: str | Callable[..., Tensor] = "auto",
    temperature: float = 1.0,
    label_weight: float = 0.5,
    epochs: int = 3,
    lr: float | None = None,
    optimizer: str = "adamw",
    weight_decay: float = 0.01,
    warmup: float = 0.05,
    batch_size: int = 32,
    precision: str = "auto",
    seed: int = 0,
    holdout: float = 0.1,
    patience: int | None = None,
    batch_norm: str = "auto",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = EVERY,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[ModelProto | nn.Module, FinetuneReport]:
    """Train a model, most often a pruned one, to do what its teacher does, what labels say, or both.

    ``model`` and ``teacher`` are paths of ONNX files, ONNX models in memory or torch modules; neither is changed. The
    result is of the model's kind: an ONNX model in which only trained values differ, or a copy of the module. ``data``,
    ``labels`` and ``preprocess`` are as ``data.open_samples`` takes them; ``example_inputs`` (a tuple or a dictionary)
    says what a module is fed where its forward does not. The other options are told at ``Settings``; ``loss`` may also
    be a function of (outputs, targets, labels).

    ``checkpoint`` names a file that holds the run at the end of every epoch and each ``checkpoint_every`` seconds; with
    ``resume`` a run continues from it, and on the CPU, with as many threads, ends with the very weights it would have
    had. It is refused for another model, other data or other options. Under torchrun all processes train together, and
    all return the result; only the first writes checkpoints.

    Raises UsageError for options and data that do not fit, ModelError for a model that cannot be read or trained.
    """
    settings = Settings(
        loss=loss, temperature=temperature, label_weight=label_weight, epochs=epochs, lr=lr, optimizer=optimizer,
        weight_decay=weight_decay, warmup=warmup, batch_size=batch_size, precision=precision, seed=seed,
        holdout=holdout, patience=patience, batch_norm=batch_norm, device=device,
    )  # fmt: skip
    given = Given(model, data, teacher, labels, preprocess, example_inputs)
    place = None if checkpoint is None else Place(Path(checkpoint), checkpoint_every, resume)
    tuned = run(given, settings, place, progress or silent)
    return tuned.model, tuned.report


@dataclass(frozen=True)
class Given:
    """What is trained, on what, and from whom; see ``finetune``."""

    model: Model
    data: Any
    teacher: Model | None = None
    labels: str | None = None
    preprocess: str | Path | Preprocess | None = None
    example_inputs: Any = None


@dataclass(frozen=True)
class Place:
    """Where checkpoints go, every how many seconds, and whether one that is there is taken up."""

    path: Path
    every: float = EVERY
    resume: bool = True


def run(given: Given, settings: Settings, place: Place | None, tell: Callable[[Progress], None] = silent) -> Tuned:
    """Do what ``finetune`` does, and say as well which process writes."""
    if place is not None:
        checkpoint.check_place(place.path)
    return train_on(trainee(given.model, given.example_inputs), given, settings, place, tell)


def train_on(
    trained: Trainee, given: Given, settings: Settings, place: Place | None = None,
    tell: Callable[[Progress], None] = silent, extras: Extras = NOTHING,
) -> Tuned:  # fmt: skip
    """Train what has been opened already, in place, on the data and from the teacher that ``given`` names."""
    with _states_kept(trained):
        engine = start(settings.device, settings.precision, static=trained.static)
        settings = replace(settings, precision=engine.precision)
        teacher = None
        if given.teacher is not None:
            teacher = teacher_of(given.teacher, trained.specs, engine.device, keywords=trained.student.keywords)
        specs = with_batch_of(trained.specs, teacher)
        samples = open_samples(given.data, specs, labels=given.labels, preprocess=given.preprocess)
        job = prepare(settings, engine, trained, teacher, samples, extras)
        state, began_at, early = _work(job, place, tell)
    report = _report(job, state, began_at, stopped_early=early)
    return Tuned(trained.finish(), report, engine.writes, tuple(state.noted))


def _work(job: Job, place: Place | None, tell: Callable[[Progress], None]) -> tuple[State, int | None, bool]:
    """Train from the checkpoint or the beginning; return the end, where it went on from, and if it ended early."""
    made_with = _made_with(job)
    found = checkpoint.load(place.path, made_with) if place is not None and place.resume else None
    job.engine.wait()
    state = resume(job, found) if found is not None else begin(job)
    began_at = state.done if found is not None else None

    def save() -> None:
        if place is not None:
            keep(job, state, place.path, made_with)

    epochs, steps = job.settings.epochs, job.steps
    tell(Progress(state.epoch, epochs, state.step, steps, None, state.best_score if state.step == 0 else None))
    early = train(job, state, save, tell, place.every if place is not None else float("inf"))
    if state.best:
        set_weights(job, state.best)
    return state, began_at, early


@contextmanager
def _states_kept(trained: Trainee) -> Iterator[None]:
    """Leave torch's generators, and the module's modes and device, as they were found."""
    core = trained.student.core
    modes = [(module, module.training) for module in core.modules()]
    home = next((p.device for p in core.parameters()), torch.device("cpu"))
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield
    core.to(home)
    for module, training in modes:
        module.training = training


def _made_with(job: Job) -> dict[str, Any]:
    """Return what a checkpoint must share with the run that takes it up; the device and the processes may differ."""
    settings = job.settings.to_dict()
    del settings["device"]
    return {
        "model": job.trainee.digest,
        "teacher": None if job.teacher is None else job.teacher.digest,
        "number of samples": len(job.train) + (0 if job.held is None else len(job.held)),
        "data": job.data,
        **settings,
        **job.extras.made_with,
    }


def _report(job: Job, state: State, began_at: int | None, *, stopped_early: bool) -> FinetuneReport:
    from .. import __version__

    return FinetuneReport(
        settings=job.settings.to_dict(),
        loss=f"{job.loss.name}: {job.loss.words}",
        measure=measure_of(job.outputs) if job.teacher is not None and job.held is not None else None,
        samples={"trained": len(job.train), "held out": 0 if job.held is None else len(job.held)},
        before=state.before,
        after=state.best_score if job.held is not None else None,
        history=tuple(state.history),
        best_epoch=state.best_epoch,
        stopped_early=stopped_early,
        steps=state.done,
        resumed_at=began_at,
        processes=job.engine.world,
        device=str(job.engine.device),
        precision=job.settings.precision,
        warnings=(*job.warnings, *_worth_telling(job, state)),
        version=__version__,
    )


def _worth_telling(job: Job, state: State) -> tuple[str, ...]:
    if job.held is not None and state.best_epoch == 0:
        return ("training never did better on the held-out samples: the weights are those of the input",)
    return ()
