"""Options, data, models and teachers that do not fit: one clear error each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import mlp, residual_cnn
from torch import Tensor, nn
from tuning import samples, unlabelled

from graphprune.errors import GraphpruneError, UsageError
from graphprune.finetune import Settings, finetune
from graphprune.finetune.engine import start


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ({"epochs": 0}, "bad-epochs", "--epochs"),
        ({"batch_size": 0}, "bad-batch-size", "--batch-size"),
        ({"lr": 0.0}, "bad-lr", "--lr"),
        ({"lr": float("nan")}, "bad-lr", "--lr"),
        ({"weight_decay": -1.0}, "bad-weight-decay", "--weight-decay"),
        ({"warmup": 1.0}, "bad-warmup", "--warmup"),
        ({"holdout": 1.0}, "bad-holdout", "--holdout"),
        ({"patience": 0}, "bad-patience", "--patience"),
        ({"patience": 1, "holdout": 0.0}, "bad-patience", "--holdout"),
        ({"label_weight": 1.5}, "bad-label-weight", "--label-weight"),
        ({"temperature": 0.0}, "bad-temperature", "--temperature"),
        ({"optimizer": "adam"}, "bad-optimizer", "adamw"),
        ({"precision": "16"}, "bad-precision", "bf16"),
        ({"batch_norm": "eval"}, "bad-batch-norm", "freeze"),
        ({"device": "tpu"}, "bad-device", "cuda"),
        ({"seed": -1}, "bad-seed", "--seed"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], code: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**options)
    assert caught.value.code == code
    assert word in str(caught.value)


class Empty(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Wordy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> str:
        return "words"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"teacher": None}, "teacher-missing"),
        ({"teacher": None, "loss": "kl"}, "teacher-missing"),
        ({"loss": "ce"}, "labels-missing"),
        ({"loss": "huber"}, "unknown-loss"),
        ({"data": {"x": np.zeros((9, 3), np.float32)}}, "data-shape"),
        ({"data": "nothing.npz"}, "data-missing"),
        ({"data": samples(9), "labels": "kinds"}, "data-labels-missing"),
        ({"data": {**samples(9), "labels": np.full(9, 10)}}, "labels-mismatch"),
        ({"data": unlabelled(1)}, "data-split"),
        ({"teacher": residual_cnn(4)}, "teacher-mismatch"),
        ({"teacher": "nothing.onnx"}, "model-missing"),
        ({"model": "nothing.onnx"}, "model-missing"),
        ({"model": 3}, "model-unknown"),
        ({"model": Empty()}, "nothing-to-train"),
        ({"model": Wordy()}, "outputs-unknown"),
        ({"model": nn.Linear(16, 3)}, "teacher-mismatch"),
        ({"checkpoint": "no/such/folder"}, "checkpoint-place"),
        ({"checkpoint": "."}, "checkpoint-place"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Any], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "model": mlp(batch="N"),
        "data": unlabelled(20),
        "teacher": mlp(batch="N", seed=1),
        "epochs": 1,
        **change,
    }
    with pytest.raises(GraphpruneError) as caught:
        finetune(options.pop("model"), **options)
    assert caught.value.code == code
    assert caught.value.hint


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="finds no GPU"):
        start("cuda")
