"""``graphprune figures``: what it writes and refuses."""

from __future__ import annotations

import sys
from inspect import signature

import pytest
from commands import Shell
from test_help import options_in

from graphprune.cli.figures import figures
from graphprune.cli.help import FIGURES


def test_writes_what_the_report_has(shell: Shell) -> None:
    assert shell("m.onnx", "--budget", "0.5", "--report", "r.json", "-q").status == 0
    done = shell("figures", "r.json", "--format", "svg,png", "--dpi", 40)
    assert (done.status, done.err) == (0, "")
    written = {p.name for p in (shell.folder / "r.figures").iterdir()}
    assert written >= {"widths.svg", "widths.png"}
    assert all(f"wrote r.figures/{name}" in done.out for name in written)
    done = shell("figures", "r.json", "-o", "f", "--only", "widths", "-q")
    assert (done.out, {p.name for p in (shell.folder / "f").iterdir()}) == ("", {"widths.svg"})


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["m.onnx"], "report-unreadable"),
        (["none.json"], "report-unreadable"),
        (["r.json", "-o", "a/b"], "folder-missing"),
        (["r.json", "--format", "gif"], "unknown-format"),
        (["r.json", "--only", "curve"], "figure-empty"),
    ],
)
def test_refuses(shell: Shell, words: list[str], code: str) -> None:
    assert shell("m.onnx", "--budget", "0.5", "--report", "r.json", "-q").status == 0
    shell.fails("figures", *words, code=code)


def test_without_matplotlib(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shell.fails("figures", "r.json", code="matplotlib-missing")


def test_help_tells_every_option() -> None:
    assert options_in(FIGURES) == set(signature(figures).parameters) - {"file"} | {"help"}
