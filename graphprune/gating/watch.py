"""Watching gates as they are trained: how far their ratios lie apart, and whether the net has died.

Nearly the same push to be noisy acts on all gates; only the data holds some of them back. Where the push is too strong
all ratios fall together, no unit carries anything, and the net answers alike whatever it is fed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from ..errors import ModelError
from ..finetune.job import Job, ask, feeds_of, labels_of, widened
from ..finetune.report import Score
from ..finetune.state import State
from ..finetune.student import evaluating
from ..finetune.train import evaluate
from ..scores import BoolArray, FloatArray
from .gate import Gate

SAMPLES = 512
"""Held-out samples that the loss of a constant answer is measured on, at most."""
LOST = 0.75
"""Of the way from the loss of the model as given to that of a constant answer: a net that far gone is dead."""
BINS = 20
NEAR = 0.2
"""A log ratio so far from the threshold is near it: a ratio within a fifth."""


class Watch:
    """Called after each epoch (see ``finetune.extras``); raises ModelError when the net has died."""

    def __init__(self, gates: Mapping[str, Gate], threshold: float, least: int = 1) -> None:
        self.gates, self.threshold, self.least = gates, threshold, least
        self.blind: float | None = None

    def __call__(self, job: Job, state: State) -> dict[str, Any]:
        """Return the spread of every group's log ratios, and the sum of the divergences, after an epoch.

        After the last one, also the held-out score of the model cut at the threshold.
        """
        ratios = {name: log_ratio_of(gate) for name, gate in self.gates.items()}
        empty = [name for name, values in ratios.items() if not (values > self.threshold).any()]
        if empty and self._lost(job, state, all_empty=len(empty) == len(ratios)):
            raise collapsed(state.epoch, empty, len(ratios))
        with torch.no_grad():
            divergence = sum(float(gate.kl()) for gate in self.gates.values())
        groups = {name: spread(values, self.threshold) for name, values in ratios.items()}
        noted = {"divergence": divergence, "groups": groups}
        if state.epoch == job.settings.epochs and job.held is not None:
            noted["cut"] = asdict(self._cut(job, ratios))
        return noted

    def _cut(self, job: Job, ratios: Mapping[str, FloatArray]) -> Score:
        """Score the model on the held-out samples with all units that would go multiplied by zero."""
        try:
            for name, gate in self.gates.items():
                gate.kept.copy_(torch.from_numpy(keep(ratios[name], self.threshold, self.least)))
            return evaluate(job)
        finally:
            for gate in self.gates.values():
                gate.kept.fill_(True)

    def _lost(self, job: Job, state: State, *, all_empty: bool) -> bool:
        """Tell whether the held-out loss is about that of a constant answer; without held-out samples, by the gates."""
        score, before = state.history[-1].held_out, state.before
        if score is None or before is None:
            return all_empty
        if self.blind is None:
            self.blind = constant_loss(job)
        return score.loss > before.loss + LOST * (self.blind - before.loss)


def log_ratio_of(gate: Gate) -> FloatArray:
    """Return a gate's log ratios as an array, shape (units,); raises ModelError where they are no numbers."""
    values: FloatArray = gate.log_ratio().cpu().numpy().astype(np.float64)
    if not np.isfinite(values).all():
        words = "the parameters of a gate are no longer finite: training has diverged"
        raise ModelError("gates-not-finite", words, where="training", hint="give a lower lr or gate_lr")
    return values


def keep(log_ratio: FloatArray, threshold: float, least: int) -> BoolArray:
    """Return which units are kept, shape (units,): those above the threshold, and the best ``least`` in any case."""
    kept: BoolArray = log_ratio > threshold
    kept[np.argsort(-log_ratio, kind="stable")[:least]] = True
    return kept


def spread(values: FloatArray, threshold: float) -> dict[str, float]:
    """Return how values lie: mean, standard deviation, ends, how many are above the threshold, and how many near it."""
    return {
        "mean": float(values.mean()), "std": float(values.std()), "min": float(values.min()),
        "max": float(values.max()), "above": int((values > threshold).sum()),
        "near": int((np.abs(values - threshold) < NEAR).sum()),
    }  # fmt: skip


def histogram(values: FloatArray) -> dict[str, list[float]]:
    """Return counts in 20 bins between the smallest and largest value, and the bins' edges."""
    counts, edges = np.histogram(values, BINS)
    return {"edges": [round(float(e), 6) for e in edges], "counts": counts.tolist()}


def constant_loss(job: Job) -> float:
    """Return the loss on held-out samples of an answer that is always the mean of the model's own."""
    assert job.held is not None
    with evaluating(job.trainee.student), torch.no_grad():
        seen = list(job.held.first(max(SAMPLES, job.held.fixed_batch or 1)).batches(job.settings.batch_size))
        fed = [feeds_of(batch, job.engine.device) for batch in seen]
        ours = [widened(job.trainee.student(feeds)) for feeds in fed]
        total, count = 0.0, 0
        for batch, feeds, outputs in zip(seen, fed, ours, strict=True):
            constant = tuple(_mean(out, [o[k] for o in ours]) for k, out in enumerate(outputs))
            theirs = ask(job.teacher, feeds, job.engine) if job.teacher is not None else None
            labels = labels_of(batch, job.outputs, job.engine.device)
            total += float(job.loss(constant, theirs, labels, batch=batch.size).double().sum())
            count += batch.size
    return total / count if math.isfinite(total) else math.inf


def _mean(output: torch.Tensor, all_of_it: list[torch.Tensor]) -> torch.Tensor:
    """Return an output of this shape whose rows are the mean of all rows; one that is not floating stays."""
    if not output.is_floating_point() or not output.ndim:
        return output
    rows = torch.cat([o.reshape(-1, *o.shape[1:]) for o in all_of_it]) if len(all_of_it) > 1 else output
    return rows.mean(0, keepdim=True).expand_as(output)


def collapsed(epoch: int, empty: list[str], of: int) -> ModelError:
    """Return the error that says that the net has died."""
    words = (
        f"the gates have collapsed in epoch {epoch}: no unit of {', '.join(empty[:3])} "
        f"({len(empty)} of {of} groups) is above the threshold, and the net answers alike whatever it is fed"
    )
    hint = "give a smaller kl, a longer kl_warmup, a lower gate_lr, or train longer with each"
    return ModelError("gates-collapsed", words, where="training", hint=hint)
