"""Runs the blocks of a page as a reader would, from the top, in a folder with the examples.

``graphprune`` commands run inside this process, which spares a second each; whatever needs a shell runs in bash. Blocks
of Python share their names from the top of the page to its end.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs_pages import ROOT, Block

from graphprune.cli import main

SHELL_ONLY = re.compile(r"&&|\|\||[|<>;$`]|\\$|^\w+=", re.MULTILINE)
MADE = ("model.pruned.onnx", "curve.svg")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\d)", re.IGNORECASE)


@dataclass
class Reader:
    """Someone in a folder who runs one block after the other; ``printed`` is what the last one wrote to stdout.

    Where a page speaks of the reader's own models, commands are ``alternatives``: each finds the folder as the first
    did.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    alternatives: bool = False
    printed: str = ""

    def run(self, block: Block) -> None:
        """Run a block, or compare what it shows with what the one before it printed."""
        if block.mark == "file":
            (self.folder / block.words).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.words).write_text(block.text, encoding="utf-8")
        elif block.mark == "output":
            fault = difference(block.text, self.printed)
            assert not fault, f"{block.place}: {fault}\nprinted:\n{self.printed}"
        elif block.mark != "skip" and block.language == "python":
            self.printed = self._python(block)
        elif block.mark != "skip" and block.language == "sh":
            self.printed = self._shell(block)

    def _python(self, block: Block) -> str:
        out = io.StringIO()
        code = compile("\n" * block.line + block.text, str(block.page), "exec")
        with contextlib.redirect_stdout(out):
            exec(code, self.names)
        return out.getvalue()

    def _shell(self, block: Block) -> str:
        if SHELL_ONLY.search(block.text):
            return self._bash(block.text, block.place)
        lines = block.text.replace("\\\n", " ").splitlines()
        return "".join(self._line(line, block.place) for line in lines if line.strip())

    def _line(self, line: str, place: str) -> str:
        words = shlex.split(line, comments=True)
        if words[:1] != ["graphprune"]:
            return self._bash(line, place)
        for written in MADE if self.alternatives else ():
            (self.folder / written).unlink(missing_ok=True)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([name for word in words[1:] for name in self._names(word)])
        assert status == 0, f"{place}: {line}\n{err.getvalue()}"
        return out.getvalue()

    def _names(self, word: str) -> list[str]:
        """Return the files that a pattern stands for, a word that is none as it is."""
        found = sorted(str(p.relative_to(self.folder)) for p in self.folder.glob(word)) if "*" in word else []
        return found or [word]

    def _bash(self, text: str, place: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{place}: {text}\n{done.stdout}{done.stderr}"
        return done.stdout


def with_examples(folder: Path) -> Path:
    """Lay out a folder as the repository's root is to a reader: the examples are there, and may be written to."""
    copied = shutil.ignore_patterns("reproduce", "__pycache__", "*.pruned.onnx", "build", "*.egg-info")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=copied)
    return folder


def difference(shown: str, printed: str) -> str:
    """Say which line of a page was not printed, nothing if all were, in this order and with nothing between them.

    A line of "..." stands for any number of lines, "..." within a line for any characters.
    """
    given, at, jump = _lines(printed), 0, False
    for line in _lines(shown):
        if line == "...":
            jump = True
            continue
        steps = range(at, len(given) if jump else min(at + 1, len(given)))
        at = next((k + 1 for k in steps if same(line, given[k])), 0)
        if not at:
            return f"the page shows {line!r}"
        jump = False
    return "" if jump or at == len(given) else f"the page does not show {given[at]!r}"


def same(shown: str, printed: str) -> bool:
    """Compare two lines: whole numbers as they are, those with a point to one per cent, with an exponent freely."""
    wanted = NUMBER.findall(shown)
    escaped = re.escape(NUMBER.sub("\0", shown)).replace(re.escape("..."), ".*?")
    found = re.fullmatch(escaped.replace(re.escape("\0"), f"({NUMBER.pattern})"), printed, re.IGNORECASE)
    return found is not None and all(_close(a, b) for a, b in zip(wanted, found.groups(), strict=True))


def _close(shown: str, printed: str) -> bool:
    x, y = (float(number.replace(",", "")) for number in (shown, printed))
    if "e" in shown.lower():
        return True
    return abs(x - y) <= 0.01 * abs(x) if "." in shown else shown == printed


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines() if line.strip()]
