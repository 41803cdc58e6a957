"""Completion scripts: up to date, complete, and what bash makes of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Shell

from graphprune.cli.completion import HOME, SHELLS, afterwards, place, script
from graphprune.cli.completion_scripts import GENERATORS, VALUES, commands, methods, options_of
from graphprune.cli.help import MAIN, TEXTS
from graphprune.data.preprocess import NAMED
from graphprune.kinds import SHOWN
from graphprune.pipeline.calibration import REPAIRS
from graphprune.registry import describe


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_shipped_is_what_the_texts_say(shell: str) -> None:
    assert script(shell) == GENERATORS[shell](), "run python -m graphprune.cli.completion and commit what it writes"
    assert {p.name for p in HOME.iterdir()} == {f"graphprune.{name}" for name in SHELLS}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_it(shell: str) -> None:
    text = script(shell)
    assert set(commands()) == set(TEXTS)
    for name in (*TEXTS, *(o.name for body in (MAIN, *TEXTS.values()) for o in options_of(body))):
        assert re.search(rf"\b{re.escape(name.lstrip('-'))}\b", text), name


def test_values_are_those_that_are_taken() -> None:
    assert VALUES["--repair"] == REPAIRS
    assert set(VALUES["--prune"]) == set(SHOWN.values())
    assert set(VALUES["--preprocess"]) == set(NAMED)
    assert set(methods()) == {"auto", *(p["name"] for p in describe() if p["package"] == "graphprune")}


def test_options_are_read_from_the_text() -> None:
    found = {o.name: o for o in options_of(MAIN)}
    assert (found["--output"].short, found["--output"].file, found["--output"].takes) == ("-o", True, True)
    assert (found["--seed"].takes, found["--seed"].file, found["--dry-run"].takes) == (True, False, False)
    assert found["--multiple"].takes
    assert found["--input-shape"].words.startswith("sizes to count costs with")


COMPLETE = """
source "$1"; shift
COMP_WORDS=(graphprune "$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); _graphprune
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(shell: Shell, *words: str) -> list[str]:
    """What bash offers after these words."""
    command = ["bash", "--norc", "-c", COMPLETE, "bash", str(HOME / "graphprune.bash"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=shell.folder)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["com"], ["compare", "completion"]),
        (["ml"], ["mlp.onnx"]),
        (["m.onnx", "--bud"], ["--budget"]),
        (["m.onnx", "--repair", "l"], ["least-squares"]),
        (["m.onnx", "--seed", ""], []),
        (["m.onnx", "--plan", "m"], ["m.onnx", "mlp.onnx"]),
        (["compare", "m.onnx", "ml"], ["mlp.onnx"]),
        (["compare", "--h"], ["--html", "--help"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["passes", "taylor-"], ["taylor-weight"]),
        (["figures", "--format", "p"], ["pdf", "png"]),
    ],
)
def test_bash_completes(shell: Shell, words: list[str], wanted: list[str]) -> None:
    assert sorted(completed(shell, *words)) == sorted(wanted)


def test_prints_and_installs(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(shell.folder))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert shell("completion", "zsh").out == script("zsh")
    assert shell("completion").out == script("fish")
    done = shell("completion", "--install")
    target = shell.folder / ".config" / "fish" / "completions" / "graphprune.fish"
    assert target.read_text() == script("fish")
    assert str(target) in done.out
    assert shell("completion", "--install", "-q").status == 0  # its own file may be replaced
    assert shell("completion", "bash", "-o", "g.bash").status == 0
    assert (shell.folder / "g.bash").read_text() == script("bash")
    (shell.folder / "mine").write_text("mine")
    shell.fails("completion", "bash", "-o", "mine", code="output-exists")


def test_where_each_shell_looks() -> None:
    home = {"HOME": "/home/u"}
    assert place("bash", home) == Path("/home/u/.local/share/bash-completion/completions/graphprune")
    assert place("zsh", home) == Path("/home/u/.zfunc/_graphprune")
    assert place("fish", {**home, "XDG_CONFIG_HOME": "/c"}) == Path("/c/fish/completions/graphprune.fish")
    assert "compinit" in afterwards("zsh", Path("/home/u/.zfunc/_graphprune"))


@pytest.mark.parametrize("name", ["", "/bin/tcsh"])
def test_other_shells_are_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SHELL", name)
    shell.fails("completion", code="unknown-shell", words=("bash, zsh or fish",))


def test_completing_starts_no_python() -> None:
    for name in SHELLS:
        assert "python " not in script(name).split("\n", 3)[-1]
    code = "import sys, graphprune.cli.completion; print(sorted(set(sys.modules) & {'numpy', 'onnx', 'scipy'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
