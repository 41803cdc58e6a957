"""Refitting: the least-squares solution, windows as convolutions take them, and models with redundant units exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx_models import Net
from torch import nn

import graphprune as gp
from graphprune.coresets.columns import consumers_of, rows_of
from graphprune.coresets.observe import fetch, samples_of
from graphprune.coresets.refit import not_refit, refit, solve
from graphprune.data import Samples
from graphprune.runtime import session
from graphprune.statistics.running import Network, network


def rows(count: int, columns: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(seed).standard_normal((count, columns)) + 0.3


@pytest.mark.parametrize("centred", [False, True])
def test_without_a_ridge_it_is_least_squares(centred: bool) -> None:
    x, w = rows(200, 9), rows(4, 9, 1)
    left, columns = x[:, [0, 2, 3, 7]] + 0.1 * rows(200, 4, 2), np.array([0, 2, 3, 7])
    found = solve(x, left, w, columns, 0.0, centred=centred)
    design = np.concatenate([left, np.ones((200, 1))], axis=1) if centred else left
    wanted = np.linalg.lstsq(design, x @ w.T, rcond=None)[0].T
    assert found.weights == pytest.approx(wanted[:, :4], abs=1e-6)
    assert found.shift == pytest.approx(wanted[:, 4] if centred else 0.0, abs=1e-6)
    energy = np.square(x @ w.T - (x @ w.T).mean(axis=0)).sum()
    assert found.after == pytest.approx(np.square(x @ w.T - design @ wanted.T).sum() / energy, rel=1e-5)
    assert found.before == pytest.approx(np.square(x @ w.T - left @ w[:, columns].T).sum() / energy)


@pytest.mark.parametrize("ridge", [1e-6, 0.1, 100.0])
def test_the_ridge_pulls_to_the_old_weights_and_never_harms(ridge: float) -> None:
    x, w, columns = rows(30, 20), rows(4, 20, 1), np.arange(12)
    found = solve(x, x[:, :12], w, columns, ridge, centred=False)
    left = x[:, :12]
    scale = ridge * np.trace(left.T @ left) / 12
    slope = left.T @ (left @ found.weights.T - x @ w.T) + scale * (found.weights - w[:, :12]).T
    assert np.abs(slope).max() < 1e-7 * scale + 1e-6
    assert found.after <= found.before


def test_data_that_is_all_zero_leaves_the_weights() -> None:
    x, w = rows(10, 5), rows(2, 5, 1)
    found = solve(x, np.zeros((10, 2)), w, np.array([0, 1]), 0.01, centred=True)
    assert found.weights == pytest.approx(w[:, :2])
    assert found.shift == pytest.approx((x @ w.T).mean(axis=0))


CONVOLUTIONS: list[dict[str, Any]] = [
    {"pads": [0, 0, 0, 0]},
    {"pads": [1, 0, 2, 1], "strides": [2, 1]},
    {"pads": [1, 1, 1, 1], "dilations": [2, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    {"auto_pad": "VALID"},
]


@pytest.mark.parametrize("attributes", CONVOLUTIONS, ids=str)
def test_windows_times_the_matrix_are_the_convolution(attributes: dict[str, Any]) -> None:
    net = Net(seed=1)
    h = net.op("Relu", net.conv(net.input("n", 2, 8, 9, name="x"), 2, 4, name="one"))
    y = net.op("Conv", h, net.weight(5, 4, 3, 3, name="w"), name="two", **attributes)
    model = net.model(y)
    graph = gp.trace(model)
    (consumer,) = consumers_of(graph, gp.couple(graph))
    running = network(graph)
    x = np.random.default_rng(0).standard_normal((6, 2, 8, 9)).astype(np.float32)
    values = fetch(running, [consumer.tensor], samples_of(running, {"x": x}, None, 6, "normal", 0))
    made = rows_of(graph, consumer, values[consumer.tensor], 36, 0) @ consumer.matrix().T
    wanted = session(model).run(None, {"x": x})[0]
    assert made == pytest.approx(np.moveaxis(wanted, 1, -1).reshape(-1, 5), abs=1e-5)


def test_at_most_so_many_rows_the_same_of_each_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.coresets import columns

    net = Net(seed=1)
    h = net.op("Relu", net.conv(net.input("n", 2, 8, 8, name="x"), 2, 4, name="one"))
    graph = gp.trace(net.model(net.conv(h, 4, 3, 3, name="two")))
    (consumer,) = consumers_of(graph, gp.couple(graph))
    monkeypatch.setattr(columns, "ROWS", 36 * 100)
    data = [np.random.default_rng(k).standard_normal((3, 4, 8, 8)) for k in range(2)]
    first = rows_of(graph, consumer, data, 36, 0)
    assert first.shape == (100, 36)
    assert np.array_equal(rows_of(graph, consumer, [2 * d for d in data], 36, 0), 2 * first)


# Whole models ---------------------------------------------------------------------------------------------------------


def doubled(array: Any, axis: int) -> Any:
    """Put every slice twice along an axis; a unit and its copy then do the same."""
    return np.repeat(array, 2, axis=axis)


def redundant() -> onnx.ModelProto:
    """A convolution net and tokens' product, each layer's units there twice: half of them can be spared."""
    net = Net(seed=2)
    w = net.random
    x = net.input("n", 2, 6, 6, name="x")
    h = net.op(
        "Conv", x, net.stored(doubled(w(4, 2, 3, 3), 0), "w1"), net.stored(doubled(w(4, 1)[:, 0], 0), "b1"), name="one"
    )
    h = net.op("Relu", h)
    h = net.op("Conv", h, net.stored(w(6, 8, 3, 3), "w2"), name="two", strides=[2, 2], pads=[1, 1, 1, 1])
    h = net.op("Flatten", net.op("Relu", h))
    h = net.op("MatMul", h, net.stored(doubled(w(24, 5), 1), "w3"), name="three")
    h = net.op("Relu", net.op("Add", h, net.stored(doubled(w(5, 1)[:, 0], 0), "b3")))
    return net.model(net.gemm(h, 10, 3, "four"))


def given(data: Any) -> Callable[[Network], Samples]:
    return lambda model: samples_of(model, data, None, 1000, "normal", 0)


def half_plan(groups: gp.Groups, names: tuple[str, ...]) -> gp.Plan:
    keep = {g.id: tuple(range(0, g.size, 2)) if g.id in names else tuple(range(g.size)) for g in groups.groups}
    return gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def test_what_copies_did_is_taken_over_exactly() -> None:
    model = redundant()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    x = np.random.default_rng(0).standard_normal((200, 2, 6, 6)).astype(np.float32)
    plan = half_plan(groups, ("one", "three"))
    assert {g.id for g in groups.groups} >= {"one", "three"}
    done = refit(graph, groups, plan, given({"x": x}), 1e-8)
    assert set(done.values) >= {"w2", "four.weight"}
    assert all(done.before[name] > 1e-2 for name in done.before)
    assert all(done.after[name] < 1e-6 for name in done.after)
    small = gp.rewrite(gp.trace(with_values(model, done.values)), plan)
    fresh = np.random.default_rng(1).standard_normal((20, 2, 6, 6)).astype(np.float32)
    wanted = session(model).run(None, {"x": fresh})[0]
    assert session(small).run(None, {"x": fresh})[0] == pytest.approx(wanted, abs=1e-3 * float(np.abs(wanted).max()))


def with_values(model: onnx.ModelProto, values: Any) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(values[tensor.name]), tensor.name))
    return changed


def test_later_consumers_see_the_errors_of_earlier_ones() -> None:
    """The second layer's regressors are those of the pruned network: its fit mends what the first could not."""
    net = Net(seed=4)
    h = net.op("Relu", net.gemm(net.input("n", 12, name="x"), 12, 16, "one"))
    h = net.op("Relu", net.gemm(h, 16, 16, "two"))
    model = net.model(net.gemm(h, 16, 4, "three"))
    graph = gp.trace(model)
    groups = gp.couple(graph)
    x = np.random.default_rng(0).standard_normal((400, 12)).astype(np.float32)
    done = refit(
        graph,
        groups,
        half_plan(groups, ("one", "two")),
        given({"x": x}),
        1e-6,
    )
    small = session(gp.rewrite(gp.trace(with_values(model, done.values)), half_plan(groups, ("one", "two"))))
    wanted, made = session(model).run(None, {"x": x})[0], small.run(None, {"x": x})[0]
    missed = np.square(wanted - made).sum() / np.square(wanted - wanted.mean(axis=0)).sum()
    assert missed == pytest.approx(done.after["three.weight"], rel=1e-3)


