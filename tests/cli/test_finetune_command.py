"""``graphprune finetune``: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from commands import Shell
from models import mlp
from test_help import options_in

from graphprune.cli.finetune import FinetuneOptions, default_output
from graphprune.cli.help import FINETUNE
from graphprune.finetune import Settings
from graphprune.finetune.settings import OPTIMISERS


@pytest.fixture
def data(shell: Shell) -> Iterator[Shell]:
    """The folder with a teacher, t.onnx, a net of other weights, small.onnx, and d.npz with labels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 16)).astype(np.float32)
    np.savez(shell.folder / "d.npz", x=x, labels=rng.integers(0, 10, 80))
    np.savez(shell.folder / "x.npz", x=x)
    (shell.folder / "t.onnx").write_bytes(mlp(batch="N", seed=1).SerializeToString())
    (shell.folder / "small.onnx").write_bytes(mlp(batch="N", width=16).SerializeToString())
    yield shell
    torch.set_num_threads(threads)


QUICK = ("--epochs", "1", "--device", "cpu")


def test_writes_a_new_file_and_tells_what_was_gained(data: Shell) -> None:
    before = data.files()
    done = data("finetune", "small.onnx", "--teacher", "t.onnx", "--data", "x.npz", "--epochs", 2, "--lr", 0.01)
    assert done.status == 0, done.err
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["as given", "epoch 1/2", "epoch 2/2"]
    assert "held-out loss" in done.err
    assert "agreement" in done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("loss kl: kl of 'y': logits")
    assert lines[1] == "trained on 72 samples for 6 steps (seed 0), measured on 8 others"
    assert lines[-1] == "wrote small.finetuned.onnx"
    after = data.files()
    assert set(after) - set(before) == {"small.finetuned.onnx"}
    assert all(after[name] == content for name, content in before.items())
    onnx.checker.check_model(onnx.load(data.folder / "small.finetuned.onnx"), full_check=True)
    assert after["small.finetuned.onnx"] != after["small.onnx"]


def test_json_and_report(data: Shell) -> None:
    done = data(
        "finetune", "small.onnx", "--data", "d.npz", *QUICK, "-o", "o.onnx", "--json", "--report", "r.json", "-v"
    )
    assert done.status == 0, done.err
    body = json.loads(done.out)
    assert body["schema"] == "graphprune.finetune/1"
    assert (data.folder / "r.json").read_text() == done.out
    assert (body["input"]["path"], body["teacher"], body["output"]["path"]) == ("small.onnx", None, "o.onnx")
    assert body["output"]["bytes"] == (data.folder / "o.onnx").stat().st_size
    assert body["after"]["accuracy"] is not None
    assert "epoch 1/1, step 1/3: loss" in done.err
    assert "wrote o.onnx, r.json" in done.err


def test_quiet_and_force(data: Shell) -> None:
    words = ("finetune", "small.onnx", "--data", "d.npz", *QUICK, "-q")
    assert data(*words).status == 0
    data.fails(*words, code="output-exists")
    done = data(*words, "--force")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_goes_on_from_a_checkpoint(data: Shell) -> None:
    words = ("finetune", "small.onnx", "--data", "d.npz", *QUICK, "-q", "--force", "--checkpoint", "run.ckpt")
    assert data(*words).status == 0
    first = data.files()
    assert set(first) > {"run.ckpt", "small.finetuned.onnx"}
    assert data(*words).status == 0
    assert data.files() == first
    done = data.fails(*words, "--lr", "0.5", code="checkpoint-mismatch", words=("lr: 0.001, now 0.5",))
    assert "--restart" in done.err
    assert data(*words, "--lr", "0.5", "--restart").status == 0


