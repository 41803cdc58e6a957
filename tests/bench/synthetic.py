"""Models of any number of nodes or bytes, made with onnx alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and weights; every method adds one node and returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, *shape: int) -> str:
        values: NDArray[np.float32] = self.rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def conv(self, x: str, into: int, out: int, kernel: int = 3) -> str:
        return self.node("Conv", x, self.weight(out, into, kernel, kernel), pads=[kernel // 2] * 4)

    def model(self, shape: list[int], end: str) -> ModelProto:
        value = helper.make_tensor_value_info
        graph: GraphProto = helper.make_graph(
            self.nodes, "g", [value("x", 1, shape)], [value(end, 1, None)], self.weights
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(count: int, width: int = 16) -> ModelProto:
    """Convolution, ReLU, convolution, ..."""
    build = Builder()
    x = build.conv("x", 3, width)
    while len(build.nodes) < count - 1:
        x = build.conv(build.node("Relu", x), width, width)
    return build.model([1, 3, 8, 8], build.conv(x, width, 4))


def residual(count: int, width: int = 16) -> ModelProto:
    """Blocks of two convolutions beside a shortcut; a new, wider stage with a projection after every eighth."""
    build = Builder()
    x, blocks = build.conv("x", 3, width), 0
    while len(build.nodes) < count - 1:
        inner = build.node("Relu", build.conv(x, width, width))
        x = build.node("Relu", build.node("Add", x, build.conv(inner, width, width)))
        blocks += 1
        if blocks % 8 == 0:
            x = build.conv(x, width, width, kernel=1)
    return build.model([1, 3, 8, 8], build.conv(x, width, 4))


def concat(count: int, width: int = 16, grow: int = 4) -> ModelProto:
    """Dense blocks of six layers, each added to all before it, then a transition back to the first width."""
    build = Builder()
    x = build.conv("x", 3, width)
    while len(build.nodes) < count - 1:
        wide = width
        for _ in range(6):
            x = build.node("Concat", x, build.node("Relu", build.conv(x, wide, grow)), axis=1)
            wide += grow
        x = build.conv(x, wide, width, kernel=1)
    return build.model([1, 3, 8, 8], build.conv(x, width, 4))


def normed(count: int, width: int = 16) -> ModelProto:
    """Feed-forward blocks beside a shortcut, normalised, so that numbers stay finite however many there are."""
    build = Builder()
    x, ones = "x", build.weight(width)
    while len(build.nodes) < count - 1:
        hidden = build.node("MatMul", build.node("LayerNormalization", x, ones), build.weight(width, 2 * width))
        x = build.node("Add", x, build.node("MatMul", build.node("Relu", hidden), build.weight(2 * width, width)))
    return build.model([1, width], build.node("MatMul", x, build.weight(width, 10)))


SHAPES = {"chain": chain, "residual": residual, "concat": concat, "normed": normed}


def heavy(megabytes: int, layers: int = 4) -> ModelProto:
    """A perceptron whose weights take so many megabytes."""
    width = int((megabytes * 10**6 / 4 / layers) ** 0.5)
    build = Builder()
    x = "x"
    for _ in range(layers):
        x = build.node("Relu", build.node("MatMul", x, build.weight(width, width)))
    return build.model([1, width], build.node("MatMul", x, build.weight(width, 10)))
