"""Small models whose losses are known in closed form, and what removing a unit truly does to a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_models import Net

from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.interpret import from_torch, run, to_torch
from graphprune.interpret.gates import insert_gates

Array = NDArray[Any]
Data = dict[str, Array]


def opened(model: onnx.ModelProto) -> tuple[Graph, Groups]:
    graph = trace(model)
    return graph, couple(graph)


def stored(model: onnx.ModelProto) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


def two_layers(batch: int | str = "n", hidden: int = 6, outputs: int = 3, act: str = "Tanh") -> onnx.ModelProto:
    """y = W2 act(W1 x + b1) + b2."""
    net = Net(seed=3)
    x = net.op(act, net.gemm(net.input(batch, 4, name="x"), 4, hidden, "one"))
    return net.model(net.gemm(x, hidden, outputs, "two"))


def samples(count: int, *shape: int, seed: int = 0) -> Array:
    made: Array = np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)
    return made


def blobs(count: int, *shape: int, seed: int = 0) -> Data:
    """Points around a centre for each of ten classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    centres = np.random.default_rng(99).standard_normal((10, *shape))
    return {"x": (centres[labels] + 0.8 * rng.standard_normal((count, *shape))).astype(np.float32), "labels": labels}


def trained(model: onnx.ModelProto, data: Data, steps: int = 150) -> onnx.ModelProto:
    """Train on labelled data, so that units differ in what they are worth."""
    torch.manual_seed(0)
    module = to_torch(model)
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    labels = torch.from_numpy(data["labels"])
    for _ in range(steps):
        (output,) = run(module, {n: a for n, a in data.items() if n != "labels"}).values()
        loss = torch.nn.functional.cross_entropy(output, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return from_torch(module, model)


def changes(graph: Graph, groups: Groups, data: Data, loss: Callable[[Array, Array], float]) -> dict[str, Array]:
    """Return by how much ``loss(outputs, the original's outputs)`` rises without each unit, one by one, in float64."""
    gated = insert_gates(to_torch(graph).double().eval(), graph, groups)
    gated.module.double()
    feeds = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in data.items() if n != "labels"}

    def outputs() -> Array:
        with torch.no_grad():
            (output,) = run(gated.module, feeds).values()
            result: Array = output.numpy()
            return result

    original = outputs()
    found = {}
    for name, vector in gated.vectors.items():
        found[name] = np.zeros(len(vector))
        for unit in range(len(vector)):
            with torch.no_grad():
                vector[unit] = 0
                found[name][unit] = loss(outputs(), original) - loss(original, original)
                vector[unit] = 1
    return found


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def cross_entropy(labels: Array) -> Callable[[Array, Array], float]:
    return lambda outputs, _: float(-log_softmax(outputs)[np.arange(len(labels)), labels].mean())


def divergence(outputs: Array, original: Array) -> float:
    ours, theirs = log_softmax(outputs), log_softmax(original)
    return float((np.exp(theirs) * (theirs - ours)).sum(axis=-1).mean())


def squares(outputs: Array, original: Array) -> float:
    return float(np.square(outputs - original).mean(axis=-1).mean())
