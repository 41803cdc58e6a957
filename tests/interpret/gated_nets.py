"""Small models of every way in which units can be tied together, for gates; and what removing units gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx_models import Net

from graphprune.coupling import couple, kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.plan import Plan
from graphprune.runtime import feeds, session

Feeds = dict[str, Any]


def opened(model: onnx.ModelProto) -> tuple[Graph, Groups]:
    graph = trace(model)
    return graph, couple(graph)


def plan_at_random(groups: Groups, rng: np.random.Generator) -> Plan:
    keep = {}
    for group in groups.groups:
        width = int(rng.integers(1, group.size + 1))
        keep[group.id] = tuple(sorted(rng.permutation(group.size)[:width].tolist()))
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def removed(model: onnx.ModelProto, graph: Graph, groups: Groups, plan: Plan, data: Feeds) -> list[Any]:
    """Run the original in onnxruntime with every removed slice of every parameter at zero."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = kept_parameters(graph, groups, plan)
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        for axis, indices in kept.get(tensor.name, {}).items():
            np.moveaxis(array, axis, 0)[np.setdiff1d(np.arange(array.shape[axis]), indices)] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return list(session(copy, optimise=False).run(None, data))


def random_feeds(graph: Graph, batch: int = 1) -> Feeds:
    sizes = {n: (batch, *s[1:]) for n, s in graph.source.input_sizes.items()}
    return feeds(graph.source.model, sizes, 0, {"ids": 11})


# The models -----------------------------------------------------------------------------------------------------------


def activations(batch: int | str = 1) -> onnx.ModelProto:
    """Sigmoid, a batch norm behind it, hard-swish, exp: a unit is not zero where its producer is."""
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input(batch, 3, 4, 4, name="image"), 3, 6, name="a"))
    x = net.op("HardSwish", net.conv(net.batch_norm(x, 6), 6, 5, 3, name="b"))
    return net.model(net.conv(net.op("Exp", net.conv(x, 5, 4, name="c")), 4, 2, name="head"))


def squeeze_excite() -> onnx.ModelProto:
    """A residual block with squeeze-excite and a hard sigmoid."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="stem")
    y = net.op("Relu", net.conv(x, 8, 6, 3, name="inner"))
    y = net.conv(y, 6, 8, name="outer")
    s = net.op("Relu", net.conv(net.op("GlobalAveragePool", y), 8, 4, name="squeeze"))
    y = net.op("Mul", y, net.op("HardSigmoid", net.conv(s, 4, 8, name="excite")))
    return net.model(net.conv(net.op("Relu", net.op("Add", x, y)), 8, 3, name="head"))


def concatenations() -> onnx.ModelProto:
    """Dense layers, a stream joined with itself, and split at other borders."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="stem")
    y = net.op("Concat", x, net.op("Relu", net.conv(x, 6, 4, 3, name="grow")), net.op("Neg", x), axis=1)
    a, b = net.ops("Split", y, net.ints(9, 7), outputs=2, axis=1)
    return net.model(net.conv(net.op("Sigmoid", a), 9, 3, name="left"), net.conv(b, 7, 3, name="right"))


def grouped() -> onnx.ModelProto:
    """Depthwise with a multiplier, grouped convolutions, plain and transposed, with a shuffle between."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 6, name="stem"))
    x = net.op("Sigmoid", net.conv(x, 6, 12, 3, 6, name="depthwise"))
    x = net.op("Relu", net.conv(x, 12, 12, 1, 3, name="grouped"))
    x = net.reshape(net.transpose(net.reshape(x, 1, 3, 4, 16), 0, 2, 1, 3), 1, 12, 4, 4)
    weight, bias = net.weight(12, 2, 2, 2, name="up.weight"), net.vector(8, "up.bias")
    x = net.op("ConvTranspose", x, weight, bias, group=4, strides=[2, 2], name="up")
    return net.model(net.conv(x, 8, 3, name="head"))


def flattened() -> onnx.ModelProto:
    """A flattened and a pooled branch of one map, and hidden layers behind."""
    net = Net()
    x = net.op("Softplus", net.conv(net.input(1, 3, 4, 4), 3, 5, name="conv"))
    flat, pooled = net.op("Flatten", x), net.op("Flatten", net.op("GlobalAveragePool", x))
    joined = net.op("Concat", flat, pooled, axis=1)
    return net.model(net.gemm(net.op("Relu", net.gemm(joined, 85, 9, "hidden")), 9, 4, "out"))


def attention() -> onnx.ModelProto:
    """Queries and keys of 3 heads of 4, values of 3 heads of 5, a gated layer behind."""
    net = Net()
    x = net.input(1, 5, 6, name="tokens")

    def heads(name: str, depth: int) -> str:
        return net.transpose(net.reshape(net.linear(x, 6, 3 * depth, name=name), 1, 5, 3, depth), 0, 2, 1, 3)

    q, k, v = heads("q", 4), heads("k", 4), heads("v", 5)
    scores = net.op("Mul", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), net.scalar(0.5))
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    y = net.linear(net.reshape(net.transpose(y, 0, 2, 1, 3), 1, 5, 15), 15, 6, name="o")
    value, gate = net.linear(y, 6, 8, name="value"), net.linear(y, 6, 8, name="gate")
    return net.model(net.linear(net.op("Mul", value, net.op("Sigmoid", gate)), 8, 6, name="down"))


def fused_attention() -> onnx.ModelProto:
    """One projection for queries, keys and values, in an einsum."""
    net = Net()
    qkv = net.linear(net.input(1, 5, 6), 6, 36, name="qkv")
    stacked = net.transpose(net.reshape(qkv, 1, 5, 3, 3, 4), 2, 0, 3, 1, 4)
    q, k, v = (net.op("Gather", stacked, net.stored(np.array(i)), axis=0) for i in range(3))
    scores = net.op("Softmax", net.op("Einsum", q, k, equation="bhid,bhjd->bhij"), axis=-1)
    y = net.op("Einsum", scores, v, equation="bhij,bhjd->bihd")
    out = net.op("Einsum", y, net.weight(3, 4, 7, name="o"), equation="bihd,hdo->bio")
    return net.model(out)


def shared() -> onnx.ModelProto:
    """A weight applied twice in a row, to its own result, and an embedding tied to the output projection."""
    net = Net()
    table = net.weight(11, 8, name="table")
    x = net.op("Gather", table, net.input(1, 5, name="ids", dtype=TensorProto.INT64), axis=0)
    loop = net.stored(net.random(8, 8), "loop")
    for _ in range(2):
        x = net.op("Tanh", net.op("MatMul", x, loop))
    y = net.linear(net.op("Relu", net.linear(x, 8, 12, name="up")), 12, 8, name="down")
    return net.model(net.op("MatMul", net.op("Add", x, y), net.transpose(table, 1, 0)))


def outer_product() -> onnx.ModelProto:
    """Position (i, j) of a bilinear map needs channels i and j of one group."""
    net = Net()
    x = net.reshape(net.conv(net.input(1, 3, 3, 3), 3, 4, name="conv"), 1, 4, 9)
    y = net.op("MatMul", x, net.transpose(x, 0, 2, 1))
    return net.model(net.linear(net.reshape(y, 1, 16), 16, 2, name="fc"))


def unused() -> onnx.ModelProto:
    """A layer that nothing looks at."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="used")
    net.conv(x, 6, 5, name="unused")
    return net.model(net.conv(x, 6, 2, name="head"))


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (activations, squeeze_excite, concatenations, grouped, flattened, attention, fused_attention, shared,
              outer_product, unused)
}  # fmt: skip
