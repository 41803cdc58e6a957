"""Telling the type of files by their bytes: magika's network, on files that a Python installation has."""

from __future__ import annotations

import importlib
import sysconfig
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from task import Run, Samples, Task

ENDS, PADDING = 1024, 256
EACH = 60
"""Files of one suffix at most."""
MEASURED = 400


def file_types() -> Task:
    """Types of files: how often the first type stays, on 400 files; calibrated on others."""

    def model() -> onnx.ModelProto:
        folder = Path(str(importlib.import_module("magika").__file__)).parent / "models"
        return onnx.load(sorted(folder.glob("standard*/model.onnx"))[-1])

    def calibration(count: int, seed: int) -> Samples:
        paths = gathered()[MEASURED:]
        chosen = np.random.default_rng([seed, 8]).permutation(len(paths))[:count]
        return {"bytes": np.stack([ends_of(paths[k]) for k in chosen])}

    def measure(run: Run, original: Run) -> float:
        x = {"bytes": np.stack([ends_of(path) for path in gathered()[:MEASURED]])}
        return float((run(x)[0].argmax(1) == original(x)[0].argmax(1)).mean())

    return Task("file types", "agreement", model, calibration, measure)


@cache
def gathered() -> tuple[Path, ...]:
    """Return files of many suffixes, in an order that is shuffled once and for all."""
    count: dict[str, int] = {}
    found = []
    for name in ("stdlib", "purelib", "include"):
        for path in sorted(Path(sysconfig.get_path(name)).rglob("*.*")):
            if count.get(path.suffix, 0) < EACH and path.is_file() and path.stat().st_size >= 64:
                count[path.suffix] = count.get(path.suffix, 0) + 1
                found.append(path)
    return tuple(found[k] for k in np.random.default_rng(5).permutation(len(found)))


def ends_of(path: Path) -> np.ndarray:
    """Return the first and the last kilobyte as the network takes them, without blanks at the ends: (2048,) int32."""
    data = path.read_bytes()
    first, last = data[:4096].lstrip()[:ENDS], data[-4096:].rstrip()[-ENDS:]
    made = np.full(2 * ENDS, PADDING, np.int32)
    made[: len(first)] = np.frombuffer(first, np.uint8)
    made[2 * ENDS - len(last) :] = np.frombuffer(last, np.uint8)
    return made
