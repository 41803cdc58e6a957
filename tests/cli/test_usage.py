"""Wrong usage: one error in our form, exit status 2, nothing written."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from commands import Shell

from graphprune.cli.options import alignment, default_output, input_shapes
from graphprune.errors import UsageError


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        ([], "missing-argument", "graphprune --help"),
        (["m.onnx"], "budget-missing", "--budget 0.5"),
        (["m.onnx", "--budgte", "0.5"], "unknown-option", "did you mean --budget?"),
        (["m.onnx", "--budget"], "missing-argument", "--budget"),
        (["m.onnx", "--budget", "0.5", "extra.onnx"], "unexpected-argument", "extra.onnx"),
        (["inspct", "m.onnx"], "unexpected-argument", "did you mean graphprune inspect"),
        (["inspect"], "missing-argument", "MODEL"),
        (["inspect", "m.onnx", "--jsn"], "unknown-option", "did you mean --json?"),
        (["passes", "l1", "more"], "unexpected-argument", "more"),
        (["passes", "more"], "unknown-method", "more"),
        (["m.onnx", "--budget", "0.5", "--option", "p"], "bad-option", "KEY=VALUE"),
        (["m.onnx", "--budget", "0.5", "--option", "p=1", "--option", "p=2"], "option-twice", "once"),
        (["m.onnx", "--budget", "0.5", "--option", "q=1"], "unknown-option", "q"),
        (["m.onnx", "--budget", "0.5", "--seed", "many"], "bad-value", "--seed"),
        (["m.onnx", "--budget", "0.5", "--seed", "-1"], "bad-seed", "from 0 up"),
        (["m.onnx", "--budget", "0.5", "--seed", "18446744073709551616"], "bad-seed", "below 2**64"),
        (["compare", "m.onnx", "m.onnx", "--seed", "-1"], "bad-seed", "from 0 up"),
        (["bench", "m.onnx", "--seed", "-1"], "bad-seed", "from 0 up"),
        (["m.onnx", "--budget", "0.5", "--min-width", "-3"], "bad-width", "--min-width"),
        (["m.onnx", "--budget", "0.5", "--multiple", "0"], "bad-multiple", "auto"),
        (["m.onnx", "--budget", "0.5", "--multiple", "often"], "bad-multiple", "auto"),
        (["m.onnx", "--budget", "0.5", "--method", "magnitud"], "unknown-method", "did you mean 'magnitude'"),
        (["m.onnx", "--budget", "0.5", "--no-force"], "unknown-option", "--force"),
        (["m.onnx", "--budget", "0"], "budget-value", "0.5 keeps half"),
        (["m.onnx", "--budget", "-1"], "budget-value", "0.5 keeps half"),
        (["m.onnx", "--budget", "1.5"], "budget-value", "no unit"),
        (["m.onnx", "--budget", "nan"], "budget-value", "0.5 keeps half"),
        (["m.onnx", "--budget", "inf"], "budget-value", "0.5 keeps half"),
        (["m.onnx", "--budget", ""], "budget-empty", "0.5 keeps half"),
        (["m.onnx", "--budget", "half"], "budget-value", "0.5 keeps half"),
        (["m.onnx", "--budget", "mac=0.5"], "budget-metric", "did you mean macs?"),
        (["m.onnx", "--budget", "size=10XB"], "budget-unit", "MB"),
        (["m.onnx", "--budget", "0.5", "--budget", "macs=0.4"], "budget-twice", "macs"),
        (["m.onnx", "--budget", "0.5", "--keep", "stem.weigth"], "keep-matches-nothing", "'stem.weight'"),
        (["m.onnx", "--budget", "0.5", "--input-shape", "1,3,8,8"], "bad-shape", "NAME=1,3,224,224"),
        (["m.onnx", "--budget", "0.5", "--input-shape", "x=1,3,-8,8"], "bad-shape", "positive"),
        (["m.onnx", "--budget", "0.5", "--input-shape", "z=1,3,8,8"], "unknown-input", "its inputs are x"),
        (["m.onnx", "--budget", "0.5", "--input-shape", "x=1,3,9,9"], "input-shape", "x"),
        (["m.onnx", "--plan", "none.json"], "plan-unreadable", "none.json"),
        (["m.onnx", "--plan", "m.onnx"], "plan-unreadable", "--save-plan"),
    ],
)
def test_wrong_usage(shell: Shell, words: list[str], code: str, hint: str) -> None:
    shell.fails(*words, code=code, words=(hint,))


def test_shapes() -> None:
    assert input_shapes(["x=1,3,8,8", "a=b=2x4", "s="]) == {"x": (1, 3, 8, 8), "a=b": (2, 4), "s": ()}
    for bad in ("x", "=1,2", "x=1,,2", "x=1.5", "x=0"):
        with pytest.raises(UsageError):
            input_shapes([bad])
    with pytest.raises(UsageError):
        input_shapes(["x=1", "x=2"])


def test_alignment() -> None:
    assert alignment("auto") == "auto"
    assert alignment("8") == 8
    for bad in ("-8", "8.0", "", "²"):
        with pytest.raises(UsageError):
            alignment(bad)


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("m.onnx", "m.pruned.onnx"), ("a.b.onnx", "a.b.pruned.onnx"), ("dir/m.ONNX", "dir/m.pruned.onnx"),
        ("model", "model.pruned.onnx"), ("m.pb", "m.pb.pruned.onnx"), (".onnx", ".onnx.pruned.onnx"),
    ],
)  # fmt: skip
def test_default_output(model: str, output: str) -> None:
    from pathlib import Path

    assert default_output(Path(model)) == Path(output)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps what it likes")
def test_freed_memory_is_used_again() -> None:
    """Forty arrays of 64 MB after a first one: each takes its pages, small or huge, or the kernel's anew."""
    code = (
        "import resource, sys\nimport numpy as np\nfrom graphprune.cli import keep_freed_memory\n"
        "if sys.argv[1] == 'keep':\n    keep_freed_memory()\n"
        "np.ones(1 << 23)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(40):\n    np.ones(1 << 23)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "give back")
    )
    assert kept < given_back / 5
