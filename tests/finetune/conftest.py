"""A trained net and its pruned copy, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from models import mlp
from onnx import ModelProto
from tuning import samples

import graphprune as gp
from graphprune.finetune import finetune


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small nets are not worth a second thread, and sums in one order are the same every time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def dense() -> ModelProto:
    """A net that tells the ten classes apart, trained here from random weights."""
    model, report = finetune(mlp(batch="N"), data=samples(600), epochs=6, lr=3e-3, device="cpu")
    assert report.after is not None
    assert report.after.accuracy is not None
    assert report.after.accuracy > 0.9
    assert isinstance(model, ModelProto)
    return model


@pytest.fixture(scope="package")
def pruned(dense: ModelProto) -> ModelProto:
    """The same net with a quarter of its multiply-accumulates."""
    return gp.prune(dense, budget=0.25, multiple=1)[0]


@pytest.fixture
def folder(tmp_path: Path, dense: ModelProto, pruned: ModelProto) -> Path:
    """A folder with model.onnx and small.onnx."""
    (tmp_path / "model.onnx").write_bytes(dense.SerializeToString())
    (tmp_path / "small.onnx").write_bytes(pruned.SerializeToString())
    return tmp_path
