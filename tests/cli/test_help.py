"""Help, version, and that they cost nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
from commands import Shell

from graphprune.cli.help import INSPECT, MAIN, PASSES, SWEEP, wanted
from graphprune.cli.inspect import inspect
from graphprune.cli.options import Options, SweepOptions
from graphprune.cli.passes import passes

HEAVY = ("numpy", "onnx", "onnxruntime", "scipy", "networkx", "cvxpy", "rich", "cyclopts", "torch")


def options_in(text: str) -> set[str]:
    return {m[1].replace("-", "_") for m in re.finditer(r"^ +(?:-\w, )?--([a-z-]+)", text, re.MULTILINE)}


def test_help_tells_every_option_and_no_other() -> None:
    assert options_in(MAIN) == {f.name for f in fields(Options)} | {"help", "version"}
    assert options_in(INSPECT) == set(signature(inspect).parameters) - {"model"} | {"help"}
    assert options_in(SWEEP) == {f.name for f in fields(SweepOptions)} | {"help"}
    assert options_in(PASSES) == set(signature(passes).parameters) - {"name"} | {"help"}


def test_defaults_in_help_are_the_real_ones() -> None:
    defaults = Options()
    assert f"(default {defaults.method}:" in MAIN
    assert f"keeps at least (default {defaults.min_width})" in MAIN
    assert f"(default {defaults.multiple}:" in MAIN
    assert f"seed of all that is random (default {defaults.seed})" in MAIN


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], MAIN),
        (["-h"], MAIN),
        (["m.onnx", "--budget", "0.5", "--help"], MAIN),
        (["inspect", "-h"], INSPECT),
        (["passes", "--help"], PASSES),
        (["m.onnx"], None),
        ([], None),
        (["--", "--help"], None),
    ],
)
def test_who_gets_which_help(arguments: list[str], text: str | None) -> None:
    assert wanted(arguments) == text


def test_help_fits_a_wide_terminal(shell: Shell) -> None:
    done = shell("--help")
    assert (done.status, done.err) == (0, "")
    assert done.out == MAIN
    assert max(map(len, done.out.splitlines())) <= 95


def test_version(shell: Shell) -> None:
    done = shell("--version")
    assert done.status == 0
    assert re.fullmatch(r"graphprune \d+\.\d+\.\d+\S*\n", done.out)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["inspect", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom graphprune.cli import main\n"
        f"status = main({words!r})\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_wrong_usage_imports_no_library_of_models() -> None:
    code = (
        "import sys\nfrom graphprune.cli import main\nmain(['m.onnx', '--bogus'])\n"
        "print(sorted(set(sys.modules) & {'numpy', 'onnx', 'onnxruntime', 'scipy', 'cvxpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("error[unknown-option]")


def test_python_dash_m(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graphprune"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == MAIN
    missing = [*command, "none.onnx", "--budget", "0.5"]
    done = subprocess.run(missing, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[model-missing]: none.onnx: ")


def test_importing_the_package_imports_nothing() -> None:
    code = f"import sys, graphprune; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
