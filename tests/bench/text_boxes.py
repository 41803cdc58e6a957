"""Finding lines of text on a page: a detector, measured on pages whose boxes are known because we drew them."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from task import Run, Samples, Task
from text_tasks import FONTS, phrase

SIDE = 320
PAGES, BATCH = 100, 10
FOUND, SURE, WIDER = 0.3, 0.5, 1.6
"""Probability of a text pixel, least mean probability of a box, and how much boxes grow: rapidocr's own settings."""
SAME = 0.5
"""Intersection over union from which on a box that was found is a box that was drawn."""


def boxes() -> Task:
    """Finding text (rapidocr-onnxruntime's detector): F1 of boxes at an intersection over union of 0.5, 100 pages."""

    def model() -> onnx.ModelProto:
        package = Path(str(importlib.import_module("rapidocr_onnxruntime").__file__)).parent
        return onnx.load(package / "models/ch_PP-OCRv4_det_infer.onnx")

    def calibration(count: int, seed: int) -> Samples:
        return {"x": printed(count, seed)[0]}

    def measure(run: Run, original: Run) -> float:
        images, drawn = printed(PAGES, 31337)
        right, found = 0, 0
        for k in range(0, PAGES, BATCH):
            for answer, wanted in zip(run({"x": images[k : k + BATCH]})[0], drawn[k : k + BATCH], strict=True):
                mine = boxes_in(answer[0])
                found += len(mine)
                right += matched(mine, wanted)
        return 2 * right / (found + sum(map(len, drawn)))

    return Task("boxes", "F1", model, calibration, measure)


def boxes_in(probability: np.ndarray) -> np.ndarray:
    """Return the boxes (left, top, right, bottom) of a map of probabilities, shape (boxes, 4).

    Lines are level here, so a component's own bounds are its box; it grows as the detector was trained to have it
    shrunk (arXiv 1911.08947, section 3.4).
    """
    from scipy import ndimage

    labels, _ = ndimage.label(probability > FOUND, structure=np.ones((3, 3)))
    made = []
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < 3 or probability[rows, columns].mean() < SURE:
            continue
        more = height * width * WIDER / (2 * (height + width))
        made.append((columns.start - more, rows.start - more, columns.stop + more, rows.stop + more))
    return np.clip(np.array(made, np.float64).reshape(-1, 4), 0, SIDE)


def matched(found: np.ndarray, drawn: np.ndarray) -> int:
    """Return how many pairs of boxes are the same, each box in one pair at most, best pairs first."""
    if not len(found) or not len(drawn):
        return 0
    low = np.maximum(found[:, None, :2], drawn[None, :, :2])
    high = np.minimum(found[:, None, 2:], drawn[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), -1)
    area = [np.prod(b[:, 2:] - b[:, :2], -1) for b in (found, drawn)]
    over = both / (area[0][:, None] + area[1][None] - both)
    pairs = 0
    while over.max() >= SAME:
        i, j = np.unravel_index(over.argmax(), over.shape)
        over[i], over[:, j] = 0, 0
        pairs += 1
    return pairs


@cache
def printed(count: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return pages (count, 3, 320, 320) with a few lines on backgrounds that vary, and the boxes of their lines."""
    made = [page(np.random.default_rng([seed, 4, k])) for k in range(count)]
    return np.stack([image for image, _ in made]).transpose(0, 3, 1, 2), [where for _, where in made]


def page(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a page (320, 320, 3) as the detector takes it, and its boxes; lines neither touch nor leave the page."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    folder = Path(matplotlib.__file__).parent / "mpl-data/fonts/ttf"
    paper = rng.integers(90, 256, 3)
    coarse = rng.normal(paper, rng.uniform(0, 40), (8, 8, 3)).clip(0, 255).astype(np.uint8)
    drawn = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pen, where, top = ImageDraw.Draw(drawn), [], float(rng.integers(4, 40))
    while True:
        font = ImageFont.truetype(folder / str(rng.choice(FONTS)), int(rng.integers(12, 40)))
        words, ink = phrase(rng, 1, 4), tuple(int(v) for v in rng.integers(0, 90, 3))
        box = pen.textbbox((0, 0), words, font=font)
        room = SIDE - 8 - (box[2] - box[0])
        if top + box[3] - box[1] > SIDE - 4:
            break
        if room > 0:
            left = 4 + int(rng.integers(0, room))
            pen.text((left - box[0], top - box[1]), words, fill=ink, font=font)
            where.append((left, top, left + box[2] - box[0], top + box[3] - box[1]))
            top += box[3] - box[1] + float(rng.integers(10, 60))
    drawn = drawn.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
    image = np.asarray(drawn, np.float32) + rng.normal(0, rng.uniform(0, 12), (SIDE, SIDE, 3))
    return (image.clip(0, 255) / 127.5 - 1).astype(np.float32), np.array(where, np.float64)
