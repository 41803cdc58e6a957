"""Case 19: what an activation gives at zero does not matter: a removed unit is a term left out of a sum."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_equivalence, check_plan
from onnx_models import Net, initializer

from graphprune.runtime import session

NOT_ZERO_AT_ZERO = ["Sigmoid", "HardSigmoid", "Exp", "Cos", "Softplus", "Log1", "Elu1", "Clip1"]
ZERO_AT_ZERO = ["Relu", "Tanh", "Erf", "LeakyRelu", "HardSwish", "Gelu", "Selu", "Mish"]


def activated(net: Net, x: str, op: str) -> str:
    if op == "Log1":
        return net.op("Log", net.op("Add", net.op("Abs", x), net.scalar(2.0)))
    if op == "Elu1":
        return net.op("Add", net.op("Elu", x), net.scalar(1.0))
    if op == "Clip1":
        return net.op("Clip", x, net.scalar(0.25), net.scalar(6.0))
    return net.op(op, x)


@pytest.mark.parametrize("op", [*NOT_ZERO_AT_ZERO, *ZERO_AT_ZERO])
def test_any_activation_between_producer_and_consumer(op: str) -> None:
    net = Net(opset=20)
    x = activated(net, net.conv(net.input(1, 3, 4, 4), 3, 8, name="conv"), op)
    case = check_equivalence(net.model(net.conv(x, 8, 3, name="head")), plans=("random", "one-kept"))
    assert case.group_of("conv.weight", 0) == case.group_of("head.weight", 1)


@pytest.mark.parametrize("op", NOT_ZERO_AT_ZERO[:3])
def test_removing_is_not_setting_the_producer_to_zero(op: str) -> None:
    """With the producer's slice alone at zero the activation would still add its value at zero: by hand, in NumPy."""
    net = Net()
    x = activated(net, net.linear(net.input(2, 3, name="x"), 3, 6, name="hidden"), op)
    model = net.model(net.linear(x, 6, 2, name="out"))
    case = check_equivalence(model)
    keep = [1, 4, 5]
    small = check_plan(case, case.plan(hidden=keep))
    data = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    w = {n: initializer(model, n) for n in ("hidden.weight", "hidden.bias", "out.weight", "out.bias")}
    function = {
        "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "HardSigmoid": lambda v: (0.2 * v + 0.5).clip(0, 1),
        "Exp": np.exp,
    }
    hidden = function[op](data @ w["hidden.weight"] + w["hidden.bias"])
    wanted = hidden[:, keep] @ w["out.weight"][keep] + w["out.bias"]
    got = session(small).run(None, {"x": data})[0]
    assert np.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_gate_and_its_value_are_one_group() -> None:
    """GLU, SwiGLU: a product of two projections."""
    net = Net()
    x = net.input(1, 5, 4)
    value, gate = net.linear(x, 4, 8, name="value"), net.linear(x, 4, 8, name="gate")
    y = net.op("Mul", value, net.op("Mul", gate, net.op("Sigmoid", gate)))
    case = check_equivalence(net.model(net.linear(y, 8, 4, name="down")))
    assert case.group_of("value.weight", 1) == case.group_of("gate.bias", 0) == case.group_of("down.weight", 0)


def test_a_batch_norm_after_a_removed_channel_adds_nothing_either() -> None:
    net = Net()
    x = net.batch_norm(net.op("Sigmoid", net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")), 6, "bn")
    case = check_equivalence(net.model(net.conv(net.op("Exp", x), 6, 2)))
    assert case.group_of("bn.beta", 0) == case.group_of("bn.var", 0) == "conv"


def test_a_learned_slope_and_a_learned_threshold() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    x = net.op("PRelu", x, net.stored(net.random(6, 1, 1), "slope"))
    x = net.op("Where", net.op("Greater", x, net.stored(net.random(1, 6, 1, 1), "threshold")), x, net.scalar(0.1))
    case = check_equivalence(net.model(net.conv(x, 6, 2)))
    assert case.group_of("slope", 0) == case.group_of("threshold", 1) == "conv"


def test_constants_that_do_not_depend_on_the_unit_are_left_alone() -> None:
    """A division by a power of the map, a maximum with a scalar, a mean of two branches."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="a")
    y = net.op("Mean", x, net.op("Max", net.op("Neg", x), net.scalar(0.0)), net.op("Pow", x, net.scalar(2.0)))
    case = check_equivalence(net.model(net.conv(net.op("Div", y, net.scalar(3.0)), 6, 2)))
    assert case.size_of("a.weight", 0) == 6


def test_an_outer_product_of_a_unit_with_itself() -> None:
    """x xᵀ over channels, flattened (bilinear pooling): position (i, j) needs channels i and j."""
    net = Net()
    x = net.reshape(net.conv(net.input(1, 3, 3, 3), 3, 4, name="conv"), 1, 4, 9)
    y = net.op("MatMul", x, net.transpose(x, 0, 2, 1))
    model = net.model(net.linear(net.reshape(y, 1, 16), 16, 2, name="fc"))
    case = check_equivalence(model)
    small = check_plan(case, case.plan(**{case.group_of("conv.weight", 0): (0, 2)}))
    assert initializer(small, "fc.weight").shape == (4, 2)
    assert np.array_equal(initializer(small, "fc.weight"), initializer(model, "fc.weight")[[0, 2, 8, 10]])
