"""Runs from the changed place on give what whole runs give."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import Net

import graphprune as gp
from graphprune.data import open_samples, specs_of_model
from graphprune.statistics import reruns as module
from graphprune.statistics.reruns import Segmented, Whole, reruns


def towers() -> onnx.ModelProto:
    """Two arms that join, a value from the beginning used at the end, and two outputs."""
    net = Net(seed=4)
    x = net.input("n", 8, name="x")
    left, right = (net.op("Relu", net.gemm(x, 8, 16, name)) for name in ("left", "right"))
    joined = net.op("Add", left, right)
    for k in range(4):
        joined = net.op("Relu", net.gemm(joined, 16, 16, f"d{k}"))
    made = net.op("Concat", joined, left, axis=1)
    return net.model(net.gemm(made, 32, 6, "out"))


def sampled(model: onnx.ModelProto, count: int = 40) -> Any:
    x = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
    return open_samples({"x": x}, specs_of_model(model))


@pytest.mark.parametrize("segments", [1, 3, 24])
def test_any_weight_anew(segments: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENTS", segments)
    model = towers()
    graph, samples = gp.trace(model), sampled(model)
    cut, whole = Segmented(graph, graph.outputs, samples), Whole(graph, graph.outputs, samples)
    assert (len(cut.cut.parts) > 1) == (segments > 1)
    for tensor in graph.parameters:
        values = {tensor.name: np.asarray(graph.parameter(tensor.name)) * np.float32(1.5)}
        for mine, other in zip(cut.outputs(values), whole.outputs(values), strict=True):
            for a, b in zip(mine, other, strict=True):
                assert np.allclose(a, b, rtol=1e-5, atol=1e-5)
    assert np.allclose(cut.outputs({})[0][0], whole.outputs({})[0][0], atol=1e-5)


def test_segments_before_the_change_are_not_run() -> None:
    model = towers()
    graph, samples = gp.trace(model), sampled(model)
    cut = Segmented(graph, graph.outputs, samples)
    run: list[int] = []
    inner = cut._run

    def noting(number: int, *given: Any) -> Any:
        run.append(number)
        return inner(number, *given)

    cut._run = noting  # type: ignore[method-assign]
    last = len(cut.cut.parts) - 1
    cut.outputs({"out.weight": np.asarray(graph.parameter("out.weight"))})
    assert set(run) == {last}


def test_weights_in_constants_and_behind_nodes_of_their_own() -> None:
    weight = np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight, "w")),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "wt"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    ends = [value("x", 1, ["n", 8])], [value("y", 1, ["n", 8])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    graph, samples = gp.trace(model), sampled(model, 5)
    cut, whole = reruns(graph, graph.outputs, samples), Whole(graph, graph.outputs, samples)
    assert isinstance(cut, Segmented)
    for values in ({}, {"w": 2 * weight}):
        assert np.allclose(cut.outputs(values)[0][0], whole.outputs(values)[0][0], atol=1e-4)
