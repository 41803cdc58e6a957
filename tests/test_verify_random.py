"""Models that draw random numbers: both copies draw the same ones, so that a wrong slice still shows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune as gp
from graphprune.errors import VerificationError


def noisy() -> onnx.ModelProto:
    """x -> Gemm -> Relu -> Gemm, plus noise as large as the answer."""
    rng = np.random.default_rng(0)
    stored = {"w1": rng.standard_normal((6, 12)), "w2": rng.standard_normal((12, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["z"], "second"),
        helper.make_node("RandomNormalLike", ["z"], ["n"], "noise", scale=10.0),
        helper.make_node("Add", ["z", "n"], ["y"], "sum"),
    ]
    graph = helper.make_graph(
        nodes, "noisy", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_random_numbers_do_not_hide_what_is_compared() -> None:
    model = noisy()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    small, report = gp.prune(model, budget=0.5)
    assert report.verify is not None
    assert report.verify.tolerance <= 1e-4
    assert report.verify.relative <= 1e-5
    assert all(a.name != "seed" for node in small.graph.node for a in node.attribute)
    plan = gp.solve(
        groups, gp.Scores({g.id: np.ones(g.size) for g in groups.groups}, method="ones"), gp.Budget(macs=0.5)
    )
    wrong = gp.rewrite(graph, plan, groups)
    changed = numpy_helper.to_array(wrong.graph.initializer[0]) * 1.5
    wrong.graph.initializer[0].CopyFrom(numpy_helper.from_array(changed, wrong.graph.initializer[0].name))
    with pytest.raises(VerificationError):
        gp.verify(graph, groups, plan, wrong)
