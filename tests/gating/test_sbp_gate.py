"""SBP's gates: what they draw and say, where they stand, and that nothing of them is lost when they are folded."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from placed_nets import ONNX, TORCH, at_random, image, module, plan_of
from torch import nn

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.folding import scaled
from graphprune.frontends.fx.trace import trace_call
from graphprune.gating.gate import Gate
from graphprune.gating.multipliers import multiplied
from graphprune.gating.paper import placed
from graphprune.gating.prepare_paper import Learned, servable
from graphprune.gating.sbp import SbpGate, crowded, worth
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.interpret.differentiable import differentiable
from graphprune.interpret.gates import Gated, insert_gates
from graphprune.runtime import session

EITHER = [("onnx", kind) for kind in ONNX] + [("torch", kind) for kind in TORCH]


def opened(world: str, kind: str) -> tuple[Graph, Groups]:
    if world == "onnx":
        graph = gp.trace(ONNX[kind]())
    else:
        graph = trace_call(module(kind), (torch.randn(2, 2, 8, 8),), {}, None)
    return graph, gp.couple(graph)


def run(graph: Graph, small: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Run a pruned model: by onnxruntime, or as a module."""
    if isinstance(small, nn.Module):
        with torch.no_grad():
            result: np.ndarray[Any, Any] = small(torch.from_numpy(x)).numpy()
        return result
    found: np.ndarray[Any, Any] = session(small).run(None, {graph.inputs[0]: x})[0]
    return found


def gated(graph: Graph, groups: Groups, where: Any = "consumers") -> Gated:
    made = insert_gates(differentiable(graph), graph, groups, where=where, make=lambda g: SbpGate(g.size))
    made.module.eval()
    return made


def rewritten(graph: Graph, groups: Groups, made: Gated) -> Any:
    result = gp.rewrite(graph, plan_of(gp.couple(graph), made.gates))
    return getattr(result, "module", result)


def close(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> None:
    assert a.std() > 1e-3
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(a).max())


# The gate -------------------------------------------------------------------------------------------------------------


def test_it_is_a_gate_that_starts_open() -> None:
    gate = SbpGate(4)
    assert isinstance(gate, Gate)
    assert gate.expected().dtype == gate.log_ratio().dtype == torch.float64
    torch.testing.assert_close(gate.expected(), torch.full((4,), 0.994647, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(gate.log_ratio().exp(), torch.full((4,), 246.70, dtype=torch.float64), atol=0.01, rtol=0)
    assert gate.kl().item() == pytest.approx(4 * 7.26994, rel=1e-5)
    np.testing.assert_allclose(worth(gate), 7.26994, rtol=1e-5)


def test_one_draw_a_batch_or_one_a_sample() -> None:
    torch.manual_seed(0)
    x = torch.zeros(5, 3)
    assert SbpGate(4)(x).shape == (4,)
    gate = SbpGate(4, per_example=True)
    drawn = gate(x)
    assert drawn.shape == (5, 4) and drawn.dtype == torch.float32
    assert len(drawn[:, 0].unique()) == 5 and not torch.equal(drawn, gate(x))


def test_draws_average_to_what_evaluation_multiplies_by() -> None:
    torch.manual_seed(0)
    gate = SbpGate(3, per_example=True)
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([-1.0, 0.5, -3.0]))
        gate.log_sigma.copy_(torch.tensor([-0.5, 0.2, 1.0]))
    draws = gate(torch.zeros(200_000, 1)).detach().double()
    assert ((draws > 0) & (draws <= 1)).all()
    torch.testing.assert_close(draws.mean(0), gate.expected(), rtol=0.01, atol=0)
    torch.testing.assert_close((draws.mean(0) / draws.std(0)).log(), gate.log_ratio(), rtol=0, atol=0.01)
    gate.eval()
    gate.kept[1] = False
    expected = gate.expected().float() * torch.tensor([1.0, 0.0, 1.0])
    torch.testing.assert_close(gate(torch.zeros(2, 1)), expected)


def test_parameters_are_moved_back_and_their_gradients_are_whole() -> None:
    gate = SbpGate(2)
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([9.0, -30.0]))
        gate.log_sigma.copy_(torch.tensor([7.0, -25.0]))
    gate.kl().backward()
    assert gate.mu.grad is not None and gate.log_sigma.grad is not None
    assert gate.log_sigma.grad[1] < -0.5, "the divergence pulls a narrow one wider, beyond the range as well"
    gate.project()
    assert gate.mu.tolist() == [5.0, -20.0] and gate.log_sigma.tolist() == [5.0, -20.0]


