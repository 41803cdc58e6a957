"""Where the time goes: onnxruntime's own profile, told by the model's nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from models import floats, mlp, model_of, residual_cnn, weight
from onnx import helper

from graphprune.latency.bench import side_by_side
from graphprune.latency.events import Kernel, kernels, seconds_by_kernel, told
from graphprune.latency.inputs import inputs_for
from graphprune.latency.machine import Machine


def run_event(ts: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 90}


def kernel_event(name: str, ts: int, micros: int, op: str = "Conv") -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": micros, "args": {"op_name": op}}


def test_seconds_are_medians_over_runs_and_sums_within_one() -> None:
    events = [run_event(100 * k) for k in range(4)]
    for k, micros in enumerate((900, 10, 30, 20)):  # the first run is to warm up
        events += [kernel_event("a", 100 * k + 1, micros), kernel_event("loop", 100 * k + 2, 5, "Add")]
        events += [kernel_event("loop", 100 * k + 3, 6, "Add")]
    events.append({"cat": "Node", "name": "a_fence_before", "ts": 105, "dur": 7, "args": {"op_name": "Conv"}})
    assert seconds_by_kernel(events, 1) == pytest.approx({("a", "Conv"): 20e-6, ("loop", "Add"): 11e-6})


@pytest.mark.parametrize("make", [mlp, residual_cnn])
def test_every_node_is_told_once(make: Any) -> None:
    """Whatever this processor's kernels are: fused or not, blocked or not."""
    model = make()
    found = kernels(model, inputs_for(model, {}), Machine(), runs=3)
    nodes = [name for kernel in found for name in kernel.nodes]
    assert sorted(nodes) == sorted(n.name for n in model.graph.node)
    assert all(k.seconds >= 0 for k in found)


def chain() -> onnx.ModelProto:
    """A Conv, a Conv whose result is added to the first's, a Relu; an unused branch is folded."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
        helper.make_node("Conv", ["a", "w2"], ["b"], "second"),
        helper.make_node("Add", ["b", "a"], ["c"], "sum"),
        helper.make_node("Relu", ["c"], ["d"], "relu"),
        helper.make_node("Mul", ["two", "two"], ["four"], "folded"),
        helper.make_node("Mul", ["d", "four"], ["y"], "scale"),
    ]
    tensors = [weight(rng, "w1", 8, 8, 1, 1), weight(rng, "w2", 8, 8, 1, 1), weight(rng, "two", 1)]
    return model_of(nodes, [floats("x", 1, 8, 4, 4)], [floats("y", 1, 8, 4, 4)], tensors)


def test_blocked_kernels_are_known_by_what_they_make() -> None:
    """As onnxruntime names them: by the tensor they made before a sum and an activation became part of them."""
    ran = [
        helper.make_node("ReorderInput", ["x"], ["t0"], "reorder"),
        helper.make_node("Conv", ["t0", "w1"], ["t1"], "a_nchwc"),
        helper.make_node("Conv", ["t1", "w2", "", "t1"], ["t2"], "b_nchwc", activation="Relu"),
        helper.make_node("ReorderOutput", ["t2"], ["d"], "back"),
        helper.make_node("Mul", ["d", "four"], ["y"], "scale"),
    ]
    spent = {(n.name, n.op_type): 0.001 * (k + 1) for k, n in enumerate(ran)}
    found = {k.names: (k.nodes, round(1000 * k.seconds)) for k in told(chain(), ran, spent)}
    assert found == {
        ("reorder",): ((), 1), ("a_nchwc",): (("first",), 2), ("b_nchwc",): (("second", "sum", "relu"), 3),
        ("back",): ((), 4), ("scale",): (("scale",), 5),
    }  # fmt: skip


def test_kernels_without_a_tensor_of_the_models_between_are_told_together() -> None:
    ran = [
        helper.make_node("Fused", ["x", "w1"], ["made_up"], "one"),
        helper.make_node("Other", ["made_up", "w2"], ["d"], "two"),
        helper.make_node("Mul", ["d", "four"], ["y"], "scale"),
    ]
    spent = {(n.name, n.op_type): 1.0 for n in ran}
    found = told(chain(), ran, spent)
    assert [(k.names, k.nodes, k.seconds) for k in found] == [
        (("one", "two"), ("first", "second", "sum", "relu"), 2.0), (("scale",), ("scale",), 1.0),
    ]  # fmt: skip


def test_a_kernel_that_is_not_among_the_nodes_goes_by_its_name() -> None:
    spent = {("relu", "Relu"): 1.0, ("inside_a_body", "Add"): 2.0}
    found = {k.names: k.nodes for k in told(chain(), (), spent)}
    assert found == {("relu",): ("relu",), ("inside_a_body",): ()}


def test_two_models_stand_side_by_side() -> None:
    """What one side fuses, the other does not: then both are told as one."""
    before = [Kernel(("k",), "Conv+Relu", 3.0, ("conv", "relu")), Kernel(("m",), "Mul", 1.0, ("mul",))]
    after = [
        Kernel(("a",), "Conv", 1.0, ("conv",)),
        Kernel(("b",), "Relu", 0.5, ("relu",)),
        Kernel(("r",), "R", 0.2, ()),
    ]
    rows = {n.name: (n.before, n.after) for n in side_by_side(before, after)}
    assert rows == {"conv, relu": (3.0, 1.5), "mul": (1.0, None), "(added by the runtime) R": (None, 0.2)}
