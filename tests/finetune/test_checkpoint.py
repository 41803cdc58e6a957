"""A run that was broken off goes on as if it had not been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from safetensors import safe_open
from torch import Tensor, nn
from tuning import job_of, samples, unlabelled

from graphprune.errors import OutputError, UsageError
from graphprune.finetune import FinetuneReport, Progress, checkpoint, finetune, optimiser
from graphprune.finetune.checkpoint import Checkpoint

STEPS = 4
"""Steps an epoch of these runs has."""


class BrokenError(Exception):
    """Stands for whatever ends a run."""


def at(step: int) -> Callable[[Progress], None]:
    """Break off after so many steps in all."""

    def tell(progress: Progress) -> None:
        if progress.loss is not None and (progress.epoch - 1) * STEPS + progress.step == step:
            raise BrokenError

    return tell


def learn(model: Any, teacher: Any, **options: Any) -> tuple[Any, FinetuneReport]:
    return finetune(
        model, data=unlabelled(70), teacher=teacher, epochs=3, batch_size=16, holdout=0.1, **options, device="cpu"
    )


@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("step", [1, 3, 4, 6, 12])
def test_a_resumed_run_ends_with_the_very_same_weights(
    tmp_path: Path, dense: ModelProto, pruned: ModelProto, step: int, every: float
) -> None:
    place = tmp_path / "run.ckpt"
    whole, expected = learn(pruned, dense)
    with pytest.raises(BrokenError):
        learn(pruned, dense, checkpoint=place, checkpoint_every=every, progress=at(step))
    resumed, report = learn(pruned, dense, checkpoint=place, checkpoint_every=every)
    assert resumed.SerializeToString() == whole.SerializeToString()
    assert (report.history, report.before, report.after) == (expected.history, expected.before, expected.after)
    # What was lost: the step at which it broke, or all since the end of the last epoch.
    kept = (step - 1) // STEPS * STEPS if every else step - 1
    assert (report.resumed_at or 0) == kept
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


class Dropping(nn.Module):
    """Chance in every step, and statistics that move: both must go on where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(nn.functional.dropout(self.norm(self.first(x)).relu(), 0.3, self.training))
        return result


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_chance_and_statistics_go_on_where_they_were(tmp_path: Path, dense: ModelProto, optimizer: str) -> None:
    torch.manual_seed(0)
    net, place = Dropping(), tmp_path / "run.ckpt"
    whole, _ = learn(net, dense, optimizer=optimizer)
    with pytest.raises(BrokenError):
        learn(net, dense, optimizer=optimizer, checkpoint=place, checkpoint_every=0, progress=at(7))
    torch.manual_seed(123)
    resumed, _ = learn(net, dense, optimizer=optimizer, checkpoint=place)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import torch
from pathlib import Path
from graphprune.finetune import finetune
from test_checkpoint import learn
torch.set_num_threads(1)
def tell(progress):
    if progress.epoch == 2 and progress.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