class Redundant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu_(self.two(torch.relu_(self.one(x)))).flatten(1))


def test_modules_are_refit_as_well_and_left_alone() -> None:
    torch.manual_seed(0)
    module = Redundant().eval()
    with torch.no_grad():
        module.one.weight[1::2], module.one.bias[1::2] = module.one.weight[::2].clone(), module.one.bias[::2].clone()
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(150, 2, 6, 6)
    graph = gp.trace(module, x[:2])
    groups = gp.couple(graph)
    data = {graph.inputs[0]: x.numpy()}
    done = refit(graph, groups, half_plan(groups, ("one",)), given(data), 1e-8)
    assert set(done.values) == {"two.weight", "two.bias"}
    assert done.after["two.weight"] < 1e-6 < 1e-2 < done.before["two.weight"]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_what_cannot_be_refit_is_named() -> None:
    net = Net(seed=5)
    h = net.op("Relu", net.conv(net.input(1, 2, 6, 6, name="x"), 2, 8, name="one"))
    h = net.op("Relu", net.conv(h, 8, 8, 3, groups=2, name="grouped"))
    weight = net.weight(8, 3, 2, 2, name="up.weight")
    model = net.model(net.op("ConvTranspose", h, weight, name="up"))
    graph = gp.trace(model)
    found = not_refit(graph, gp.couple(graph))
    assert found == {"grouped.weight": "it is grouped", "up.weight": "a transposed convolution"}
