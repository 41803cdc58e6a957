"""Samples that cannot be used: one error that says which and why, nothing written; or a warning in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from graphprune.passes import Flap, Wanda

import graphprune as gp
from graphprune.data import Share, open_samples, specs_of_model
from graphprune.frontends.files.load import load

COUNT = 40


def samples(seed: int = 0, count: int = COUNT) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)


def held_out(x: Any) -> list[int]:
    """The numbers of the samples that are put aside."""
    specs = specs_of_model(load("mlp.onnx").model)
    return list(map(int, open_samples(Share({"x": x}, "held-out"), specs).order))


@pytest.mark.parametrize("command", [("mlp.onnx", "--budget", "0.6"), ("sweep", "mlp.onnx", "--budgets", "0.6")])
@pytest.mark.parametrize("method", ["flap", "magnitude"])
@pytest.mark.parametrize("part", ["seen", "held-out"])
def test_a_nan_is_told_by_its_number_in_the_data(
    shell: Shell, command: tuple[str, ...], method: str, part: str
) -> None:
    x = samples()
    held = held_out(x)
    bad = held[2] if part == "held-out" else next(k for k in range(5, COUNT) if k not in held)
    assert bad > 2
    x[bad, 3] = np.nan
    np.savez("d.npz", x=x)
    words = (f"sample {bad} ",)
    shell.fails(*command, "--data", "d.npz", "--method", method, code="data-not-finite", words=words)


@pytest.mark.parametrize("command", [("mlp.onnx", "--budget", "0.6", "--method", "wanda"), ("stats", "mlp.onnx")])
@pytest.mark.parametrize("value", [0.0, 3.5])
def test_samples_that_are_all_alike(shell: Shell, command: tuple[str, ...], value: float) -> None:
    """Agreement would be perfect, and the model good for nothing else."""
    np.savez("d.npz", x=np.full((COUNT, 16), value, np.float32))
    shell.fails(*command, "--data", "d.npz", code="data-constant", words=("alike",))


def test_repair_alone_wants_samples_that_differ(shell: Shell) -> None:
    np.savez("d.npz", x=np.repeat(samples(count=1), COUNT, axis=0))
    shell.fails("mlp.onnx", "--budget", "0.6", "--method", "magnitude", "--data", "d.npz", code="data-constant")


@pytest.mark.parametrize("method", ["flap", "magnitude"])
@pytest.mark.parametrize("how", ["bias", "least-squares"])
def test_a_single_sample(shell: Shell, method: str, how: str) -> None:
    """A mean of one sample is none: biases fitted to it made other answers worse than no repair."""
    np.savez("d.npz", x=samples(count=1))
    done = shell.fails(
        "mlp.onnx", "--budget", "0.6", "--method", method, "--repair", how, "--data", "d.npz", code="data-too-few"
    )
    assert "1 rows" in done.err


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_the_model(shell: Shell) -> None:
    x = samples().astype(np.float64)
    x[3, 3] = -1e300
    np.savez("d.npz", x=x)
    shell.fails("mlp.onnx", "--budget", "0.6", "--data", "d.npz", code="data-dtype", words=("float32", "1e+300"))


@pytest.mark.parametrize(("count", "more"), [(4, ()), (COUNT, ("--holdout", "0"))])
def test_nothing_held_out_is_a_warning(shell: Shell, count: int, more: tuple[str, ...]) -> None:
    np.savez("d.npz", x=samples(count=count))
    done = shell("mlp.onnx", "--budget", "0.6", "--method", "flap", "--data", "d.npz", *more)
    assert done.status == 0
    assert "warning: no samples were held out" in done.out
    done = shell("sweep", "mlp.onnx", "--budgets", "0.6", "--method", "flap", "--data", "d.npz", *more)
    assert "no samples were held out" in done.out


def test_one_answer_to_all_samples_is_a_warning(shell: Shell) -> None:
    """Not prepared as the model wants them: inputs that are as good as nothing."""
    np.savez("d.npz", x=samples() * np.float32(1e-12))
    done = shell("mlp.onnx", "--budget", "0.6", "--method", "magnitude", "--repair", "none", "--data", "d.npz")
    assert done.status == 0
    assert "warning: the original gives one answer to all samples held out" in done.out


@pytest.mark.usefixtures("shell")
def test_data_of_a_pass_of_its_own_is_a_warning(tmp_path: Path) -> None:
    x = samples()
    for method, doubted in ((Wanda(data={"x": samples(1)}), True), (Flap(), False), ("flap", False)):
        _, report = gp.prune(tmp_path / "mlp.onnx", budget=0.6, method=method, data={"x": x})
        assert any("of its own" in words for words in report.warnings) == doubted
