"""``graphprune compare``: what it prints, writes and refuses."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
from commands import Shell
from test_help import options_in

from graphprune.cli.compare import CompareOptions
from graphprune.cli.help import COMPARE


def test_tells_and_writes(shell: Shell) -> None:
    assert shell("m.onnx", "--budget", "0.5", "--report", "r.json").status == 0
    done = shell("compare", "m.onnx", "m.pruned.onnx", "--html", "c.html", "--report", "c.json", "--run", "r.json")
    assert (done.status, done.err) == (0, "")
    for word in ("MACs", "cut", "stem.weight", "16x16x3x3", "On 4 random inputs", "wrote c.json, c.html"):
        assert word in done.out
    body = json.loads((shell.folder / "c.json").read_text())
    run = json.loads((shell.folder / "r.json").read_text())
    assert body["b"]["bytes"] == (shell.folder / "m.pruned.onnx").stat().st_size == run["output"]["bytes"]
    assert {t["name"]: t["kept"] for t in body["tensors"]} == run["kept"]
    assert (shell.folder / "c.html").read_text().startswith("<!doctype html>")


def test_samples_and_json(shell: Shell) -> None:
    np.savez(shell.folder / "d.npz", x=np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32))
    done = shell("compare", "mlp.onnx", "mlp.onnx", "--data", "d.npz", "--json", "--samples", 3)
    body = json.loads(done.out)
    assert (body["inputs"], body["quality"]["samples"]) == ("samples", 3)
    assert "On 3 samples" in done.err
    assert shell("compare", "mlp.onnx", "mlp.onnx", "-q").out == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["m.onnx", "mlp.onnx"], "models-not-alike"),
        (["m.onnx", "none.onnx"], "model-missing"),
        (["m.onnx"], "missing-argument"),
        (["m.onnx", "m.onnx", "--data", "none.npz"], "data-missing"),
        (["m.onnx", "m.onnx", "--html", "m.onnx", "--force"], "output-is-input"),
        (["m.onnx", "m.onnx", "--html", "mlp.onnx"], "output-exists"),
        (["m.onnx", "m.onnx", "--run", "none.json"], "report-unreadable"),
        (["m.onnx", "m.onnx", "--samples", "0"], "data-empty"),
    ],
)
def test_refuses(shell: Shell, words: list[str], code: str) -> None:
    shell.fails("compare", *words, code=code)


def test_help_tells_every_option() -> None:
    assert options_in(COMPARE) == {f.name for f in fields(CompareOptions)} | {"help"}
    assert max(map(len, COMPARE.splitlines())) <= 95
