"""Prune a trained classifier to half with 250 pictures and no labels: python examples/prune_classifier.py [OUT]

The model, which ships beside this file, tells upright lines of text from lines turned upside down. Its training code
and data are not at hand: all that is needed is the file, and pictures of the kind that it will see.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from _common import Floats, phrases, session, text_lines

import graphprune as gp

MODEL = Path(__file__).with_name("text_direction.onnx")
SIZES = {"x": (1, 3, 48, 192)}  # height and width are dynamic: the sizes to count costs with


def pictures(count: int, seed: int) -> tuple[Floats, np.ndarray]:
    """Return lines of text, every other one upside down, and 1 for those: (count, 3, 48, 192) and (count,)."""
    images = text_lines(phrases(count, 2, seed), 48, 192, seed)
    turned = np.arange(count) % 2
    images[turned == 1] = images[turned == 1, :, ::-1, ::-1]
    return images, turned


def accuracy(model: Path | onnx.ModelProto, images: Floats, labels: np.ndarray) -> float:
    (answers,) = session(model).run(None, {"x": images})
    return float((answers.argmax(axis=1) == labels).mean())


def main(out: Path | None) -> None:
    unseen = pictures(1000, seed=2)
    print(f"original:     {accuracy(MODEL, *unseen):.1%} of 1,000 unseen lines are told right")

    # Without data, the smallest weights go, and nothing can be mended.
    small, report = gp.prune(MODEL, budget=0.5, input_shapes=SIZES)
    print(
        f"without data: {accuracy(small, *unseen):.1%}, with {report.output.macs / report.input.macs:.1%} of the MACs"
    )

    # With data, units go that others can stand in for, and these are fitted to do so.
    images, _ = pictures(250, seed=1)
    small, report = gp.prune(MODEL, budget=0.5, input_shapes=SIZES, data={"x": images})
    print(
        f"with data:    {accuracy(small, *unseen):.1%}, with {report.output.macs / report.input.macs:.1%} of the MACs"
    )

    # What it cost is measured on a fifth of the pictures, which nothing was chosen by: no labels are needed for this.
    quality = report.quality
    assert quality is not None and quality.main is not None
    print(f"the report:   {quality.main.top1:.1%} of {quality.samples} lines held out keep their class")
    if out is not None:
        onnx.save(small, out)
        print(f"wrote {out}: {out.stat().st_size / MODEL.stat().st_size:.0%} of the bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