learn("small.onnx", "model.onnx", checkpoint="run.ckpt", checkpoint_every=0, progress=tell)
"""


def test_a_killed_process_loses_nothing_but_its_last_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    here = Path(__file__).parent
    code = KILLED.format(paths=[str(here), str(here.parent)])
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole, _ = learn("small.onnx", "model.onnx")
    resumed, report = learn("small.onnx", "model.onnx", checkpoint="run.ckpt")
    assert report.resumed_at == STEPS + 2
    assert resumed.SerializeToString() == whole.SerializeToString()


def test_a_finished_run_is_not_trained_again(tmp_path: Path, dense: ModelProto, pruned: ModelProto) -> None:
    place, seen = tmp_path / "run.ckpt", list[Progress]()
    options = {"checkpoint": place, "patience": 1, "lr": 3.0, "optimizer": "sgd"}
    first, report = learn(pruned, dense, **options)
    second, again = learn(pruned, dense, **options, progress=seen.append)
    assert report.stopped_early
    assert again.stopped_early
    assert (again.history, again.resumed_at) == (report.history, report.steps)
    assert first.SerializeToString() == second.SerializeToString()
    assert all(p.loss is None for p in seen)


def test_half_a_checkpoint_is_never_read(tmp_path: Path, dense: ModelProto, pruned: ModelProto) -> None:
    (tmp_path / ".run.ckpt.tmp").write_bytes(b"half a checkp")
    _, report = learn(pruned, dense, checkpoint=tmp_path / "run.ckpt")
    assert report.resumed_at is None
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


def test_checkpoints_are_readable_data_and_no_pickle(tmp_path: Path, dense: ModelProto, pruned: ModelProto) -> None:
    place = tmp_path / "run.ckpt"
    _, report = learn(pruned, dense, checkpoint=place)
    with safe_open(place, "pt") as stream:
        body = json.loads(stream.metadata()["graphprune"])
        keys = set(stream.keys())
    assert body["schema"] == "graphprune.checkpoint/1"
    assert body["state"]["done"] == report.steps == 3 * STEPS
    assert body["made_with"]["lr"] == 1e-3
    assert {"model/w1", "best/w1", "optimizer/w1/exp_avg", "optimizer/w1/exp_avg_sq", "optimizer/w1/step"} <= keys


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lr": 0.5}, "another lr: 0.001, now 0.5"),
        ({"epochs": 4}, "another epochs: 3, now 4"),
        ({"seed": 1}, "another seed: 0, now 1"),
        ({"data": unlabelled(71)}, "another number of samples: 70, now 71"),
        ({"data": unlabelled(70, seed=5)}, "another data"),
        ({"data": samples(70)}, "another data"),
        ({"teacher": None, "data": samples(70)}, "another teacher"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, dense: ModelProto, pruned: ModelProto, change: dict[str, Any], word: str
) -> None:
    place = tmp_path / "run.ckpt"
    with pytest.raises(BrokenError):
        learn(pruned, dense, checkpoint=place, checkpoint_every=0, progress=at(2))
    before = place.read_bytes()
    options = {"data": unlabelled(70), "teacher": dense, "epochs": 3, "batch_size": 16, "checkpoint": place} | change
    with pytest.raises(UsageError, match=word) as caught:
        finetune(pruned, **options)
    assert caught.value.code == "checkpoint-mismatch"
    assert place.read_bytes() == before
    _, report = finetune(pruned, **options, resume=False)
    assert report.resumed_at is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, dense: ModelProto, pruned: ModelProto) -> None:
    place = tmp_path / "run.ckpt"
    with pytest.raises(BrokenError):
        learn(pruned, dense, checkpoint=place, checkpoint_every=0, progress=at(2))
    with pytest.raises(UsageError, match="another model"):
        learn(dense, dense, checkpoint=place)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_checkpoint_is_refused_and_left_alone(
    tmp_path: Path, dense: ModelProto, pruned: ModelProto, content: bytes
) -> None:
    place = tmp_path / "notes.txt"
    place.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        learn(pruned, dense, checkpoint=place)
    assert caught.value.code == "checkpoint-unreadable"
    assert place.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run.ckpt"
    checkpoint.save(place, Checkpoint({"model/w": torch.ones(2)}, {}, {"seed": 0}))
    before = place.read_bytes()

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        checkpoint.save(place, Checkpoint({"model/w": torch.zeros(2)}, {}, {"seed": 0}))
    assert caught.value.code == "disk-full"
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]
    assert place.read_bytes() == before


def test_weights_that_share_memory_are_kept_each(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors = {"model/a": whole[:4], "model/b": whole[2:], "model/c": torch.tensor(3, dtype=torch.int64)}
    checkpoint.save(tmp_path / "c", Checkpoint(tensors, {}, {}))
    found = checkpoint.load(tmp_path / "c", {})
    assert found is not None
    assert all(torch.equal(found.part("model")[k.removeprefix("model/")], t) for k, t in tensors.items())


def test_the_rate_rises_and_falls_along_half_a_cosine() -> None:
    settings = job_of().settings
    rates = [optimiser.learning_rate(k, 100, settings) for k in range(100)]
    top = settings.rate
    assert rates[:5] == pytest.approx([top * k / 6 for k in range(1, 6)])
    assert rates[5] == top
    assert optimiser.learning_rate(5, 5 + 95, settings) == top
    assert rates[5 + 19] == pytest.approx(top * (1 + np.cos(np.pi * 0.2)) / 2)
    assert (np.diff(rates[5:]) < 0).all()
    assert 0 < rates[-1] < top / 1000


def test_biases_do_not_decay() -> None:
    job = job_of()
    decay = {id(p): group["weight_decay"] for group in job.optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in job.parameters.items()} == {
        "w1": 0.01, "b1": 0.0, "w2": 0.01, "b2": 0.0, "w3": 0.01, "b3": 0.0,
    }  # fmt: skip
