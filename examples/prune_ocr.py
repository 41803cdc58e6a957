"""Prune a reader of text lines, and count the letters it gets wrong: python examples/prune_ocr.py [OUT]

    pip install ".[examples]"

The model is the recogniser of rapidocr-onnxruntime (PP-OCRv4, Apache-2.0): convolutions, two blocks of attention and
a class for each of 6,623 characters at every place of the line. Calibrated on 100 lines that are made here, no labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from _common import Floats, file_in, phrases, session, text_lines

import graphprune as gp

HEIGHT, WIDTH = 48, 192


def read(answer: Floats, letters: list[str]) -> str:
    """Return the text of the best class at every place, repetitions and blanks left out (CTC); (places, classes)."""
    best = answer.argmax(axis=-1)
    kept = best[np.r_[True, best[1:] != best[:-1]]]
    return "".join(letters[k] for k in kept if k)


def edits(a: str, b: str) -> int:
    """Return the edit distance of two texts."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def error_rate(model: Path | onnx.ModelProto, texts: list[str], letters: list[str]) -> float:
    """Return the part of the characters that are wrong."""
    network, wrong = session(model), 0
    images = text_lines(texts, HEIGHT, WIDTH, seed=3)
    for k in range(0, len(texts), 20):
        (answers,) = network.run(None, {"x": images[k : k + 20]})
        wrong += sum(edits(read(a, letters), t) for a, t in zip(answers, texts[k : k + 20], strict=True))
    return wrong / sum(map(len, texts))


def main(out: Path | None) -> None:
    file = file_in("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx")
    listed = next(p.value for p in onnx.load(file).metadata_props if p.key == "character")
    letters = ["", *listed.splitlines(), " "]  # the first class is the blank
    unseen, sizes = phrases(150, 1, seed=2), {"x": (1, 3, HEIGHT, WIDTH)}
    print(f"original:     {error_rate(file, unseen, letters):.1%} of the characters on 150 unseen lines are wrong")

    small, _ = gp.prune(file, budget=0.6, input_shapes=sizes)
    print(f"without data: {error_rate(small, unseen, letters):.1%}")

    # between="energy" spares a run of the model for every group. What is kept: 480 channels that a 3 x 3 convolution
    # reads, whose 4,320 weights an output take longer to fit than all others together.
    data, keep = {"x": text_lines(phrases(100, 1, seed=1), HEIGHT, WIDTH, seed=1)}, ["conv2d_184.w_0"]
    small, report = gp.prune(
        file, budget=0.6, input_shapes=sizes, data=data, method="flap", between="energy", keep=keep
    )
    share = report.output.macs / report.input.macs
    print(f"with data:    {error_rate(small, unseen, letters):.1%}, with {share:.1%} of the MACs")
    if out is not None:
        onnx.save(small, out)  # the characters, in metadata_props, are still there


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
