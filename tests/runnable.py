"""Nets with a model behind them, and data to run it on: what passes that need data are tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from handmade import Net
from models import mlp, residual_cnn
from onnx import numpy_helper
from onnx_models import Net as Builder

from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Array, Graph
from graphprune.groups import Groups


@dataclass(frozen=True)
class Runnable(Net):
    """A net whose parameters are a model's; ``data`` feeds it, with labels or without."""

    model: onnx.ModelProto = field(default_factory=onnx.ModelProto)
    data: Mapping[str, Any] = field(default_factory=dict)

    def args(self) -> tuple[Graph, Groups]:
        """Trace the model with the parameters as they are now; groups keep their members' order and positions."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.initializer[:]
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in self.parameters.items())
        graph = trace(model)
        return graph, replace(couple(graph), groups=self.groups)

    def shuffled(self, seed: int) -> Net:
        """Give the same network with parameters and members in another order."""
        mixed = super().shuffled(seed)
        of = {g.id: g for g in mixed.groups}
        return replace(self, parameters=mixed.parameters, groups=tuple(of[g.id] for g in self.groups))


def runnable(model: onnx.ModelProto, data: Mapping[str, Any]) -> Runnable:
    parameters: dict[str, Array] = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    return Runnable(parameters, couple(trace(model)).groups, model, data)


def inputs(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def labelled_mlp() -> Runnable:
    return runnable(mlp(8, batch="n"), {"x": inputs(6, 16), "labels": np.arange(6)})


def labelled_cnn() -> Runnable:
    return runnable(residual_cnn(6, batch="n"), {"x": inputs(6, 3, 8, 8), "labels": np.arange(6)})


def unlabelled_cnn() -> Runnable:
    return runnable(residual_cnn(6, batch="n"), {"x": inputs(6, 3, 8, 8)})


def unlabelled_heads() -> Runnable:
    """Two heads of three dimensions that mix positions; the batch is fixed at one."""
    net = Builder()
    x = net.input(1, 5, 6, name="x")
    q, k, v = (net.transpose(net.reshape(net.linear(x, 6, 6, name=n), 1, 5, 2, 3), 0, 2, 1, 3) for n in ("q", "k", "v"))
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), 1, 5, 6)
    return runnable(net.model(net.linear(y, 6, 4, name="o")), {"x": inputs(6, 5, 6)})


RUNNABLE: Mapping[str, Callable[[], Runnable]] = {
    f.__name__: f for f in (labelled_mlp, labelled_cnn, unlabelled_cnn, unlabelled_heads)
}
