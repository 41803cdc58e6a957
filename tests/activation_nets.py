"""Small models whose activations are looked at: one in ONNX, one in torch."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx_models import Net
from torch import nn

import graphprune as gp


def samples(count: int = 24, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *(shape or (3, 8, 8)))).astype(np.float32)


def chain(batch: int | str = "n") -> onnx.ModelProto:
    """Three convolutions, the third one after a concatenation of the first two, and a classifier."""
    net = Net(seed=1)
    one = net.op("Relu", net.conv(net.input(batch, 3, 8, 8, name="x"), 3, 12, name="one"))
    two = net.op("Relu", net.conv(one, 12, 16, name="two"))
    three = net.op("Relu", net.conv(net.op("Concat", one, two, axis=1), 28, 10, name="three"))
    pooled = net.op("Flatten", net.op("GlobalAveragePool", three))
    return net.model(net.gemm(pooled, 10, 4, "head"))


def opened(model: onnx.ModelProto) -> tuple[gp.Graph, gp.Groups]:
    graph = gp.trace(model)
    return graph, gp.couple(graph)


class Small(nn.Module):
    """Convolutions with a residual in place, a concatenation, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.three, self.norm = nn.Conv2d(24, 16, 3, padding=1), nn.BatchNorm2d(12)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = nn.functional.relu(self.one(x), inplace=True)
        two = self.norm(self.two(one))
        two += one
        both = torch.cat([one, torch.nn.functional.dropout(two.relu_(), 0.5, self.training)], 1)
        return self.head(nn.functional.relu(self.three(both)).mean((2, 3)))


def module_and_groups(batch: int = 2) -> tuple[Small, gp.Graph, gp.Groups]:
    torch.manual_seed(0)
    module = Small().eval()
    module.norm.running_mean.uniform_(-0.5, 0.5)
    graph = gp.trace(module, torch.randn(batch, 3, 8, 8))
    return module, graph, gp.couple(graph)
