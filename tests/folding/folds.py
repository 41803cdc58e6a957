"""What the tests of folding share: models, runs of both worlds, gates as the reference, numbers for units."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx_models import Net

from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import OnnxSource
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.interpret import run, to_torch
from graphprune.interpret.differentiable import differentiable
from graphprune.interpret.gates import insert_gates
from graphprune.plan import Plan
from graphprune.runtime import feeds, session
from graphprune.verification.verify import integer_limits

Arrays = list[Any]


def normalised(batch: int | str = 1) -> onnx.ModelProto:
    """Batch norms behind every kind of layer, a zero-padded depthwise convolution among them."""
    net = Net()
    x = net.input(batch, 3, 8, 8)
    x = net.op("Sigmoid", net.batch_norm(net.conv(x, 3, 8, 3, name="stem", bias=False), 8))
    x = net.op("Relu", net.batch_norm(net.conv(x, 8, 16, 3, 8, name="depthwise"), 16))
    up = net.op("ConvTranspose", x, net.weight(16, 3, 2, 2, name="up.weight"), group=4, strides=[2, 2], name="up")
    x = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", net.batch_norm(up, 12))))
    x = net.op("Relu", net.batch_norm(net.linear(x, 12, 7, name="added"), 7))
    x = net.op("Relu", net.batch_norm(net.linear(x, 7, 6, bias=False, name="bare"), 6))
    x = net.op("Relu", net.batch_norm(net.gemm(x, 6, 5, name="gemm"), 5))
    return net.model(net.linear(x, 5, 4, bias=False, name="head"))


def padded(batch: int | str = 1, side: int | str = 8) -> onnx.ModelProto:
    """Sigmoids between padded convolutions, one of them depthwise, and unpadded ones without a bias."""
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input(batch, 3, side, side), 3, 8, 3, name="a"))
    x = net.op("Sigmoid", net.conv(x, 8, 8, 3, 8, name="depthwise"))
    x = net.op("Sigmoid", net.conv(x, 8, 6, 3, name="b"))
    x = net.op("Sigmoid", net.conv(x, 6, 5, 3, pads=[0] * 4, bias=False, name="c"))
    return net.model(net.conv(x, 5, 4, 1, bias=False, name="d"))


def values(groups: Groups, seed: int = 0) -> dict[str, Any]:
    """Numbers of either sign for every unit."""
    rng = np.random.default_rng(seed)
    return {g.id: rng.choice([-1, 1], g.size) * rng.uniform(0.3, 2, g.size) for g in groups.groups}


def sizes(graph: Graph, **options: Any) -> dict[str, int]:
    return {g.id: g.size for g in couple(graph, **options).groups}


def fed(graph: Graph) -> Any:
    """Inputs for a graph's model: by name in ONNX, the example's tensors in torch."""
    if isinstance(graph.source, OnnxSource):
        return feeds(graph.source.model, graph.source.input_sizes, 0, integer_limits(graph))
    leaves = torch.utils._pytree.tree_leaves((graph.source.args, dict(graph.source.kwargs)))
    return [x for x in leaves if isinstance(x, torch.Tensor)]


def outputs(graph: Graph, model: Any = None) -> Arrays:
    """Run a graph's model, or another of the same inputs, in onnxruntime or torch; return floating outputs."""
    source = graph.source
    if isinstance(source, OnnxSource):
        return list(session(model or source.model, optimise=False).run(None, fed(graph)))
    with torch.no_grad():
        result = (model or source.module)(*source.args, **source.kwargs)
    leaves = torch.utils._pytree.tree_leaves(result)
    return [x.numpy() for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]


def gated(graph: Graph, groups: Groups, scales: dict[str, Any], where: Any = "consumers") -> Arrays:
    """Run the differentiable copy with the scales as gates."""
    module = to_torch(graph).eval() if isinstance(graph.source, OnnxSource) else differentiable(graph)
    made = insert_gates(module, graph, groups, where=where)
    with torch.no_grad():
        for name, vector in made.vectors.items():
            vector.copy_(torch.tensor(scales[name]))
        if isinstance(graph.source, OnnxSource):
            found = list(run(made.module, fed(graph)).values())
        else:
            found = list(made.module(*fed(graph)))
    return [x.numpy() for x in found if x.is_floating_point()]


def difference(a: Arrays, b: Arrays) -> float:
    """The largest difference of two runs over the largest value of the first."""
    assert len(a) == len(b) > 0
    return max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in zip(a, b, strict=True))


def keeping(groups: Groups, removed: dict[str, Any]) -> Plan:
    """The plan that keeps all but some units, given as booleans."""
    keep = {n: tuple(np.flatnonzero(~m).tolist()) for n, m in removed.items()}
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
