"""Prune every model file there is, check what comes out, and write a table of it.

python tests/zoo/zoo.py --models DIR [DIR ...] --out docs/zoo.md [--cache DIR] [--budgets 0.5,0.7,0.3] [--onnxsim]

Every model is measured in a process of its own, with limits on time and memory. Results are kept in --cache by the
hash of the file and of graphprune's own code, so that a run goes on where it stopped. Beside the table, --out with the
suffix .json holds everything that was measured. What makes model files: tests/zoo/make_*.py, one script a framework.
Exits 1 when a model came out wrong or with a traceback.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from limits import Limits, run_limited
from table import flawless, holds, write

HERE = Path(__file__).parent
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """How models are measured, and where results are kept."""

    cache: Path
    budgets: str
    limits: Limits
    code: str
    stale: bool = False
    onnxsim: bool = False


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="the table, Markdown; the same as .json lies beside it")
    parser.add_argument("--cache", type=Path, default=Path("build/zoo"), help="where results are kept")
    parser.add_argument("--budgets", default="0.5,0.7,0.3", help="parts of the multiply-accumulates to keep")
    parser.add_argument("--seconds", type=float, default=900, help="time limit of a model")
    parser.add_argument("--memory", type=float, default=16, help="address space of a model's process, in GiB")
    parser.add_argument("--stale", action="store_true", help="keep results of older code, where they held in full")
    parser.add_argument("--onnxsim", action="store_true", help="measure onnxsim's structured pruning on the same files")
    return parser.parse_args(given)


def model_files(places: Iterable[Path]) -> list[Path]:
    """Return the model files, in order of size: what is quick comes first."""
    found = {p for place in places for p in (place.rglob("*.onnx") if place.is_dir() else [place])}
    return sorted(found, key=lambda p: (p.stat().st_size, p.name))


def code_version() -> str:
    """Return a hash of graphprune's source files."""
    import graphprune.passes

    digest = sha256()
    for folder in (Path(graphprune.__file__).parent, Path(graphprune.passes.__file__ or "").parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def file_version(path: Path) -> str:
    """Return a hash of a model file."""
    return sha256(path.read_bytes()).hexdigest()[:16]


def measured(path: Path, run: Run) -> Row:
    """Return what is known of a model, measuring it where it is not."""
    name = f"{file_version(path)}.{run.budgets}"
    fresh = run.cache / f"{name}.{run.code}.json"
    older = sorted(run.cache.glob(f"{name}.*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    for place in [fresh, *(older if run.stale else [])]:
        if place.exists():
            row: Row = json.loads(place.read_text(encoding="utf-8"))
            if place == fresh or flawless(row):
                return row
    row = in_process("measured.py", path, fresh, run, ["--budgets", run.budgets])
    row |= {"file": path.name, "code": run.code}
    fresh.write_text(json.dumps(row), encoding="utf-8")
    return row


def peer(path: Path, run: Run) -> Row:
    """Return how far onnxsim gets with a model."""
    place = run.cache / f"{file_version(path)}.onnxsim.json"
    if not place.exists():
        place.write_text(json.dumps(in_process("peer.py", path, place, run, [])), encoding="utf-8")
    row: Row = json.loads(place.read_text(encoding="utf-8"))
    return row


def in_process(script: str, path: Path, place: Path, run: Run, more: list[str]) -> Row:
    """Let a script write what it finds about a model, and return that, or what became of the process."""
    part = place.with_suffix(".part")
    part.unlink(missing_ok=True)
    said = run_limited([sys.executable, str(HERE / script), str(path), str(part), *more], run.limits)
    row: Row = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
    part.unlink(missing_ok=True)
    return row | ({"died": said} if said else {})


def rows_of(files: Iterable[Path], run: Run) -> Iterator[Row]:
    """Measure the files one after another, and say so."""
    files = list(files)
    for k, path in enumerate(files, 1):
        row = measured(path, run)
        if run.onnxsim:
            row["onnxsim"] = peer(path, run)
        half = row.get("budgets", {}).get("0.5", {})
        verdict = "ok" if flawless(row) else "WRONG" if not holds(row) else "short"
        words = row.get("died") or row.get("error") or half.get("error") or half.get("unreachable") or ""
        last = [p["traceback"].splitlines()[-1] for p in (row, *row.get("budgets", {}).values()) if "traceback" in p]
        line = f"{k}/{len(files)} {path.name} {verdict} {row.get('prunable', '')} {row.get('seconds', '')} s"
        print(line, words[:160], *last[:1], flush=True)
        yield row


def main(given: list[str] | None = None) -> int:
    """Measure what was asked for and write the table."""
    asked = arguments(given)
    asked.cache.mkdir(parents=True, exist_ok=True)
    limits = Limits(asked.seconds, int(asked.memory * 2**30))
    run = Run(asked.cache, asked.budgets, limits, code_version(), asked.stale, asked.onnxsim)
    rows = list(rows_of(model_files(asked.models), run))
    write(rows, asked.out, run.budgets)
    return 0 if all(map(holds, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
