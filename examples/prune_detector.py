"""Prune a detector, and match its boxes with those on pages that are made here: python examples/prune_detector.py

    pip install ".[examples]"

The model is the text detector of rapidocr-onnxruntime (PP-OCRv4's DBNet, Apache-2.0): it maps how likely every pixel
is text, and boxes are what hangs together in that map.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from _common import WORDS, Floats, file_in, session
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

import graphprune as gp

SIDE, GROW = 320, 0.4  # pages are square; the map shows the core of a line, to be grown by this part of its height
Boxes = np.ndarray  # (count, 4): left, top, right, bottom


def page(seed: int) -> tuple[Floats, Boxes]:
    """Return a page of words here and there under a veil of blots and noise, (3, SIDE, SIDE), and the words' boxes."""
    rng = np.random.default_rng(seed)
    blots = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 12)
    image = Image.fromarray((150 + 70 * blots / np.abs(blots).max()).astype(np.uint8))
    draw, boxes = ImageDraw.Draw(image), []
    for top in range(12, SIDE - 40, 44):
        font = ImageFont.load_default(float(rng.uniform(14, 28)))
        text, left = " ".join(rng.choice(WORDS, int(rng.integers(1, 3)))), int(rng.integers(5, 100))
        draw.text((left, top), text, int(rng.integers(0, 90)), font)
        boxes.append(draw.textbbox((left, top), text, font))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1))))
    noisy = np.asarray(image) / 127.5 - 1 + rng.normal(0, 0.18, (SIDE, SIDE))
    return np.repeat(noisy[None].astype(np.float32), 3, axis=0), np.array(boxes)


def found(likely: Floats) -> Boxes:
    """Return the boxes of what hangs together in a map of likelihoods, (SIDE, SIDE)."""
    boxes = []
    for rows, columns in ndimage.find_objects(ndimage.label(likely > 0.3)[0]):
        more = GROW * min(rows.stop - rows.start, columns.stop - columns.start)
        if more >= 1:
            boxes.append((columns.start - more, rows.start - more, columns.stop + more, rows.stop + more))
    return np.array(boxes).reshape(-1, 4)


def matched(a: Boxes, b: Boxes) -> int:
    """Return how many boxes of ``a`` have one of ``b`` that shares at least half of their common area with them."""
    shared = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    both = shared.clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return int((both / (areas[0][:, None] + areas[1] - both) >= 0.5).any(axis=1).sum())


def f1(model: Path | onnx.ModelProto, pages: list[tuple[Floats, Boxes]]) -> float:
    """Return the harmonic mean of precision and recall of the boxes found on pages."""
    network, hits, all_of = session(model), 0, 0
    for image, boxes in pages:
        answer = found(network.run(None, {"x": image[None]})[0][0, 0])
        hits, all_of = hits + matched(boxes, answer) + matched(answer, boxes), all_of + len(boxes) + len(answer)
    return hits / all_of


def main() -> None:
    file = file_in("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx")
    unseen = [page(seed) for seed in range(1000, 1040)]
    print(f"original:     F1 {f1(file, unseen):.3f} on the boxes of 40 unseen pages")
    data, sizes = {"x": np.stack([page(seed)[0] for seed in range(50)])}, {"x": (1, 3, SIDE, SIDE)}
    small, _ = gp.prune(file, budget=0.5, input_shapes=sizes)
    print(f"without data: F1 {f1(small, unseen):.3f}")
    small, report = gp.prune(file, budget=0.5, input_shapes=sizes, data=data, method="flap", between="energy")
    print(f"with data:    F1 {f1(small, unseen):.3f}, with {report.output.macs / report.input.macs:.1%} of the MACs")


if __name__ == "__main__":
    main()
