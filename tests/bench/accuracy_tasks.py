"""Trained models that packages ship, with samples to calibrate on and others to measure on.

A task is skipped, with a line on what to install, where its package is missing; nothing is downloaded. Samples for
calibration and for measuring never share a photograph, a line of text, a file or an image.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from file_types import file_types
from photographs import lite0, mobilenet, photographs
from speech import speech
from task import Run, Samples, Task, exported
from text_boxes import boxes
from text_tasks import lines, sentences


def tasks(mnist: Path | None, folders: Sequence[Path] = ()) -> dict[str, Task]:
    """Return all tasks by name; ``folders`` have further photographs to calibrate on."""
    found = [digits(mnist)] if mnist is not None else []
    classifiers = {"mobilenet_v2": mobilenet, "efficientnet_lite0": lite0}
    found += [photographs(name, make, tuple(folders)) for name, make in classifiers.items()]
    found += [sentences(), lines(), boxes(), speech(), file_types()]
    return {task.name: task for task in found}


def digits(path: Path) -> Task:
    """MNIST with the network of digit-recognizer-py: accuracy on the 10,000 test images."""

    def module() -> Any:
        import torch

        package = importlib.import_module("digit_recognizer")
        made = importlib.import_module("digit_recognizer.model").CNN()
        folder = Path(str(package.__file__)).parent
        made.load_state_dict(torch.load(next(folder.rglob("*.pth")), map_location="cpu", weights_only=True))
        return made.eval()

    def example() -> Any:
        import torch

        return torch.zeros(2, 1, 28, 28)

    def scaled(images: np.ndarray) -> np.ndarray:
        return ((images[:, None] / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)).astype(np.float32)

    def calibration(count: int, seed: int) -> Samples:
        images = np.load(path)["x_train"]
        return {"x": scaled(images[np.random.default_rng(seed).choice(len(images), count, replace=False)])}

    def measure(run: Run, original: Run) -> float:
        with np.load(path) as data:
            images, labels = scaled(data["x_test"]), data["y_test"]
        parts = [run({"x": images[k : k + 500]})[0].argmax(1) for k in range(0, len(images), 500)]
        return float((np.concatenate(parts) == labels).mean())

    return Task("digits", "accuracy", lambda: exported(module(), example()), calibration, measure, module, example)
