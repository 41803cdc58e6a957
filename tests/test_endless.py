"""A loop that never ends ends the run, with an error that says so."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune as gp
from graphprune import runtime
from graphprune.errors import GraphpruneError


def endless() -> onnx.ModelProto:
    """x -> MatMul -> Relu -> MatMul, and a loop over the result whose condition is always true."""
    rng = np.random.default_rng(0)
    stored = {"w1": rng.standard_normal((6, 12)), "w2": rng.standard_normal((12, 4))}
    values = {name: numpy_helper.from_array(v.astype(np.float32), name) for name, v in stored.items()}
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Tanh", ["state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("k", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["N", 4]),
        ],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["z"], "second"),
        helper.make_node("Loop", ["", "true", "z"], ["y"], "loop", body=body),
    ]
    graph = helper.make_graph(
        nodes, "endless", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [*values.values(), numpy_helper.from_array(np.array(True), "true")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_loop_that_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "LOOP_SECONDS", 0.5)
    with pytest.raises(GraphpruneError, match="may never end"):
        gp.prune(endless(), budget=0.5)
