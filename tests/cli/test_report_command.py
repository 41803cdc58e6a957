"""``--html`` of every command that has it, and ``graphprune report``, which draws what --report wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import Shell
from models import residual_cnn

from graphprune.cli.help import REPORT


@pytest.fixture
def reports(shell: Shell) -> Path:
    """Write r.json and p.html of a run, s.json of a sweep."""
    done = shell("m.onnx", "--budget", "0.5", "--report", "r.json", "--html", "p.html")
    assert done.status == 0, done.err
    assert "p.html" in done.out
    assert shell("sweep", "m.onnx", "--budgets", "0.8,0.5", "--report", "s.json").status == 0
    return shell.folder


def test_a_page_from_the_file_is_the_page_of_the_run(shell: Shell, reports: Path) -> None:
    done = shell("report", "r.json", "-o", "again.html")
    assert (done.status, done.out, done.err) == (0, "wrote again.html\n", "")
    assert (reports / "again.html").read_text() == (reports / "p.html").read_text()
    assert "graphprune m.onnx --budget 0.5 --report r.json --html p.html" in (reports / "p.html").read_text()
    assert shell("report", "r.json").status == 0
    assert (reports / "r.html").read_text() == (reports / "p.html").read_text()


def test_neither_the_model_nor_its_names_are_needed(shell: Shell, reports: Path) -> None:
    for path in reports.glob("*.onnx"):
        path.unlink()
    assert shell("report", "r.json", "s.json", "-o", "both.html").status == 0
    page = (reports / "both.html").read_text()
    assert "Accuracy against budget" in page and "Where it was cut" in page
    assert shell("report", "s.json", "-o", "sweep.html", "-q").out == ""
    assert "Accuracy against budget" in (reports / "sweep.html").read_text()


def test_the_report_tells_the_command(shell: Shell) -> None:
    done = shell("m.onnx", "--budget", "0.5", "--dry-run", "--json", "--html", "p.html")
    assert done.status == 0
    assert json.loads(done.out)["command"] == ["graphprune", "m.onnx", "--budget", "0.5", "--dry-run", "--json",
                                               "--html", "p.html"]  # fmt: skip
    assert not (shell.folder / "p.html").exists(), "a dry run writes nothing"


def test_inspecting_and_sweeping_write_pages(shell: Shell) -> None:
    assert shell("inspect", "m.onnx", "--html", "i.html").status == 0
    page = (shell.folder / "i.html").read_text()
    assert "What can be cut" in page and "graphprune inspect m.onnx" in page
    shell.fails("inspect", "m.onnx", "--html", "i.html", code="output-exists")
    assert shell("inspect", "m.onnx", "--html", "i.html", "--force", "--json").status == 0
    assert (shell.folder / "i.html").read_text() != page, "it tells another command"
    assert shell("sweep", "m.onnx", "--budgets", "0.7", "--html", "s.html").status == 0
    assert "Widths at every budget" in (shell.folder / "s.html").read_text()


def test_fine_tuning_writes_a_page(shell: Shell) -> None:
    onnx.save(residual_cnn(batch="N"), shell.folder / "t.onnx")
    value = onnx.load(shell.folder / "t.onnx").graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    samples = np.random.default_rng(0).standard_normal((24, *shape)).astype(np.float32)
    np.savez(shell.folder / "d.npz", **{value.name: samples})
    done = shell("finetune", "t.onnx", "--data", "d.npz", "--teacher", "t.onnx", "--epochs", "2", "--html", "f.html",
                 "--report", "f.json")  # fmt: skip
    assert done.status == 0, done.err
    assert "How it went" in (shell.folder / "f.html").read_text()
    assert shell("report", "f.json", "-o", "g.html").status == 0
    assert (shell.folder / "g.html").read_text() == (shell.folder / "f.html").read_text()


@pytest.mark.usefixtures("reports")
def test_what_cannot_be_drawn_is_told(shell: Shell) -> None:
    shell.fails("report", "r.json", "-o", "p.html", code="output-exists")
    shell.fails("report", "r.json", "-o", "r.json", "--force", code="output-is-input")
    shell.fails("report", "r.json", "-o", "none/p.html", code="folder-missing")
    shell.fails("report", "none.json", "-o", "x.html", code="report-unreadable")
    shell.fails("report", "m.onnx", "-o", "x.html", code="report-unreadable")
    shell.fails("report", "s.json", "r.json", "-o", "x.html", code="report-schema", words=("report first",))
    shell.fails("report", "r.json", "r.json", "-o", "x.html", code="report-schema", words=("no sweep",))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "report-unreadable"),
        ("[]", "report-unreadable"),
        ('{"schema": 1}', "report-unreadable"),
        ('{"schema": "graphprune.plan/1"}', "report-schema"),
        ('{"schema": "graphprune.report/2"}', "report-schema"),
        ('{"schema": "graphprune.report/1"}', "report-unreadable"),
        ('{"schema": "graphprune.sweep/1", "points": 3}', "report-unreadable"),
        ('{"schema": "graphprune.finetune/1"}', "report-unreadable"),
        ("[" * 100_000, "report-unreadable"),
    ],
)
def test_files_that_are_no_reports(shell: Shell, text: str, code: str) -> None:
    (shell.folder / "r.json").write_text(text)
    shell.fails("report", "r.json", "-o", "x.html", code=code)


def test_a_sweep_of_another_model_is_refused(shell: Shell, reports: Path) -> None:
    assert shell("sweep", "mlp.onnx", "--budgets", "0.5", "--report", "other.json").status == 0
    shell.fails("report", "r.json", "other.json", "-o", "x.html", code="report-mismatch")
    assert reports.exists()


def test_pages_are_protected_like_all_outputs(shell: Shell) -> None:
    (shell.folder / "there.html").write_text("mine")
    shell.fails("m.onnx", "--budget", "0.5", "--html", "there.html", code="output-exists")
    shell.fails("m.onnx", "--budget", "0.5", "--html", "x", "--report", "x", code="output-twice")
    shell.fails("sweep", "m.onnx", "--budgets", "0.5", "--html", "there.html", code="output-exists")
    shell.fails("inspect", "m.onnx", "--html", "m.onnx", "--force", code="output-is-input")


def test_help(shell: Shell) -> None:
    assert shell("report", "--help").out == REPORT
    assert shell("reprot", "r.json").code in ("unexpected-argument", "unused-cli-tokens")
