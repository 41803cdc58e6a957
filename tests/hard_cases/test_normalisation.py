"""Cases 7 and 12: statistics over a pruned axis are not mask-equivalent; normalisations that are spelled out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from checks import check_equivalence, check_plan, coupled, make_plan
from onnx_models import Net, attribute, initializer, node

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.budget import Budget
from graphprune.count import count
from graphprune.errors import BudgetError
from graphprune.frontends.onnx.trace import trace
from graphprune.runtime import session
from graphprune.scores import Scores
from graphprune.solver.solve import solve
from graphprune.verification.verify import verify


def layer_norm(net: Net, x: str, width: int) -> str:
    return net.op("LayerNormalization", x, net.vector(width, "gamma"), net.vector(width, "beta"), axis=-1, epsilon=1e-5)


def rms_norm(net: Net, x: str, width: int) -> str:
    return net.op("RMSNormalization", x, net.vector(width, "gamma"), axis=-1)


def spelled_layer_norm(net: Net, x: str, width: int) -> str:
    centred = net.op("Sub", x, mean(net, x))
    variance = mean(net, net.op("Pow", centred, net.scalar(2.0)))
    y = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.scalar(1e-5))))
    return net.op("Add", net.op("Mul", y, net.vector(width, "gamma")), net.vector(width, "beta"))


def spelled_rms_norm(net: Net, x: str, width: int) -> str:
    power = mean(net, net.op("Mul", x, x))
    y = net.op("Mul", x, net.op("Reciprocal", net.op("Sqrt", net.op("Add", power, net.scalar(1e-6)))))
    return net.op("Mul", y, net.vector(width, "gamma"))


def mean(net: Net, x: str) -> str:
    return net.op("ReduceMean", x, net.ints(-1)) if net.opset >= 18 else net.op("ReduceMean", x, axes=[-1])


NORMS = [layer_norm, rms_norm, spelled_layer_norm, spelled_rms_norm]


def block(norm: Callable[[Net, str, int], str], opset: int) -> onnx.ModelProto:
    """A residual stream of 8 that crosses a norm on its way into an MLP of 12."""
    net = Net(opset=opset)
    x = net.linear(net.input(1, 5, 3), 3, 8, name="embed")
    y = net.op("Relu", net.linear(norm(net, x, 8), 8, 12, name="up"))
    return net.model(net.linear(net.op("Add", x, net.linear(y, 12, 8, name="down")), 8, 4, name="head"))


@pytest.mark.parametrize("norm", NORMS)
def test_a_stream_that_crosses_a_norm_is_left_alone_unless_asked_for(norm: Callable[[Net, str, int], str]) -> None:
    case = check_equivalence(block(norm, 23))
    assert list(case.groups) == ["up"], "the hidden layer is still free"
    assert "takes" in case.why_frozen("embed.weight", 1)
    assert case.why_frozen("gamma", 0) == case.why_frozen("down.weight", 1) == case.why_frozen("embed.weight", 1)


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("norm", NORMS)
def test_asked_for_it_is_a_group_that_is_not_exact(norm: Callable[[Net, str, int], str], opset: int) -> None:
    if norm is rms_norm and opset < 23:
        norm = spelled_rms_norm
    case = coupled(block(norm, opset), allow_inexact=True)
    stream = case.groups[case.group_of("embed.weight", 1)]
    assert (stream.size, stream.exact) == (8, False)
    assert stream.reason
    assert case.groups["up"].exact
    assert case.group_of("gamma", 0) == case.group_of("down.weight", 1) == stream.id
    rng = np.random.default_rng(0)
    for kind in ("random", "random", "one-removed"):
        plan = make_plan(case.groups, kind, rng)
        small = rewrite(case.graph, plan, case.groups)
        onnx.checker.check_model(small, full_check=True)
        found = verify(case.graph, case.groups, plan, small)
        assert not found.exact or len(plan.keep[stream.id]) == 8
        widths = np.array([len(plan.keep[g]) for g in case.groups])
        assert count(trace(small))["macs"] == case.groups.costs.evaluate("macs", widths)


def test_statistics_are_those_of_the_kept_indices() -> None:
    """What a pruned layer norm computes, by hand."""
    net = Net()
    x = net.linear(net.input(1, 5, 3, name="x"), 3, 8, name="embed")
    model = net.model(net.linear(layer_norm(net, x, 8), 8, 4, name="head"))
    case = coupled(model, allow_inexact=True)
    keep = [0, 2, 3, 7]
    small = rewrite(case.graph, case.plan(embed=keep), case.groups)
    data = np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32)
    w = {n: initializer(model, n) for n in ("embed.weight", "embed.bias", "gamma", "beta", "head.weight", "head.bias")}
    y = (data @ w["embed.weight"] + w["embed.bias"])[..., keep]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    wanted = (y * w["gamma"][keep] + w["beta"][keep]) @ w["head.weight"][keep] + w["head.bias"]
    assert np.allclose(session(small).run(None, {"x": data})[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_norm_over_other_axes_is_exact() -> None:
    """LayerNormalization over space, InstanceNormalization, BatchNormalization: every channel by itself."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="stem")
    y = net.op("InstanceNormalization", x, net.vector(6, "in.scale"), net.vector(6, "in.bias"))
    y = net.batch_norm(y, 6, name="bn")
    y = net.op("LayerNormalization", y, net.stored(net.random(4, 4)), net.stored(net.random(4, 4)), axis=2)
    case = check_equivalence(net.model(net.conv(y, 6, 2, name="head")))
    for name in ("in.scale", "in.bias", "bn.gamma", "bn.var", "head.weight"):
        assert case.groups_of(name, 1 if name == "head.weight" else 0) == {"stem"}


