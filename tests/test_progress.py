"""Progress in terminals, notebooks and logs, and what goes to ``logging``."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
from models import mlp

import graphprune as gp
from graphprune.logs import logged, logger
from graphprune.progress import ShowProgress, show_progress, where


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ticking() -> Iterator[float]:
    value = 0.0
    while True:
        yield value
        value += 1.5


def notebook(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stand in for IPython in a kernel; returns what its display shows, call by call."""
    shown: list[tuple[str, str]] = []

    class Handle:
        def update(self, line: object) -> None:
            shown.append(("update", repr(line)))

    def display(line: object, *, display_id: bool) -> Handle:
        shown.append(("display", repr(line)))
        return Handle()

    shell = type("ZMQInteractiveShell", (), {"kernel": object()})()
    module, inner = ModuleType("IPython"), ModuleType("IPython.display")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    inner.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return shown


def test_where_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert where(Terminal(), {}) == "terminal"
    assert where(Terminal(), {"CI": "true"}) == "lines"
    assert where(Terminal(), {"TERM": "dumb"}) == "lines"
    assert where(io.StringIO(), {}) == "lines"
    assert where(Terminal(), {"RANK": "0"}) == "terminal"
    assert where(Terminal(), {"RANK": "1"}) == "nowhere"
    monkeypatch.setattr(sys, "stderr", None)
    assert where(environment={}) == "nowhere"
    notebook(monkeypatch)
    assert where(io.StringIO(), {}) == "notebook"


def test_lines_in_a_log() -> None:
    stream, clock = io.StringIO(), ticking()
    with ShowProgress("lines", stream, clock.__next__) as step:
        step("trace")
        step("score")
        assert stream.getvalue() == "trace: 1.50 s\n"
    assert stream.getvalue() == "trace: 1.50 s\nscore: 1.50 s\n"
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_notebook_keeps_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = notebook(monkeypatch)
    step = show_progress()
    assert step.place == "notebook"
    step("trace")
    step("score")
    step.close()
    step.close()
    assert [kind for kind, _ in shown] == ["display", "update", "update"]
    assert [text for _, text in shown[:2]] == ["trace ...", "score ..."]
    assert shown[2][1].startswith("done: trace ")


def test_a_terminal_is_clean_when_nobody_holds_the_progress() -> None:
    stream = Terminal()
    step: Any = ShowProgress("terminal", stream)
    step("score")
    assert step.view is not None
    view = step.view
    del step
    assert not view._live.is_started


def test_nowhere_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    gp.prune(mlp(), budget=0.5, progress=show_progress("nowhere"))
    assert capsys.readouterr() == ("", "")


def test_the_library_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    gp.prune(mlp(), budget=0.5)
    assert capfd.readouterr() == ("", "")


def test_stages_of_a_run_are_shown() -> None:
    stream = io.StringIO()
    with ShowProgress("lines", stream) as step:
        gp.prune(mlp(), budget=0.5, progress=step)
    assert [line.partition(":")[0] for line in stream.getvalue().splitlines()] == [
        "trace", "couple", "score", "solve", "rewrite", "count", "verify",
    ]  # fmt: skip


@pytest.mark.parametrize("environment", [{}, {"CI": "1"}])
def test_the_command_in_a_real_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    onnx.save(mlp(), tmp_path / "m.onnx")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "graphprune", "m.onnx", "--budget", "0.5"]
    variables = {**{k: v for k, v in os.environ.items() if k != "CI"}, "TERM": "xterm", **environment}
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, cwd=tmp_path, env=variables, check=False)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        seen += part
    os.close(ours)
    assert done.returncode == 0
    assert (b"\x1b[" in seen) is not bool(environment)
    if not environment:
        assert seen.rstrip().endswith(b"\x1b[2K") or b"\x1b[?25h" in seen  # the line is wiped, the cursor shown again


def test_what_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.DEBUG, "graphprune"):
        _, report = gp.prune(mlp(), budget=0.5)
        report.save(tmp_path / "r.json")
    assert {r.name for r in caplog.records} == {"graphprune.pipeline", "graphprune.files"}
    info = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert info[0] == f"traced 5 nodes and 6 parameters: 2 groups of 64 units, {len(report.frozen)} axes frozen"
    assert f"MACs {report.input.macs} -> {report.output.macs}" in info[1]
    assert info[2].startswith("checked on ")
    assert info[3] == f"wrote {(tmp_path / 'r.json').resolve()}"
    debug = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert {"trace", "couple", "score", "solve", "rewrite", "verify"} <= set(debug)


def test_warnings_of_a_report_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    _, report = gp.prune(mlp(), budget=1.0)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == list(report.warnings)
    assert report.warnings


def test_seconds_of_stages_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    step = logged(calls.append, ticking().__next__)
    with caplog.at_level(logging.DEBUG, "graphprune"):
        step("a")
        step("b")
    assert [r.getMessage() for r in caplog.records] == ["a", "a took 1.50 s", "b"]
    assert calls == ["a", "b"]


def test_one_null_handler_and_no_level() -> None:
    logger("x")
    assert logger("pipeline").name == "graphprune.pipeline"
    top = logging.getLogger("graphprune")
    assert sum(isinstance(h, logging.NullHandler) for h in top.handlers) == 1
    assert top.level == logging.NOTSET


def test_without_a_listener_warnings_are_not_printed(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r})\nfrom models import mlp\nimport graphprune as gp\n"
    code += "gp.prune(mlp(), budget=1.0)"
    # Not in the checkout, where the folder graphprune has no passes.
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_ipython_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("IPython")
    module.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert where(Terminal(), {}) == "terminal"
