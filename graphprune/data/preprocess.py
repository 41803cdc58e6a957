"""How an image becomes the numbers a model was trained on: two well-known ways by name, any other from a small file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .spec import InputSpec

Size = tuple[int, int]
LAYOUTS, CHANNELS, FILTERS = ("nchw", "nhwc"), ("rgb", "bgr", "gray"), ("nearest", "bilinear", "bicubic", "lanczos")
HINT = (
    "give imagenet, clip, or a JSON or TOML file with some of: size, crop, mean, std, scale, layout, channels, filter"
)


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop the middle, scale, normalise: ``(pixels * scale - mean) / std``, pixels from 0 to 255.

    ``size`` is (height, width) to resize to, or one number for the shorter side (None: no resizing); ``crop`` is
    (height, width) cut from the middle (None: nothing is cut). ``mean`` and ``std`` have one value, or one a channel in
    the order of ``channels`` ("rgb", "bgr" or "gray"). ``layout`` is "nchw" or "nhwc", ``filter`` the resampling.
    """

    size: int | Size | None = None
    crop: Size | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255
    layout: str = "nchw"
    channels: str = "rgb"
    filter: str = "bilinear"

    def __call__(self, image: Any) -> NDArray[np.float32]:
        """Return a Pillow image as a float32 array, (channels, height, width) or (height, width, channels)."""
        image = self._cropped(self._resized(image.convert("L" if self.channels == "gray" else "RGB")))
        pixels = np.asarray(image, np.float32).reshape(image.height, image.width, -1)
        if self.channels == "bgr":
            pixels = pixels[..., ::-1]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        values = (pixels * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values if self.layout == "nhwc" else values.transpose(2, 0, 1), np.float32)

    def _resized(self, image: Any) -> Any:
        from PIL import Image

        if self.size is None:
            return image
        if isinstance(self.size, int):
            factor = self.size / min(image.size)
            width, height = (max(round(n * factor), 1) for n in image.size)
        else:
            height, width = self.size
        return image.resize((width, height), Image.Resampling[self.filter.upper()])

    def _cropped(self, image: Any) -> Any:
        """Cut the middle; what lies outside a smaller image is black."""
        if self.crop is None:
            return image
        height, width = self.crop
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def shape(self) -> tuple[int | None, ...]:
        """Return the shape of an image, None where it depends on the file."""
        exact = self.crop or (self.size if isinstance(self.size, tuple) else (None, None))
        depth = 1 if self.channels == "gray" else 3
        return (*exact, depth) if self.layout == "nhwc" else (depth, *exact)


IMAGENET = Preprocess(256, (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The evaluation transform of torchvision's classifiers; for other sizes the same share (224 of 256) is cut."""
CLIP = Preprocess(
    224, (224, 224), (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), filter="bicubic"
)
"""The transform of OpenAI's CLIP."""
NAMED = {"imagenet": IMAGENET, "clip": CLIP}


def preprocess(text: str | Path | Preprocess, spec: InputSpec) -> Preprocess:
    """Return the preprocessing of a name or file, fitted to the model's input where that fixes the size.

    Raises UsageError when there is no such name or file, a key or value is wrong, or the result does not fit the input.
    """
    if isinstance(text, Preprocess):
        found = text
    elif str(text) in NAMED:
        found = _fitted(NAMED[str(text)], spec)
    else:
        found = from_file(Path(text))
    wanted = spec.shape[1:] if spec.shape else (None,) * 3
    made = found.shape()
    if len(wanted) != 3 or any(w and m and w != m for w, m in zip(wanted, made, strict=True)):
        sizes = " x ".join(str(n or "?") for n in made)
        words = f"it makes images of {sizes}, but input {spec.name!r} is {spec}"
        raise UsageError("preprocess-mismatch", words, where="--preprocess", hint=HINT)
    return found


def _fitted(way: Preprocess, spec: InputSpec) -> Preprocess:
    """Use the model's own height and width, and its layout where three channels show it."""
    shape = spec.shape if spec.shape and len(spec.shape) == 4 else (None,) * 4
    layout = "nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw"
    height, width = shape[1:3] if layout == "nhwc" else shape[2:4]
    if height is None or width is None or (height, width) == way.crop:
        return replace(way, layout=layout)
    assert isinstance(way.size, int) and way.crop is not None
    shorter = round(min(height, width) * way.size / way.crop[0])
    return replace(way, layout=layout, size=shorter if height == width else (height, width), crop=(height, width))


def from_file(path: Path) -> Preprocess:
    """Read a preprocessing from JSON or TOML; raises UsageError for a file that cannot be read and for wrong keys."""
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        words = f"cannot read the preprocessing: {error}"
        raise UsageError("preprocess-unreadable", words, where=str(path), hint=HINT) from error
    known = {field.name for field in fields(Preprocess)}
    if not isinstance(table, dict) or set(table) - known:
        odd = ", ".join(sorted(set(table) - known)) if isinstance(table, dict) else "no table at all"
        raise UsageError("preprocess-key", f"unknown: {odd}", where=str(path), hint=HINT)
    return _checked(table, str(path))


def _checked(table: Mapping[str, Any], where: str) -> Preprocess:
    def wrong(key: str, what: str) -> UsageError:
        return UsageError("preprocess-value", f"{key} must be {what}, not {table[key]!r}", where=where, hint=HINT)

    values = dict(table)
    for key, allowed in (("layout", LAYOUTS), ("channels", CHANNELS), ("filter", FILTERS)):
        if key in values and values[key] not in allowed:
            raise wrong(key, f"one of {', '.join(allowed)}")
    depth = 1 if values.get("channels") == "gray" else 3
    for key in ("mean", "std"):
        if key in values:
            values[key] = _numbers(values[key])
            if len(values[key]) not in (1, depth) or (key == "std" and 0 in values[key]):
                raise wrong(key, f"a number or {depth} numbers" + (", none of them 0" if key == "std" else ""))
    if "scale" in values and len(_numbers(values["scale"])) != 1:
        raise wrong("scale", "a number")
    for key in ("size", "crop"):
        if key in values:
            values[key] = _size(values[key], crop=key == "crop")
            if values[key] is None:
                raise wrong(key, "a positive number of pixels or [height, width]")
    return Preprocess(**values)


def _numbers(value: Any) -> tuple[float, ...]:
    """Return a number or a list of numbers as a tuple, empty for anything else."""
    entries = value if isinstance(value, Sequence) else (value,)
    fine = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in entries)
    return tuple(map(float, entries)) if fine else ()


def _size(value: Any, *, crop: bool) -> int | Size | None:
    numbers = [int(n) for n in _numbers(value)]
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        return None
    if len(numbers) == 1:
        return (numbers[0], numbers[0]) if crop else numbers[0]
    return numbers[0], numbers[1]