def test_an_interrupted_run_says_how_to_go_on(data: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.cli import finetune as command

    def interrupt(progress: object) -> str:
        if getattr(progress, "step", 0) == 2:
            raise KeyboardInterrupt
        return "line"

    monkeypatch.setattr(command, "in_words", interrupt)
    words = ("finetune", "small.onnx", "--data", "d.npz", *QUICK, "-v", "--checkpoint", "run.ckpt")
    done = data(*words, "--checkpoint-every", "0")
    assert done.status == 130
    assert "the same command goes on from run.ckpt" in done.err
    assert not (data.folder / "small.finetuned.onnx").exists()
    monkeypatch.undo()
    done = data("finetune", data.folder / "small.onnx", "--data", data.folder / "d.npz", *QUICK, "--checkpoint",
                data.folder / "run.ckpt", "--json", "-o", data.folder / "o.onnx")  # fmt: skip
    assert json.loads(done.out)["resumed_at"] == 1


def test_help_tells_every_option_and_the_real_defaults() -> None:
    assert options_in(FINETUNE) == {f.name for f in fields(FinetuneOptions)} | {"help"}
    options, settings = FinetuneOptions(), Settings()
    for field in fields(Settings):
        assert getattr(options, field.name) == getattr(settings, field.name), field.name
    told = ("holdout", "epochs", "warmup", "weight_decay", "batch_size", "seed", "optimizer", "precision", "device")
    for name in told:
        line = FINETUNE.partition(f"\n  --{name.replace('_', '-')} ")[2].partition("\n  -")[0]
        assert f"(default {getattr(options, name)})" in line, name
    assert f"(default {OPTIMISERS['adamw']:g} with adamw, {OPTIMISERS['sgd']:g} with sgd)" in FINETUNE
    assert max(map(len, FINETUNE.splitlines())) <= 95


def test_output_beside_the_input() -> None:
    assert default_output(Path("a/m.pruned.onnx")) == Path("a/m.pruned.finetuned.onnx")
    assert default_output(Path("model")) == Path("model.finetuned.onnx")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["small.onnx"], "data-missing"),
        (["none.onnx", "--data", "d.npz"], "model-missing"),
        (["d.npz", "--data", "d.npz"], "not-onnx"),
        (["small.onnx", "--data", "none.npz"], "data-missing"),
        (["small.onnx", "--data", "t.onnx"], "data-unknown"),
        (["small.onnx", "--data", "no_such_module_of_test:rows"], "function-missing"),
        (["small.onnx", "--data", "x.npz"], "teacher-missing"),
        (["small.onnx", "--data", "x.npz", "--teacher", "m.onnx"], "teacher-mismatch"),
        (["small.onnx", "--data", "x.npz", "--teacher", "none.onnx"], "model-missing"),
        (["small.onnx", "--data", "d.npz", "--labels", "kinds"], "data-labels-missing"),
        (["m.onnx", "--data", "d.npz"], "data-shape"),
        (["small.onnx", "--data", "d.npz", "--loss", "hinge"], "unknown-loss"),
        (["small.onnx", "--data", "d.npz", "--loss", "kl"], "teacher-missing"),
        (["small.onnx", "--data", "d.npz", "--epochs", "0"], "bad-epochs"),
        (["small.onnx", "--data", "d.npz", "--epochs", "many"], "bad-value"),
        (["small.onnx", "--data", "d.npz", "--lr", "-1"], "bad-lr"),
        (["small.onnx", "--data", "d.npz", "--optimizer", "lion"], "bad-optimizer"),
        (["small.onnx", "--data", "d.npz", "--precision", "8"], "bad-precision"),
        (["small.onnx", "--data", "d.npz", "--holdout", "1"], "bad-holdout"),
        (["small.onnx", "--data", "d.npz", "--temperature", "0"], "bad-temperature"),
        (["small.onnx", "--data", "d.npz", "-o", "small.onnx"], "output-is-input"),
        (["small.onnx", "--data", "d.npz", "-o", "d.npz", "--force"], "output-is-input"),
        (["small.onnx", "--data", "d.npz", "-o", "t.onnx"], "output-exists"),
        (["small.onnx", "--data", "d.npz", "-o", "no/o.onnx"], "folder-missing"),
        (["small.onnx", "--data", "d.npz", "-o", "o.onnx", "--report", "o.onnx"], "output-twice"),
        (["small.onnx", "--data", "d.npz", "-o", "o.onnx", "--checkpoint", "o.onnx"], "output-twice"),
        (["small.onnx", "--data", "d.npz", "--checkpoint", "d.npz"], "output-is-input"),
        (["small.onnx", "--data", "d.npz", "--checkpoint", "m.onnx"], "checkpoint-unreadable"),
        (["small.onnx", "--data", "d.npz", "--checkpoint", "no/run.ckpt"], "folder-missing"),
        (["small.onnx", "--data", "d.npz", "--checkpoint", "r", "--checkpoint-every", "-1"], "bad-checkpoint-every"),
        (["small.onnx", "--data", "d.npz", "--restart"], "checkpoint-missing"),
        (["small.onnx", "--data", "d.npz", "--epoch", "3"], "unknown-option"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else value,
)
def test_wrong_input_gives_one_error_and_writes_nothing(data: Shell, words: list[str], code: str) -> None:
    data.fails("finetune", *words, code=code)


@pytest.mark.parametrize("missing", ["lightning_fabric", "safetensors"])
def test_a_missing_library_is_one_clear_error(data: Shell, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    done = data.fails("finetune", "small.onnx", "--data", "d.npz", "--checkpoint", "c", code=MISSING[missing])
    assert done.err.splitlines()[1] == "help: pip install 'graphprune[train]'"


MISSING = {"lightning_fabric": "fabric-missing", "safetensors": "safetensors-missing"}


def test_without_torch_there_is_one_clear_error(data: Shell) -> None:
    words = ["finetune", "small.onnx", "--data", "d.npz"]
    code = f"import sys; sys.modules['torch'] = None; from graphprune.cli import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=data.folder)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error[torch-missing]")
    assert done.stderr.splitlines()[1] == "help: pip install 'graphprune[train]'"
