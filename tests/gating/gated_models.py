"""Models in which gates stand behind everything that could change what a unit is, and small things to train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx_models import Net
from torch import Tensor, nn

Array = NDArray[Any]


def padded_conv_pool() -> onnx.ModelProto:
    """Padded convolutions, a sigmoid, a max-pool (which negative gates do not pass), a batch norm, a flatten."""
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input("N", 3, 8, 8, name="x"), 3, 6, 3, name="a"))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.batch_norm(net.conv(x, 6, 8, 3, name="b"), 8))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.linear(net.op("Flatten", x), 8 * 4, 5, name="c"))


def residual() -> onnx.ModelProto:
    """Two blocks on one stream, with batch norms, and average pooling."""
    net = Net()
    x = net.op("Relu", net.batch_norm(net.conv(net.input("N", 3, 6, 6, name="x"), 3, 8, 3, name="stem"), 8))
    for k in range(2):
        y = net.op("Relu", net.batch_norm(net.conv(x, 8, 6, 3, name=f"in{k}"), 6))
        x = net.op("Relu", net.op("Add", x, net.batch_norm(net.conv(y, 6, 8, 3, name=f"out{k}"), 8)))
    return net.model(net.linear(net.op("Flatten", net.op("GlobalAveragePool", x)), 8, 5, name="head"))


def depthwise() -> onnx.ModelProto:
    """A depthwise convolution between two that mix channels: it passes units on."""
    net = Net()
    x = net.op("Relu", net.conv(net.input("N", 3, 6, 6, name="x"), 3, 8, name="wide"))
    x = net.op("Relu", net.conv(x, 8, 8, 3, 8, name="deep"))
    return net.model(net.linear(net.op("Flatten", net.conv(x, 8, 4, 3, name="mix")), 4 * 36, 5, name="head"))


def concatenation() -> onnx.ModelProto:
    """Two branches, side by side, and one of them once more further down."""
    net = Net()
    x = net.input("N", 3, 6, 6, name="x")
    a, b = net.op("Relu", net.conv(x, 3, 5, 3, name="a")), net.op("Tanh", net.conv(x, 3, 4, name="b"))
    y = net.op("Concat", net.conv(net.op("Concat", a, b, axis=1), 9, 6, 3, name="c"), a, axis=1)
    return net.model(net.conv(y, 11, 3, name="d"))


def attention() -> onnx.ModelProto:
    """Two heads of four dimensions over five positions: heads, head dimensions of keys and of values."""
    net = Net()
    x = net.input("N", 5, 6, name="x")
    q, k, v = (net.transpose(net.reshape(net.linear(x, 6, 8, name=n), 0, 5, 2, 4), 0, 2, 1, 3) for n in ("q", "k", "v"))
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), 0, 5, 8)
    return net.model(net.linear(y, 8, 4, name="o"))


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f for f in (padded_conv_pool, residual, depthwise, concatenation, attention)
}


class ConvNet(nn.Module):
    """Padding, a sigmoid, max-pooling, a residual addition, a depthwise convolution, a concatenation, a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.deep, self.side = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1)
        self.dense, self.head = nn.Linear(12 * 9, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.norm(self.stem(x)).sigmoid(), 2)
        x = (x + self.outer(self.inner(x).relu())).relu()
        x = torch.cat([self.deep(x).relu(), self.side(x)], 1)
        result: Tensor = self.head(self.dense(x.flatten(1)).relu())
        return result


def conv_net(seed: int = 0) -> ConvNet:
    """The net in inference mode, with statistics that are not the defaults."""
    torch.manual_seed(seed)
    net = ConvNet()
    with torch.no_grad():
        net.norm.running_mean.uniform_(-0.5, 0.5)
        net.norm.running_var.uniform_(0.5, 1.5)
    return net.eval()


def classes(count: int, *shape: int, of: int = 5, seed: int = 0) -> dict[str, Array]:
    """Points of some shape around centres, one a class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, of, count)
    centres = np.random.default_rng(99).standard_normal((of, *shape))
    return {"x": (centres[labels] + 0.5 * rng.standard_normal((count, *shape))).astype(np.float32), "labels": labels}
