"""Prune heads and feed-forward neurons of a Llama: python examples/prune_decoder.py

    pip install ".[examples]"

No package ships a trained Llama that is small, so a tiny one is trained here for some seconds, on Python's manual.
"""

from __future__ import annotations

from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import graphprune as gp

LENGTH = 64
CONFIG = LlamaConfig(
    vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=8,
    num_key_value_heads=4, max_position_embeddings=LENGTH, use_cache=False, attn_implementation="eager",
)  # fmt: skip


class Logits(nn.Module):
    def __init__(self, network: LlamaForCausalLM) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network(input_ids=tokens).logits


def chunks() -> tuple[Tensor, Tensor]:
    """Return the text in pieces, (count, LENGTH), shuffled: 200 are put aside to measure on."""
    text = torch.frombuffer(bytearray("".join(topics.values()), "ascii", "ignore"), dtype=torch.uint8)
    pieces = text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH).long()
    pieces = pieces[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))]
    return pieces[200:], pieces[:200]


def loss(module: nn.Module, tokens: Tensor) -> Tensor:
    return nn.functional.cross_entropy(module(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def train(module: nn.Module, pieces: Tensor, steps: int, rate: float) -> None:
    optimiser = torch.optim.AdamW(module.train().parameters(), rate)
    for k in range(steps):
        optimiser.zero_grad()
        loss(module, pieces[k * 32 % len(pieces) :][:32]).backward()
        optimiser.step()


def perplexity(module: nn.Module, pieces: Tensor) -> float:
    with torch.no_grad():
        return loss(module.eval(), pieces).exp().item()


def main() -> None:
    torch.manual_seed(0)
    pieces, unseen = chunks()
    module = Logits(LlamaForCausalLM(CONFIG))
    train(module, pieces, 120, 3e-3)
    print(f"trained:    perplexity {perplexity(module, unseen):.2f} a character, on text that it has not seen")
    wanted = {"budget": 0.4, "prune": "heads,ffn", "multiple": 1}  # multiple=1: any width, not only 8, 16, 24, ...
    small, _ = gp.prune(module, example_inputs=pieces[:2], **wanted)
    print(f"pruned:     ~{perplexity(small, unseen):.2f} without data")
    data = {"tokens": pieces[:160].numpy()}
    small, report = gp.prune(module, example_inputs=pieces[:2], data=data, method="flap", **wanted)
    print(f"pruned:     {perplexity(small, unseen):.2f} with data, a {report.form}")
    for k, layer in enumerate(small.network.model.layers):
        projections, neurons = (layer.self_attn.q_proj, layer.self_attn.k_proj), layer.mlp.up_proj.out_features
        heads, pairs = (n.out_features // layer.self_attn.head_dim for n in projections)
        print(f"layer {k}:    ~{heads} heads of 8, ~{pairs} key-value heads of 4, ~{neurons} neurons of 256")
    train(small, pieces[4000:], 40, 1e-3)
    print(f"fine-tuned: {perplexity(small, unseen):.2f}")


if __name__ == "__main__":
    main()
