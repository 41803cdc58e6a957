"""Case 10, where it ends: shapes that come from what the tracer does not compute freeze the axes they spell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from checks import PLANS, coupled, make_plan
from onnx import TensorProto, helper
from onnx_models import Net

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.verification.verify import verify


def from_a_branch(net: Net) -> str:
    """Both branches give the shape back that they capture."""
    net.ints(1, 8, 16, name="shape")
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    bodies = {}
    for side in ("then", "else"):
        out = helper.make_tensor_value_info(f"{side}_shape", TensorProto.INT64, [3])
        node = helper.make_node("Identity", ["shape"], [out.name], name=out.name)
        bodies[f"{side}_branch"] = helper.make_graph([node], side, [], [out])
    return net.op("If", flag, **bodies)


def from_an_odd_operator(net: Net) -> str:
    sizes = net.stored(np.array([1, 8, 3], np.float32))
    return net.op("Cast", net.op("ScatterElements", sizes, net.ints(2), net.stored(np.array([16], np.float32))), to=7)


@pytest.mark.parametrize("shape", [from_a_branch, from_an_odd_operator])
def test_a_reshape(shape: Callable[[Net], str]) -> None:
    net = Net(opset=18)
    y = net.conv(net.input(1, 3, 4, 4, name="x"), 3, 6, name="first")
    y = net.op("Reshape", net.conv(y, 6, 8, name="second"), shape(net))
    y = net.transpose(net.op("MatMul", y, net.weight(16, 4)), 0, 2, 1)
    check(net.model(net.linear(y, 8, 3)))


def check(model: onnx.ModelProto) -> None:
    case = coupled(model)
    assert {g.id: g.size for g in case.groups.values()} == {"first": 6}
    assert "reads its size from tensor" in case.why_frozen("second.weight", 0)
    for seed, kind in enumerate(PLANS):
        plan = make_plan(case.groups, kind, np.random.default_rng(seed))
        verify(case.graph, case.groups, plan, rewrite(case.graph, plan, case.groups))
