"""Small ONNX models with every kind of thing that may lie between a unit's row and the sums over it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx_models import Net


def start(seed: int = 0) -> tuple[Net, str]:
    net = Net(seed=seed)
    return net, net.input("n", 3, 9, 9, name="x")


def finish(net: Net, x: str, channels: int) -> onnx.ModelProto:
    return net.model(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), channels, 5, "head"))


def plain_cnn() -> onnx.ModelProto:
    """Batch norm, ReLU, padded pooling, a strided convolution, a flatten with a map of four."""
    net, x = start()
    x = net.op("Relu", net.batch_norm(net.conv(x, 3, 8, 3, bias=False, name="one"), 8))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.op("Clip", net.conv(x, 8, 6, 3, name="two", strides=[2, 2], pads=[0] * 4), net.scalar(0), net.scalar(6))
    x = net.op("AveragePool", x, kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    return net.model(net.gemm(net.op("Flatten", x), 6 * 4, 5, "head"))


def inverted_residual() -> onnx.ModelProto:
    """Expand, depthwise, squeeze and excite with sigmoid, hard swish, project, add."""
    net, x = start(1)
    stem = net.op("HardSwish", net.batch_norm(net.conv(x, 3, 6, 3, name="stem"), 6))
    wide = net.op("Relu", net.batch_norm(net.conv(stem, 6, 12, name="expand"), 12))
    wide = net.op("HardSwish", net.batch_norm(net.conv(wide, 12, 12, 3, groups=12, name="depth"), 12))
    gate = net.op("Relu", net.conv(net.op("GlobalAveragePool", wide), 12, 4, name="squeeze"))
    gate = net.op("Sigmoid", net.conv(gate, 4, 12, name="excite"))
    narrow = net.batch_norm(net.conv(net.op("Mul", wide, gate), 12, 6, name="project"), 6)
    return finish(net, net.op("Relu", net.op("Add", stem, narrow)), 6)


def concatenated() -> onnx.ModelProto:
    """Branches with several activations, put together, and a batch norm over all of them."""
    net, x = start(2)
    one = net.op("LeakyRelu", net.conv(x, 3, 5, name="one"), alpha=0.2)
    two = net.op("Tanh", net.conv(x, 3, 4, 3, name="two"))
    slope = net.stored(net.rng.uniform(-0.3, 0.6, (3, 1, 1)).astype(np.float32), "slope")
    three = net.op("PRelu", net.conv(one, 5, 3, name="three"), slope)
    both = net.op("Relu", net.batch_norm(net.op("Concat", one, two, three, axis=1), 12))
    return finish(net, net.op("Elu", net.conv(both, 12, 6, 3, name="last"), alpha=0.7), 6)


def gelu_mlp() -> onnx.ModelProto:
    """Tokens: MatMul and Add, GELU spelled with Erf, SiLU spelled with Sigmoid, numbers subtracted and divided by."""
    net = Net(seed=3)
    x = net.input("n", 4, 7, name="x")
    h = net.linear(x, 7, 10, name="one")
    inner = net.op("Add", net.op("Erf", net.op("Div", h, net.scalar(1.4142135))), net.scalar(1))
    h = net.op("Mul", net.op("Mul", h, inner), net.scalar(0.5))
    h = net.linear(h, 10, 12, name="two")
    h = net.op("Mul", h, net.op("Sigmoid", h))
    h = net.op(
        "Softplus", net.op("Sub", net.scalar(1), net.op("Sub", net.linear(h, 12, 8, name="three"), net.scalar(2)))
    )
    return net.model(net.linear(h, 8, 3, name="head"))


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f for f in (plain_cnn, inverted_residual, concatenated, gelu_mlp)
}


def inputs_of(
    model: onnx.ModelProto, count: int = 64, largest: float = 2.0, seed: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Inputs of which many elements are at the ends of +-largest."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    drawn = np.random.default_rng(seed).uniform(-3 * largest, 3 * largest, (count, *shape))
    return np.clip(drawn, -largest, largest).astype(np.float32)
