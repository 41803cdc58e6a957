"""What training can do besides minimising its loss: each addition alone, against the run without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import mlp
from onnx import ModelProto
from torch import Tensor
from tuning import SETTINGS, job_of, unlabelled

from graphprune.data import open_samples
from graphprune.errors import UsageError
from graphprune.finetune import Settings, Tuned, optimiser
from graphprune.finetune.api import Given, Place, train_on
from graphprune.finetune.engine import start
from graphprune.finetune.extras import NOTHING, Extras
from graphprune.finetune.job import Job, prepare
from graphprune.finetune.state import State
from graphprune.finetune.student import trainee
from graphprune.finetune.teacher import teacher_of
from graphprune.finetune.train import gradients, take_step


def job_with(extras: Extras, settings: Settings = SETTINGS) -> Job:
    return job_of(settings, extras=extras)


def tuned(extras: Extras = NOTHING, place: Place | None = None, *, seed_of_teacher: int = 1, **settings: Any) -> Tuned:
    chosen = Settings(**{**{"epochs": 3, "batch_size": 16, "precision": "32", "device": "cpu", "lr": 1e-3}, **settings})
    given = Given(mlp(batch="N"), unlabelled(), mlp(batch="N", seed=seed_of_teacher))
    return train_on(trainee(given.model), given, chosen, place, extras=extras)


def arrays(model: ModelProto) -> list[bytes]:
    return [t.SerializeToString() for t in model.graph.initializer]


def test_the_penalty_is_added_to_the_mean_loss_once_a_step() -> None:
    """Its gradient is added as it is, however many samples and batches a step has."""
    seen: list[int] = []

    def penalty(job: Job, done: int) -> Tensor:
        seen.append(done)
        return 3.0 * sum((p.square().sum() for p in job.parameters.values()), torch.zeros(()))

    plain, with_it = job_with(NOTHING), job_with(Extras(penalty=penalty))
    share = plain.train.first(32).step(0, 32, micro=8)
    assert len(share.batches) == 4
    losses = [gradients(job, share.batches, share.total, 7) for job in (plain, with_it)]
    assert losses[0] == pytest.approx(losses[1])
    assert seen == [7]
    for name, parameter in plain.parameters.items():
        assert parameter.grad is not None
        expected = parameter.grad + 6.0 * parameter.detach()
        torch.testing.assert_close(with_it.parameters[name].grad, expected, rtol=1e-5, atol=1e-6)


def test_own_rates_and_no_decay() -> None:
    job = job_with(Extras(rates={"fc2": 10.0, "fc3.weight": 0.5}), Settings(weight_decay=0.3, lr=0.2))
    optimiser.set_rate(job.optimizer, 0.2)
    found = {}
    names = {id(p): name for name, p in job.parameters.items()}
    for group in job.optimizer.param_groups:
        found.update({names[id(p)]: (group["lr"], group["weight_decay"]) for p in group["params"]})
    assert set(found) == set(job.parameters)
    for name, (rate, decay) in found.items():
        times = 10.0 if name.startswith("fc2") else 0.5 if name == "fc3.weight" else 1.0
        assert rate == pytest.approx(0.2 * times)
        assert decay == (0.3 if times == 1.0 and job.parameters[name].ndim > 1 else 0.0)


def test_parameters_with_rates_are_trained_even_where_the_probe_does_not_see_them() -> None:
    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line, self.gate = torch.nn.Linear(16, 4), torch.nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.line(x) + (self.gate if self.training else 0)
            return result

    for extras, wanted in ((NOTHING, False), (Extras(rates={"gate": 1.0}), True)):
        trained = replace(trainee(Hidden()), static=True)
        teacher = teacher_of(Hidden(), trained.specs, torch.device("cpu"))
        job = prepare(SETTINGS, start("cpu", "32"), trained, teacher, open_samples(unlabelled(), trained.specs), extras)
        assert ("gate" in job.parameters) is wanted
        assert job.core.gate.requires_grad is wanted


def test_after_every_step() -> None:
    counts = []
    job = job_with(Extras(after_step=lambda: counts.append(1)))
    share = job.train.first(16).step(0, 16)
    for _ in range(3):
        take_step(job, share.batches, share.total)
    assert len(counts) == 3


def test_what_is_observed_is_kept_with_the_run(tmp_path: Path) -> None:
    def observe(job: Job, state: State) -> dict[str, Any]:
        return {"epoch": state.history[-1].epoch, "weights": len(job.parameters), "loss": state.history[-1].loss}

    done = tuned(Extras(observe=observe))
    assert [n["epoch"] for n in done.noted] == [1, 2, 3]
    assert [n["loss"] for n in done.noted] == [e.loss for e in done.report.history]
    assert tuned().noted == ()

    class StopError(Exception):
        pass

    def stops(job: Job, state: State) -> dict[str, Any]:
        if state.epoch == 2:
            raise StopError
        return observe(job, state)

    place = Place(tmp_path / "run.ckpt")
    with pytest.raises(StopError):
        tuned(Extras(observe=stops), place)
    assert tuned(Extras(observe=observe), place).noted == done.noted


def test_the_last_weights_or_the_best() -> None:
    """Of a model that is its own teacher the best weights are those of the beginning; a penalty makes others."""
    shrink = Extras(penalty=lambda job, _: sum((p.square().sum() for p in job.parameters.values()), torch.zeros(())))
    best, last = (tuned(extras, seed_of_teacher=0) for extras in (shrink, replace(shrink, keep_last=True)))
    assert best.report.best_epoch == 0 and last.report.best_epoch == 3
    assert arrays(best.model) == arrays(mlp(batch="N"))
    assert arrays(last.model) != arrays(best.model)
    assert last.report.after == last.report.history[-1].held_out


def test_a_checkpoint_is_of_a_run_with_the_same_extras(tmp_path: Path) -> None:
    place = Place(tmp_path / "run.ckpt")
    tuned(Extras(made_with={"strength": 2}), place)
    with pytest.raises(UsageError) as caught:
        tuned(Extras(made_with={"strength": 3}), place)
    assert caught.value.code == "checkpoint-mismatch" and "strength" in str(caught.value)
    with pytest.raises(UsageError):
        tuned(place=place)


def test_nothing_is_the_default() -> None:
    assert np.array_equal(arrays(tuned().model), arrays(tuned(NOTHING).model))
    assert job_of().extras == NOTHING
