"""Defaults from graphprune.toml and pyproject.toml in the working folder; flags win."""

from __future__ import annotations

import pytest
from commands import Shell

from graphprune.report.report import Report


def write(shell: Shell, name: str, text: str) -> None:
    (shell.folder / name).write_text(text)


def test_own_file(shell: Shell) -> None:
    write(shell, "graphprune.toml", 'budget = 0.5\nmethod = "random"\nseed = 7\nreport = "r.json"\nforce = true\n')
    assert shell("m.onnx").status == 0
    report = Report.load("r.json")
    assert (report.method, report.seed, report.budget) == ("random", 7, {"macs": 0.5})


def test_flags_win(shell: Shell) -> None:
    write(shell, "graphprune.toml", 'budget = 0.5\nmethod = "random"\nkeep = ["stem"]\n')
    assert shell("m.onnx", "--method", "l1", "--budget", "0.8", "--report", "r.json", "--keep", "fc").status == 0
    report = Report.load("r.json")
    assert report.method in ("l1", "magnitude")
    assert report.budget == {"macs": 0.8}
    assert {g.id for g in report.groups} >= {"block.first"}
    assert not any("--keep stem" in f.reason for f in report.frozen)


def test_pyproject(shell: Shell) -> None:
    table = '[tool.graphprune]\nbudget = "macs=0.6,params=0.9"\nmin-width = 8\n'
    write(shell, "pyproject.toml", f'[project]\nname = "x"\n{table}')
    assert shell("m.onnx", "--report", "r.json").status == 0
    report = Report.load("r.json")
    assert report.budget == {"macs": 0.6, "params": 0.9}
    assert min(len(g.kept) for g in report.groups) >= 8
    write(shell, "graphprune.toml", "budget = 0.7\n")
    assert shell("m.onnx", "--report", "r.json", "--force").status == 0
    assert Report.load("r.json").budget == {"macs": 0.7}


def test_defaults_of_pruning_are_not_those_of_other_commands(shell: Shell) -> None:
    write(shell, "graphprune.toml", "budget = 0.5\n[inspect]\njson = true\n")
    assert shell("inspect", "m.onnx").out.startswith("{")
    assert shell("passes").status == 0
    assert shell("m.onnx", "-q").status == 0


def test_other_projects_are_left_alone(shell: Shell) -> None:
    write(shell, "pyproject.toml", "this is [not toml")
    assert shell("m.onnx", "--budget", "0.5").status == 0
    write(shell, "pyproject.toml", '[project]\nname = "x"\ndependencies = ["graphprune"]\n')
    assert shell("m.onnx", "--budget", "0.5", "--force").status == 0


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("budget = = 1", "config-unreadable", "graphprune.toml"),
        ("budgte = 0.5", "unknown-option", "budgte"),
        ('seed = "many"\nbudget = 0.5', "bad-value", "seed"),
        ("budget = 0", "budget-value", "0.5 keeps half"),
    ],
)
def test_mistakes_are_told(shell: Shell, text: str, code: str, word: str) -> None:
    write(shell, "graphprune.toml", text)
    shell.fails("m.onnx", code=code, words=(word,))