@pytest.mark.parametrize(
    ("axis", "scale", "bias", "exact"),
    [
        (2, (4,), (4, 4), True),
        (2, (6, 1, 1), (1,), True),
        (1, (6, 1, 1), (6, 4, 4), False),
        (-1, (1, 6, 4, 1), (), True),
    ],
)
def test_scales_of_a_norm_are_broadcast(axis: int, scale: tuple[int, ...], bias: tuple[int, ...], exact: bool) -> None:
    """Along axes that it takes statistics over, and along others."""
    net = Net()
    x = net.conv(net.input(2, 3, 4, 4), 3, 6, name="stem")
    stored = [net.stored(net.random(*scale), "scale"), *([net.stored(net.random(*bias), "bias")] if bias else [])]
    y = net.op("LayerNormalization", x, *stored, axis=axis)
    case = check_equivalence(net.model(net.conv(y, 6, 2, name="head")), prunable=exact)
    assert case.groups_of("head.weight", 1) == ({"stem"} if exact else set())
    for name, shape in (("scale", scale), ("bias", bias)):
        for k, size in enumerate(shape):
            assert case.groups_of(name, k) == ({"stem"} if exact and size == 6 else set())


def standardised(net: Net, weight: np.ndarray, name: str) -> str:
    """Weights with mean 0 for every output, as NFNets and BiT make them while they run (arXiv 2101.08692)."""
    stored = net.stored(weight, name)
    return net.op("Sub", stored, net.op("ReduceMean", stored, axes=[1, 2, 3]))


def test_weights_that_are_made_of_stored_ones_freeze_with_advice() -> None:
    net = Net(opset=17)
    x = net.op("Relu", net.op("Conv", net.input(1, 3, 5, 5), standardised(net, net.random(8, 3, 3, 3), "a")))
    model = net.model(net.op("Conv", x, standardised(net, net.random(4, 8, 3, 3), "b")))
    case = coupled(model)
    assert "say with onnxsim" in case.why_frozen("b", 1)
    assert "onnxsim" not in case.why_frozen("b", 0)
    with pytest.raises(BudgetError) as caught:
        solve(case.groups, Scores({}, method="l2"), Budget(macs=0.1))
    assert "constants folded, say by onnxsim" in caught.value.hint


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalisation_loses_whole_groups(opset: int) -> None:
    net = Net(opset=opset)
    x = net.conv(net.input(1, 3, 4, 4), 3, 12, name="stem")
    size = 3 if opset == 18 else 12
    y = net.op("GroupNormalization", x, net.vector(size, "scale"), net.vector(size, "bias"), name="gn", num_groups=3)
    case = check_equivalence(net.model(net.conv(y, 12, 2, name="head")))
    groups = case.group_of("stem.weight", 0)
    assert case.groups[groups].size == 3
    small = check_plan(case, case.plan(**{groups: (0, 2)}))
    assert attribute(node(small, "gn"), "num_groups") == 2
    assert initializer(small, "head.weight").shape == (2, 8, 1, 1)
    assert coupled(net.model(net.conv(y, 12, 2)), allow_inexact=True).groups_of("stem.weight", 0) > {groups}


@pytest.mark.parametrize("shape", [(0, 3, -1), (1, 3, 64), (-1, 3, 64)])
def test_group_normalisation_spelled_as_reshape_instance_normalisation_reshape(shape: tuple[int, ...]) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 12, name="stem")
    ones, zeros = net.stored(np.ones(3, np.float32), "ones"), net.stored(np.zeros(3, np.float32), "zeros")
    y = net.op("InstanceNormalization", net.reshape(x, *shape), ones, zeros)
    y = net.reshape(y, 1, 12, 4, 4) if shape[0] != 0 else net.op("Reshape", y, net.op("Shape", x))
    y = net.op(
        "Add", net.op("Mul", y, net.stored(net.random(12, 1, 1), "gamma")), net.stored(net.random(12, 1, 1), "beta")
    )
    case = check_equivalence(net.model(net.conv(y, 12, 2, name="head")))
    groups = case.group_of("stem.weight", 0)
    assert case.groups[groups].size == 3
    assert case.group_of("ones", 0) == case.group_of("gamma", 0) == case.group_of("head.weight", 1) == groups


def test_instance_normalisation_over_all_channels_is_a_layer_norm() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="stem")
    y = net.op("InstanceNormalization", net.reshape(x, 0, 1, -1), net.stored(np.ones(1, np.float32)),
               net.stored(np.zeros(1, np.float32)))  # fmt: skip
    case = check_equivalence(net.model(net.conv(net.reshape(y, 1, 6, 4, 4), 6, 2)), prunable=False)
    assert "statistic" in case.why_frozen("stem.weight", 0)


def test_l2_normalised_features_are_not_exact() -> None:
    net = Net()
    x = net.linear(net.input(4, 3), 3, 8, name="embed")
    y = net.op("Div", x, net.op("ReduceL2", x, axes=[1]))
    case = check_equivalence(net.model(net.linear(y, 8, 2, name="head")), prunable=False)
    assert "statistic" in case.why_frozen("embed.weight", 1)