def test_noise_reaches_the_parameters() -> None:
    torch.manual_seed(0)
    gate = SbpGate(3)
    gate(torch.zeros(1, 1)).sum().backward()
    assert gate.mu.grad is not None and gate.log_sigma.grad is not None
    assert (gate.mu.grad != 0).all() and (gate.log_sigma.grad != 0).all()


def test_a_gradual_gate_closes_what_is_mostly_noise_but_never_the_last() -> None:
    gate = SbpGate(4, gradual=True)
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([0.0, -8.0, -5.0, -12.0]))
        gate.log_sigma.copy_(torch.tensor([-3.0, 2.0, 2.5, 3.0]))
    assert (gate.log_ratio() < -0.5).tolist() == [False, True, True, True]
    for _ in range(49):
        gate.project()
    assert gate.kept.all()
    gate.project()
    assert gate.kept.tolist() == [True, False, False, False]
    torch.manual_seed(0)
    assert (gate(torch.zeros(1, 1)) > 0).tolist() == [True, False, False, False]
    with torch.no_grad():
        gate.log_sigma[0], gate.mu[0] = 4.0, -15.0
    for _ in range(50):
        gate.project()
    assert gate.log_ratio()[0] < -0.5
    assert gate.kept.tolist() == [True, False, False, False], "the last open one stays, whatever it is"
    everything = SbpGate(3, gradual=True)
    with torch.no_grad():
        everything.mu.copy_(torch.tensor([-8.0, -7.0, -9.0]))
        everything.log_sigma.fill_(2.0)
    for _ in range(50):
        everything.project()
    assert everything.kept.sum() == 1 and everything.kept[everything.log_ratio().argmax()]


def test_a_warning_where_ratios_crowd_at_the_threshold() -> None:
    apart = {"counts": [8, 0, 4], "near": 3}
    crowd = {"counts": [4, 4, 4], "near": 4}
    assert crowded({"a": apart}) == ()
    (words,) = crowded({"a": apart, "b": crowd})
    assert "of b is near 1" in words


# Folding --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "kind"), EITHER)
@pytest.mark.parametrize("seed", [0, 1])
def test_gates_at_consumers_are_folded_exactly(world: str, kind: str, seed: int) -> None:
    graph, groups = opened(world, kind)
    made = gated(graph, groups)
    at_random(made.gates, seed)
    x = image(graph)
    (wanted,) = made.module(torch.from_numpy(x))
    folded = scaled(graph, groups, {n: gate.expected().numpy() for n, gate in made.gates.items()})
    close(wanted.detach().numpy(), run(graph, rewritten(folded, groups, made), x))


@pytest.mark.parametrize(("world", "kind"), EITHER)
@pytest.mark.parametrize("seed", [0, 1])
def test_gates_before_the_bias_are_folded_exactly_with_what_removed_units_leave(
    world: str, kind: str, seed: int
) -> None:
    graph, groups = opened(world, kind)
    placement = servable(graph, groups)
    made = gated(graph, groups, placement.sites)
    assert set(made.gates) == set(groups)
    at_random(made.gates, seed)
    x = image(graph)
    (wanted,) = made.module(torch.from_numpy(x))
    means: dict[str, Any] = {n: gate.expected().numpy() for n, gate in made.gates.items()}
    tuned = scaled(graph, groups, {n: m for n, m in means.items() if n in placement.left})
    learned = Learned(tuned, gp.couple(tuned), placement, means)
    folded = learned.folded({n: gate.kept.numpy() for n, gate in made.gates.items()})
    small = rewritten(folded, groups, made)
    close(wanted.detach().numpy(), run(graph, small, x))
    simply = rewritten(learned.folded(), groups, made)
    if placement.at_weights:
        assert np.abs(run(graph, simply, x) - wanted.detach().numpy()).max() > 1e-3, "what they leave is not nothing"


