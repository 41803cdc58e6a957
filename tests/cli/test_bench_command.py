"""The command that times models."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import Shell
from models import mlp, residual_cnn
from test_help import options_in

from graphprune.cli.bench import BenchOptions
from graphprune.cli.help import BENCH, wanted
from graphprune.latency.machine import Lap, Machine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds by the model's file name, in place of real ones."""
    seconds = {"mlp.onnx": 0.004, "small.onnx": 0.001, "m.onnx": 2.0}

    def lap(self: Machine, model: Path, feeds: object) -> Lap:
        return lambda runs: seconds[model.name] * runs

    monkeypatch.setattr(Machine, "lap", lap)
    return seconds


@pytest.fixture
def small(shell: Shell) -> str:
    onnx.save(mlp(width=8), shell.folder / "small.onnx")
    return "small.onnx"


def test_help_tells_every_option() -> None:
    assert options_in(BENCH) == {f.name for f in fields(BenchOptions)} | {"help"}
    assert wanted(["bench", "--help"]) == BENCH
    assert max(map(len, BENCH.splitlines())) <= 95


def test_the_table_compares_with_the_first(shell: Shell, clock: dict[str, float], small: str) -> None:
    done = shell("bench", "mlp.onnx", small)
    assert (done.status, done.err) == (0, "")
    rows = {line.split()[0]: line for line in done.out.splitlines() if ".onnx" in line}
    assert "4 ms" in rows["mlp.onnx"] and "1 ms" in rows["small.onnx"] and "0.250" in rows["small.onnx"]
    assert "1 thread, batch 1" in done.out


def test_json_and_report_hold_the_same(shell: Shell, clock: dict[str, float], small: str) -> None:
    done = shell("bench", "mlp.onnx", small, "--json", "--report", "r.json", "--nodes", "--threads", "2")
    body = json.loads(done.out)
    assert body == json.loads((shell.folder / "r.json").read_text())
    assert (body["schema"], body["threads"], body["provider"]) == ("graphprune.bench/1", 2, "cpu")
    first, second = body["models"]
    assert (first["path"], first["ratio"]["median"]) == ("mlp.onnx", 1.0)
    assert second["ratio"]["median"] == pytest.approx(0.25)
    assert {name for kernel in second["kernels"] for name in kernel["nodes"]} == {"fc1", "relu1", "fc2", "relu2", "fc3"}
    assert "wrote r.json" in done.err
    shell.fails("bench", "mlp.onnx", "--report", "r.json", code="output-exists")


def test_really_timed(shell: Shell, small: str) -> None:
    """No number is looked at: only that there are some."""
    np.savez(shell.folder / "data.npz", x=np.zeros((3, 16), np.float32))
    done = shell("bench", "mlp.onnx", small, "--seconds", "0.05", "--nodes", "--data", "data.npz")
    assert done.status == 0
    assert "fc2" in done.out and "ratio" in done.out and "Where the time goes" in done.out
    alone = shell("bench", small, "--seconds", "0.05", "--nodes", "-v", "--threads", "0")
    assert "seconds" in alone.out and "fc1" in alone.out
    assert shell("bench", small, "--seconds", "0.05", "-q").out == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["bench"], "model-missing", "no model"),
        (["bench", "none.onnx"], "model-missing", "none.onnx"),
        (["bench", "mlp.onnx", "mlp.onnx"], "model-twice", "twice"),
        (["bench", "mlp.onnx", "m.onnx"], "models-differ", "x (float [1, 3, 8, 8])"),
        (["bench", "mlp.onnx", "--provider", "cuda9"], "provider-missing", "cpu"),
        (["bench", "mlp.onnx", "--threads", "-2"], "bad-threads", "-2"),
        (["bench", "mlp.onnx", "--batch", "3"], "batch-fixed", "batch of 3"),
        (["bench", "mlp.onnx", "--seconds", "0"], "bad-value", "0.0"),
        (["bench", "mlp.onnx", "--input-shape", "x=2,16"], "input-shape", "2,16"),
    ],
)
def test_wrong_usage(shell: Shell, words: list[str], code: str, said: str) -> None:
    shell.fails(*words, code=code, words=(said,))


def test_outputs_must_fit(shell: Shell) -> None:
    other = residual_cnn()
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save(other, shell.folder / "seven.onnx")
    # What the file states does not fit what it computes, which nobody looks at before its shape is found different.
    done = shell("bench", "m.onnx", "seven.onnx")
    assert done.status == 2
