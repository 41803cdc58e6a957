"""The loop: steps, epochs, held-out scores, the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..data import Batch
from ..errors import ModelError
from ..logs import logger
from . import optimiser, scoring
from .job import Job, ask, feeds_of, labels_of, widened
from .report import Epoch, Score
from .state import Progress, State, Tell, weights_of
from .student import evaluating


def begin(job: Job) -> State:
    """Return the state before the first step, with the score of the model as it was given."""
    state = State()
    if job.held is not None:
        state.before = evaluate(job)
        state.best = {} if job.extras.keep_last else weights_of(job)
    return state


def train(job: Job, state: State, save: Callable[[], None], tell: Tell, every: float) -> bool:
    """Train from where the state is to the end; return whether it ended early.

    ``save`` is called at the end of every epoch, and within one when ``every`` seconds have passed. Raises ModelError
    when the loss is no longer finite.
    """
    while state.epoch < job.settings.epochs:
        if _stalled(job, state):
            return True
        _run_epoch(job, state, save, tell, every)
        _close_epoch(job, state, tell)
        save()
    return False


def _stalled(job: Job, state: State) -> bool:
    patience = job.settings.patience
    return patience is not None and state.step == 0 and state.epoch - state.best_epoch >= patience


def _run_epoch(job: Job, state: State, save: Callable[[], None], tell: Tell, every: float) -> None:
    settings, engine = job.settings, job.engine
    samples, saved = job.train.shuffled(settings.seed, state.epoch), time.monotonic()
    while state.step < job.steps:
        # Each step draws from a generator of its own, so that a run that was resumed draws the same.
        engine.seed(_seed(settings.seed, state.done, engine.rank))
        share = samples.step(state.step, settings.batch_size, rank=engine.rank, world=engine.world)
        optimiser.set_rate(job.optimizer, optimiser.learning_rate(state.done, settings.epochs * job.steps, settings))
        loss = take_step(job, share.batches, share.total, state.done)
        state.loss, state.seen = state.loss + loss, state.seen + share.total
        state.step, state.done = state.step + 1, state.done + 1
        tell(Progress(state.epoch + 1, settings.epochs, state.step, job.steps, state.loss / state.seen))
        if time.monotonic() - saved >= every and state.step < job.steps:
            save()
            saved = time.monotonic()


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint32)[0])


def take_step(job: Job, batches: tuple[Batch, ...], total: int, done: int = 0) -> float:
    """Make one step with this process's share of ``total`` samples; return the sum of all processes' losses.

    ``done`` counts the steps before it. Raises ModelError when the sum is not finite: the weights are then as before.
    """
    summed = gradients(job, batches, total, done)
    if not math.isfinite(summed):
        words = f"the sum of a step's losses is {summed}: training has diverged"
        raise ModelError("loss-not-finite", words, where="training", hint="give a lower --lr, or --precision 32")
    job.stepping.step()
    job.stepping.zero_grad()
    if job.extras.after_step is not None:
        job.extras.after_step()
    return summed


def gradients(job: Job, batches: tuple[Batch, ...], total: int, done: int = 0) -> float:
    """Add the gradients of the mean loss over ``total`` samples, of which this process has some; return their sum.

    The processes' gradients are averaged, so each counts its own sum ``world`` times over: then every sample counts
    alike however unevenly they are shared. A penalty is added to the last batch's loss, before gradients are averaged.
    """
    engine = job.engine
    shares = batches or (job.train.take(np.arange(job.train.fixed_batch or 1)),)
    _set_modes(job)
    # A process without a sample goes through the motions, so that the others need not wait for it for ever.
    weight = engine.world / total if batches else 0.0
    summed = torch.zeros((), dtype=torch.float64, device=engine.device)
    for k, batch in enumerate(shares):
        feeds, labels = feeds_of(batch, engine.device), labels_of(batch, job.outputs, engine.device)
        with engine.gathering(job.trained, enabled=k == len(shares) - 1):
            ours = job.trained(feeds)
            theirs = ask(job.teacher, feeds, engine) if job.teacher is not None else None
            losses = job.loss(ours, theirs, labels, batch=batch.size)
            loss = losses.sum() * weight
            if job.extras.penalty is not None and k == len(shares) - 1:
                loss = loss + job.extras.penalty(job, done)
            engine.backward(loss)
        summed += losses.detach().double().sum() if batches else 0.0
    return float(engine.total(summed))


def _set_modes(job: Job) -> None:
    job.trainee.student.train()
    for norm in job.frozen_norms:
        norm.eval()


def _close_epoch(job: Job, state: State, tell: Tell) -> None:
    """Score the held-out samples and note whether the epoch was the best so far."""
    job.engine.share(job.core.buffers())
    score = evaluate(job) if job.held is not None else None
    loss = state.loss / state.seen
    state.epoch, state.step, state.loss, state.seen = state.epoch + 1, 0, 0.0, 0
    best = state.best_score
    state.history.append(Epoch(state.epoch, loss, score))
    if job.extras.observe is not None:
        state.noted.append(dict(job.extras.observe(job, state)))
    if job.extras.keep_last or score is None or best is None or score.loss < best.loss:
        state.best_epoch = state.epoch
        state.best = {} if score is None or job.extras.keep_last else weights_of(job)
    logger("finetune").info("epoch %d of %d: loss %.4g, held out: %s", state.epoch, job.settings.epochs, loss, score)
    tell(Progress(state.epoch, job.settings.epochs, job.steps, job.steps, loss, score))


def evaluate(job: Job) -> Score:
    """Score the model on the held-out samples, all processes together; raises ModelError for an infinite loss."""
    assert job.held is not None
    engine = job.engine
    sums = torch.zeros(4, dtype=torch.float64, device=engine.device)
    with evaluating(job.trainee.student), torch.no_grad():
        for batch in job.held.batches(_batch(job), rank=engine.rank, world=engine.world):
            sums += _sums(job, batch)
    loss, agreed, met, count = engine.total(sums).tolist()
    if not math.isfinite(loss):
        words = f"the sum of the losses on the held-out samples is {loss}"
        hint = "give a lower --lr, or --precision 32"
        raise ModelError("loss-not-finite", words, where="held-out samples", hint=hint)
    accuracy = met / count if math.isfinite(met) and job.held.has_labels else None
    return Score(loss / count, agreed / count if job.teacher is not None else None, accuracy)


def _sums(job: Job, batch: Batch) -> Tensor:
    """Return the sums over a batch of loss, agreement and accuracy, and its size; NaN for what cannot be measured."""
    device = job.engine.device
    feeds, labels = feeds_of(batch, device), labels_of(batch, job.outputs, device)
    with job.engine.autocast():
        ours = widened(job.trainee.student(feeds))
    theirs = ask(job.teacher, feeds, job.engine) if job.teacher is not None else None
    losses = job.loss(ours, theirs, labels, batch=batch.size)
    agreed = scoring.agreement(job.outputs, ours, theirs, batch.size) if theirs is not None else None
    met = scoring.accuracy(job.outputs, ours, labels, batch.size) if labels is not None else None
    nothing = torch.full_like(losses, math.nan)
    parts = (losses, nothing if agreed is None else agreed, nothing if met is None else met, torch.ones_like(losses))
    return torch.stack([part.double().sum() for part in parts])


def _batch(job: Job) -> int:
    fixed = job.held.fixed_batch if job.held is not None else None
    return fixed * job.engine.world if fixed else max(job.settings.batch_size, job.engine.world)
