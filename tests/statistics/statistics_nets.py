"""Consumers of every kind, each with what it reads: the operator itself, run with unit weights, shows every column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx_models import Net

import graphprune as gp
from graphprune.runtime import session
from graphprune.statistics import Consumer, consumers_of

Array = Any


def units(outer: int, *inner: int) -> Array:
    """Weights (outer * columns, *inner) whose outputs are the columns: identities, one a group."""
    columns = int(np.prod(inner))
    return np.tile(np.eye(columns, dtype=np.float32).reshape(columns, *inner), (outer, *[1] * len(inner)))


@dataclass(frozen=True)
class Kind:
    """A net whose last node ``out`` is the consumer: ``build(net, h, weight)`` adds it to ReLUs of ``shape``.

    ``weight`` is an ordinary one, ``reads`` the one that shows the columns, ``axis`` where the outputs are.
    """

    shape: tuple[int, ...]
    build: Callable[[Net, str, str], str]
    weight: Array
    reads: Array
    axis: int = 1

    def model(self, weight: Array | None = None) -> onnx.ModelProto:
        net = Net(seed=3)
        x = net.input("n", *self.shape[1:], name="x")
        channels = self.shape[1]
        if len(self.shape) == 4:
            h = net.op("Conv", x, net.weight(channels, channels, 1, 1, name="in.weight"), name="in")
        elif len(self.shape) in (3, 5) and self.axis == 1:
            h = net.op(
                "Conv", x, net.weight(channels, channels, *[1] * (len(self.shape) - 2), name="in.weight"), name="in"
            )
        else:
            h = net.op("MatMul", x, net.weight(self.shape[-1], self.shape[-1], name="in.weight"), name="in")
        h = net.op("Relu", h)
        stored = net.stored(self.weight if weight is None else weight, "w")
        return net.model(net.op("Identity", self.build(net, h, stored), name="y"))

    def columns(self, x: Array) -> Array:
        """What the consumer reads, shape (rows, columns), float64, as the operator itself tells."""
        return self.outputs(self.model(self.reads), x)

    def outputs(self, model: onnx.ModelProto, x: Array) -> Array:
        made = np.moveaxis(session(model).run(None, {"x": x})[0], self.axis, -1)
        return made.reshape(-1, made.shape[-1]).astype(np.float64)

    def data(self, count: int, seed: int = 0) -> Array:
        return np.random.default_rng(seed).standard_normal((count, *self.shape[1:])).astype(np.float32)


def conv(**attributes: Any) -> Callable[[Net, str, str], str]:
    return lambda net, h, w: net.op("Conv", h, w, name="out", **attributes)


def transposed(**attributes: Any) -> Callable[[Net, str, str], str]:
    return lambda net, h, w: net.op("ConvTranspose", h, w, name="out", **attributes)


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def turned(kernel: tuple[int, ...], inputs: int, groups: int = 1) -> Array:
    """The same for a transposed convolution, whose weight is (inputs, outputs of a group, kernel)."""
    each = inputs // groups
    made = np.eye(each * int(np.prod(kernel)), dtype=np.float32).reshape(-1, each, *kernel)
    return np.concatenate([np.moveaxis(made, 1, 0)] * groups)


MAP = (1, 4, 7, 6)
KINDS: dict[str, Kind] = {
    "pointwise": Kind(MAP, conv(), random(3, 4, 1, 1), units(1, 4, 1, 1)),
    "padded": Kind(MAP, conv(pads=[1, 0, 2, 1], strides=[2, 1]), random(3, 4, 3, 3), units(1, 4, 3, 3)),
    "dilated": Kind(MAP, conv(pads=[2] * 4, dilations=[2, 1]), random(3, 4, 3, 2), units(1, 4, 3, 2)),
    "same upper": Kind(MAP, conv(auto_pad="SAME_UPPER", strides=[2, 2]), random(3, 4, 3, 2), units(1, 4, 3, 2)),
    "same lower": Kind(MAP, conv(auto_pad="SAME_LOWER", strides=[3, 2]), random(3, 4, 2, 3), units(1, 4, 2, 3)),
    "grouped": Kind(MAP, conv(pads=[1] * 4, group=2), random(6, 2, 3, 3), units(2, 2, 3, 3)),
    "one axis": Kind((1, 4, 9), conv(pads=[1, 1], strides=[2]), random(3, 4, 3), units(1, 4, 3)),
    "three axes": Kind((1, 4, 3, 4, 3), conv(pads=[1] * 6), random(2, 4, 2, 3, 3), units(1, 4, 2, 3, 3)),
    "transposed": Kind(MAP, transposed(strides=[2, 2]), random(4, 3, 2, 2), turned((2, 2), 4)),
    "transposed and overlapping": Kind(
        MAP, transposed(strides=[2, 3], pads=[1, 0, 1, 2], output_padding=[1, 0], dilations=[1, 2]),
        random(4, 3, 3, 3), turned((3, 3), 4),
    ),
    "transposed to a shape": Kind(
        MAP, transposed(strides=[2, 2], output_shape=[15, 13]), random(4, 3, 3, 3), turned((3, 3), 4)
    ),
    "transposed same": Kind(
        MAP, transposed(strides=[2, 2], auto_pad="SAME_UPPER"), random(4, 3, 3, 3), turned((3, 3), 4)
    ),
    "transposed in groups": Kind(
        MAP, transposed(strides=[2, 1], group=2, pads=[1] * 4), random(4, 3, 3, 3), turned((3, 3), 4, 2)
    ),
    "right": Kind((1, 5, 6), lambda net, h, w: net.op("MatMul", h, w, name="out"), random(6, 3), units(1, 6), 2),
    "left": Kind(
        (1, 6, 5), lambda net, h, w: net.op("MatMul", w, h, name="out"), random(3, 6), units(1, 6), 1
    ),
    "turned": Kind((1, 6), lambda net, h, w: net.op("Gemm", h, w, name="out", transB=1), random(3, 6), units(1, 6), 1),
    "flattened": Kind(
        (1, 4, 3, 2), lambda net, h, w: net.op("Gemm", net.op("Flatten", h), w, name="out", transB=1), random(5, 24),
        units(1, 24),
    ),
    "einsum": Kind(
        (1, 5, 6), lambda net, h, w: net.op("Einsum", h, w, name="out", equation="bsk,nk->bsn"), random(3, 6),
        units(1, 6), 2,
    ),
}  # fmt: skip


def traced(model: onnx.ModelProto) -> tuple[gp.Graph, gp.Groups, dict[str, Consumer]]:
    """A model with its consumers by the name of their node."""
    graph = gp.trace(model)
    groups = gp.couple(graph)
    return graph, groups, {graph.nodes[c.node].name: c for c in consumers_of(graph, groups)}


def residual(batch: str | int = "n") -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Convolutions beside a shortcut, two branches that are joined, a flattened map and two dense layers."""
    net = Net(seed=1)
    x = net.input(batch, 3, 8, 8, name="x")
    stem = net.op("Relu", net.conv(x, 3, 8, 3, name="stem"))
    h = net.op("Relu", net.conv(stem, 8, 12, 3, name="a"))
    h = net.op("Relu", net.op("Add", net.conv(h, 12, 8, 3, name="b"), stem))
    left = net.op("Relu", net.conv(h, 8, 6, 1, name="left"))
    right = net.op("Sigmoid", net.conv(h, 8, 4, 3, name="right", strides=[1, 1]))
    h = net.op("Relu", net.conv(net.op("Concat", left, right, axis=1), 10, 6, 3, name="c"))
    h = net.op("Flatten", net.op("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2]))
    h = net.op("Relu", net.gemm(h, 96, 10, "d"))
    return net.model(net.gemm(h, 10, 5, "e")), (3, 8, 8)
