"""The folder a command runs in, with two small models."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Shell
from models import mlp, residual_cnn


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Give a folder with m.onnx (residual CNN) and mlp.onnx."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(residual_cnn().SerializeToString())
    (tmp_path / "mlp.onnx").write_bytes(mlp().SerializeToString())
    before = signal.getsignal(signal.SIGTERM)
    yield Shell(tmp_path, capfd)
    signal.signal(signal.SIGTERM, before)
