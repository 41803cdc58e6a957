"""Small models of every way in which gates meet other operators, in ONNX and in torch, and gates set at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from gated_models import attention
from onnx_models import Net
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from graphprune.gating.sbp import SbpGate
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.plan import Plan

Make = Callable[[], Any]

# ONNX -----------------------------------------------------------------------------------------------------------------


def padded() -> onnx.ModelProto:
    """Padded convolutions with and without bias and batch norm, max-pooling, a flatten, dense layers."""
    net = Net()
    x = net.op("Relu", net.conv(net.input("n", 2, 8, 8, name="image"), 2, 6, 3, name="first"))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.batch_norm(net.conv(x, 6, 5, 3, bias=False, name="second"), 5)
    x = net.op("Flatten", net.op("Sigmoid", x))
    return net.model(net.gemm(net.op("Relu", net.gemm(x, 80, 7, "hidden")), 7, 3, "out"))


def residual() -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.batch_norm(net.conv(net.input("n", 2, 6, 6, name="image"), 2, 6, 3, name="stem"), 6))
    y = net.op("Relu", net.batch_norm(net.conv(x, 6, 4, 3, bias=False, name="inner"), 4))
    x = net.op("Relu", net.op("Add", x, net.conv(y, 4, 6, 3, name="outer")))
    return net.model(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 6, 3, "out"))


def depthwise() -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.conv(net.input("n", 2, 6, 6, name="image"), 2, 6, name="expand"))
    x = net.op("HardSwish", net.conv(x, 6, 6, 3, 6, name="depth"))
    x = net.op("Relu", net.conv(x, 6, 4, name="project"))
    return net.model(net.conv(x, 4, 2, name="head"))


def concat() -> onnx.ModelProto:
    net = Net()
    x = net.input("n", 2, 5, 5, name="image")
    left, right = net.op("Sigmoid", net.conv(x, 2, 4, 3, name="left")), net.op("Relu", net.conv(x, 2, 3, name="right"))
    x = net.op("Relu", net.conv(net.op("Concat", left, right, axis=1), 7, 5, 3, name="joined"))
    return net.model(net.conv(x, 5, 2, name="head"))


ONNX: Mapping[str, Make] = {f.__name__: f for f in (padded, residual, depthwise, concat, attention)}

# torch ----------------------------------------------------------------------------------------------------------------


class Padded(nn.Module):
    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.hidden, self.out = nn.Linear(5 * (2 + 2 * padding) ** 2, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(self.second(F.max_pool2d(self.first(x).relu(), 2))))
        return self.out(self.hidden(x.flatten(1)).relu())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.inner, self.outer = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1, bias=False)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.outer(self.inner(x).relu())).relu()
        return self.out(x.mean((2, 3)))


class Joined(nn.Module):
    """A depthwise convolution, and a concatenation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depth = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, groups=6)
        self.side, self.head = nn.Conv2d(2, 3, 3), nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = torch.sigmoid(self.depth(self.expand(x).relu()))
        return self.head(torch.cat([left, self.side(x).relu()], 1))


TORCH: Mapping[str, Make] = {
    "padded": Padded, "unpadded": lambda: Padded(0), "residual": Residual, "joined": Joined
}  # fmt: skip


def module(kind: str) -> nn.Module:
    """Return a module with weights, biases and statistics that are nowhere zero."""
    torch.manual_seed(3)
    made: nn.Module = TORCH[kind]()
    for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -1.0, 0.0)  # so that ReLU lets pass what a closed unit leaves
    for layer in (m for m in made.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None):
        nn.init.uniform_(layer.bias, 0.1, 0.5)
    return made.eval()


# Gates ----------------------------------------------------------------------------------------------------------------


def at_random(gates: Mapping[str, Any], seed: int = 0) -> None:
    """Set gates to values of all sizes, and close some of the units, though not all of any group."""
    generator = torch.Generator().manual_seed(seed)
    for gate in gates.values():
        assert isinstance(gate, SbpGate)
        units = len(gate.mu)
        with torch.no_grad():
            gate.mu.copy_(torch.randn(units, generator=generator) * 0.7 - 0.5)
            gate.log_sigma.copy_(torch.randn(units, generator=generator) - 1.5)
        gate.kept.copy_(torch.rand(units, generator=generator) > 0.4)
        gate.kept[int(torch.randint(units, (1,), generator=generator))] = True


def plan_of(groups: Groups, gates: Mapping[str, Any]) -> Plan:
    """Return the plan that keeps the units that gates leave open."""
    keep = {g.id: tuple(range(g.size)) for g in groups.groups}
    keep |= {n: tuple(torch.nonzero(gate.kept).ravel().tolist()) for n, gate in gates.items()}
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def image(graph: Graph, batch: int = 2) -> Any:
    shape = graph.shape(graph.inputs[0])
    return np.random.default_rng(1).standard_normal((batch, *shape[1:])).astype(np.float32)
