"""Kinds of units in torch modules: only those asked for are pruned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import graphprune as gp

WIDTH, HEADS, DEPTH, INNER, TOKENS = 12, 3, 4, 10, 5


class Block(nn.Module):
    """A transformer block with a fused projection to queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * HEADS * DEPTH), nn.Linear(HEADS * DEPTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return (1, tokens, width)."""
        qkv = self.qkv(self.first(x)).reshape(1, TOKENS, 3, -1, DEPTH).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))


def test_heads_of_a_module() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, TOKENS, WIDTH)
    kinds = {g.kind for g in gp.couple(gp.trace(Block().eval(), (x,))).groups}
    assert {"head", "neuron"} <= kinds
    small, report = gp.prune(Block().eval(), example_inputs=x, budget=0.8, prune=("heads",))
    assert {g.kind for g in report.groups} == {"head"}
    assert small.up.out_features == INNER
    assert small.qkv.out_features in (3 * DEPTH, 6 * DEPTH)
    assert {f.reason for f in report.frozen if f.tensor == "up.weight" and f.axis == 0} == {"not asked for by --prune"}
    assert small(x).shape == x.shape
