"""(a) Our whole run over the least that anybody must do with the same file: load, infer shapes, run once, save."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import onnx
import onnxruntime
from clock import Times, in_turns, ratio, stopwatch
from ours import whole
from synthetic import chain
from zoo import Export, export

from graphprune.runtime import feeds

MODELS = ("resnet50", "densenet121", "mobilenet_v2")
TARGET = {"resnet50": 3.0, "densenet121": 3.0}


def least(path: Path, out: Path, inputs: dict[str, object]) -> None:
    """Do the least: the session is onnxruntime's default one."""
    model = onnx.load(path)
    onnx.shape_inference.infer_shapes(model)
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)
    onnx.save(model, out)


def measure(one: Export, folder: Path, rounds: int) -> None:
    """Print the ratio for one model, and where our time goes."""
    inputs = feeds(one.model, one.shapes, seed=0)
    stages: Times = {}
    contenders = {
        "floor": lambda: least(one.path, folder / "floor.onnx", inputs),
        "ours": lambda: whole(one.path, folder / "ours.onnx", one.shapes, stopwatch(stages)),
    }
    times = in_turns(contenders, rounds)
    target = f"  at most {TARGET[one.name]:g}" if one.name in TARGET else ""
    print(f"{one.name:18s} ours / floor {ratio(times, 'ours', 'floor')}{target}")
    shares = ", ".join(f"{name} {median(laps):.3f}" for name, laps in stages.items() if name)
    print(f"{'':18s} floor {median(times['floor']):.3f} s, ours {median(times['ours']):.3f} s: {shares}")


def main(folder: Path, zoo: Path | None, rounds: int, exporter: str, only: tuple[str, ...]) -> None:
    """Print the ratios."""
    print("(a) our whole run over load + shape inference + one session and run + save")
    small = folder / "warm.onnx"
    onnx.save(chain(10), small)
    whole(small, folder / "ours.onnx")
    for name in only or MODELS:
        one = export(name, folder, zoo, exporter)
        if one:
            measure(one, folder, rounds)