def test_units_without_a_gate_leave_nothing() -> None:
    graph, groups = opened("onnx", "residual")
    ungated = "stem"
    placement = servable(graph, groups)
    means = {n: np.full(g.size, 0.5) for n, g in groups.items() if n != ungated}
    kept = {g.id: np.arange(g.size) % 2 == 0 for g in groups.groups}
    folded = Learned(graph, groups, placement, means).folded({**kept, "inner": np.ones(4, np.bool_)})
    halved = folded.parameter("inner.weight") / graph.parameter("inner.weight")
    np.testing.assert_allclose(halved, 0.5)
    for name in ("stem.weight", "stem.bias", "outer.weight", "out.bias"):
        np.testing.assert_array_equal(folded.parameter(name), graph.parameter(name))


def test_where_the_paper_has_them() -> None:
    graph, groups = opened("onnx", "padded")
    placement = placed(graph, groups)
    assert [(s.tensor, s.axis) for s in placement.sites] == [
        ("first.weight", 0), ("second.weight", 0), ("hidden.weight", 0)
    ]  # fmt: skip
    assert not placement.left
    assert not any(s.is_data for s in placement.sites)


def test_a_sum_behind_a_residual_addition_is_constant_once_all_its_producers_are_closed() -> None:
    graph, groups = opened("onnx", "residual")
    placement = placed(graph, groups)
    assert [s.tensor for s in placement.sites] == ["stem.weight", "inner.weight", "outer.weight"]
    assert {f.group for s in placement.sites for f in s.factors} == set(groups) == set(placement.at_weights)


def test_a_module_cannot_take_what_differs_by_position() -> None:
    graph, groups = opened("torch", "padded")
    placement = servable(graph, groups)
    assert list(placement.left) == ["first"]
    assert "zero padding" in placement.left["first"]
    assert {s.tensor for s in placement.sites if s.is_data} == {
        n.inputs[0] for n in graph.nodes if "second.weight" in n.inputs
    }


def test_noise_before_the_bias_leaves_the_bias_alone() -> None:
    graph, groups = opened("torch", "unpadded")
    made = gated(graph, groups, placed(graph, groups).sites)
    for gate in made.gates.values():
        gate.kept.fill_(False)
    nothing = made.module(torch.randn(2, 2, 8, 8))[0]
    other = made.module(torch.randn(2, 2, 8, 8))[0]
    torch.testing.assert_close(nothing, other)
    assert nothing.abs().max() > 0.01


def test_lookups_and_sums_of_data_keep_their_gates_at_the_consumers() -> None:
    from onnx import TensorProto
    from onnx_models import Net

    net = Net()
    ids = net.input(1, 4, name="ids", dtype=TensorProto.INT64)
    x = net.op("Gather", net.weight(9, 6, name="table"), ids, axis=0)
    x = net.op("Mul", net.linear(x, 6, 5, name="value"), net.op("Sigmoid", net.linear(x, 6, 5, name="gate")))
    graph = gp.trace(net.model(net.linear(x, 5, 2, name="out")))
    groups = gp.couple(graph)
    placement = placed(graph, groups)
    (table,) = placement.left
    assert "would not be a constant" in placement.left[table]
    assert len(placement.at_weights) == 1, "both factors of the product are closed together"


# Multipliers ----------------------------------------------------------------------------------------------------------


def test_multipliers_by_place_and_by_pattern() -> None:
    weights = {"conv1": 1.0, "conv2": 2.0, "conv3": 1.0, "fc": 1.0}
    assert multiplied(weights, "1-2=10,fc=0.5") == {"conv1": 10.0, "conv2": 20.0, "conv3": 1.0, "fc": 0.5}
    assert multiplied(weights, {"conv*": 3, "2": 5}) == {"conv1": 3.0, "conv2": 10.0, "conv3": 3.0, "fc": 1.0}
    assert multiplied(weights, "") == weights


@pytest.mark.parametrize("asked", ["conv9=2", "7=2", "conv1", "conv1=x", "conv1=-1", "conv1=inf"])
def test_multipliers_that_make_no_sense(asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        multiplied({"conv1": 1.0}, asked)
    assert caught.value.code == "bad-multipliers"
    assert math.isfinite(len(str(caught.value)))


def test_a_gate_for_every_group() -> None:
    make = partial(SbpGate, per_example=True)
    graph, groups = opened("onnx", "concat")
    made = insert_gates(differentiable(graph), graph, groups, make=lambda g: make(g.size))
    assert {n: len(gate.mu) for n, gate in made.gates.items()} == {g.id: g.size for g in groups.groups}
