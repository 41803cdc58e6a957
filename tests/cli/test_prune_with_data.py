"""The pruning command with methods that look at data, in one step and in several, with training in between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import Shell
from graphprune.passes.taylor import Taylor

import graphprune as gp
from graphprune.runtime import real_inputs


@pytest.fixture
def data(shell: Shell) -> Path:
    """Give samples for m.onnx, with labels that it gives itself."""
    model = onnx.load("m.onnx")
    (value,) = real_inputs(model)
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).standard_normal((24, *shape)).astype(np.float32)
    path = shell.folder / "data.npz"
    np.savez(path, **{value.name: x, "labels": np.arange(24) % 4})
    return path


def report_of(shell: Shell, *arguments: object) -> dict[str, object]:
    done = shell("m.onnx", "--json", "-q", *arguments)
    assert done.status == 0, done.err
    body: dict[str, object] = json.loads(done.out)
    return body


def test_a_method_scores_on_the_data_given(shell: Shell, data: Path) -> None:
    report_of(
        shell, "--budget", "0.6", "--method", "taylor", "--data", data, "--samples", "16", "--save-plan", "p.json"
    )
    graph = gp.trace("m.onnx")
    groups = gp.couple(graph)
    scores = Taylor(data=str(data), samples=16)(graph, groups)
    wanted = gp.solve(groups, scores, gp.Budget(macs=0.6))
    assert gp.Plan.load("p.json").keep == wanted.keep


def test_steps_are_in_the_report_and_the_plan_replays(shell: Shell, data: Path) -> None:
    body = report_of(
        shell, "--budget", "0.5", "--method", "fisher", "--data", data, "--steps", "3", "--save-plan", "p.json",
        "--repair", "none",
    )  # fmt: skip
    limits = [step["limits"]["macs"] for step in body["steps"]]  # type: ignore[index, union-attr]
    full = body["input"]["macs"]  # type: ignore[index]
    assert limits == pytest.approx([full * 0.5 ** (k / 3) for k in (1, 2, 3)])
    assert body["output"]["macs"] <= 0.5 * full  # type: ignore[index]
    first = (shell.folder / "m.pruned.onnx").read_bytes()
    assert shell("m.onnx", "--plan", "p.json", "--force").status == 0
    assert (shell.folder / "m.pruned.onnx").read_bytes() == first


def test_training_between_steps_changes_the_weights(shell: Shell, data: Path) -> None:
    arguments = ("--budget", "0.5", "--steps", "2", "--data", data, "--epochs", "1")
    body = report_of(shell, *arguments)
    assert any("changed between the steps" in words for words in body["warnings"])  # type: ignore[union-attr, attr-defined]
    trained = (shell.folder / "m.pruned.onnx").read_bytes()
    assert report_of(shell, *arguments, "--force")["output"] == body["output"]
    assert (shell.folder / "m.pruned.onnx").read_bytes() == trained
    report_of(shell, "--budget", "0.5", "--steps", "2", "--force")
    assert (shell.folder / "m.pruned.onnx").read_bytes() != trained


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--method", "taylor"), "data-missing"),
        (("--method", "taylor", "--data", "nowhere.npz"), "data-missing"),
        (("--loss", "kl"), "unknown-option"),
        (("--repair", "least-squares"), "data-missing"),
        (("--repair", "best"), "bad-value"),
        (("--data", "data.npz", "--holdout", "1.5"), "bad-holdout"),
        (("--steps", "0"), "bad-steps"),
        (("--epochs", "1", "--data", "data.npz"), "train-without-steps"),
        (("--epochs", "1", "--steps", "2"), "data-missing"),
        (("--epochs", "-1", "--steps", "2"), "bad-epochs"),
        (("--method", "taylor", "--data", "data.npz", "--loss", "nothing"), "unknown-loss"),
        (("--method", "taylor", "--data", "data.npz", "--samples", "0"), "data-empty"),
    ],
)
@pytest.mark.usefixtures("data")
def test_wrong_options_are_told(shell: Shell, arguments: tuple[str, ...], code: str) -> None:
    shell.fails("m.onnx", "--budget", "0.5", "-q", *arguments, code=code)


def test_steps_of_a_plan_are_refused(shell: Shell) -> None:
    assert shell("m.onnx", "--budget", "0.5", "--dry-run", "-q").status == 0
    assert shell("m.onnx", "--budget", "0.5", "--save-plan", "p.json", "-q").status == 0
    shell.fails("m.onnx", "--plan", "p.json", "--steps", "2", "-o", "n.onnx", "-q", code="plan-in-steps")
