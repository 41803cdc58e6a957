"""Gates: closing one is removal, exactly; its derivative is that of the true loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gated_nets import MODELS, activations, opened, outer_product, plan_at_random, random_feeds, removed, unused
from models import mlp, residual_cnn
from torch import Tensor, fx, nn

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.errors import ModelError
from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.interpret import run, to_torch
from graphprune.interpret.gates import Gated, Vector, insert_gates
from graphprune.plan import Plan
from graphprune.runtime import session
from graphprune.sites import sites_of

SEEDS = range(3)


def close(gated: Gated, plan: Plan) -> None:
    """Set the gates of what a plan removes to zero, and the others to one."""
    with torch.no_grad():
        for name, vector in gated.vectors.items():
            vector.zero_()
            vector[list(plan.keep[name])] = 1


def value(module: fx.GraphModule, data: dict[str, Any]) -> Tensor:
    """A fixed, smooth function of all outputs, as a stand-in for a loss."""
    parts = [
        torch.tanh(o * torch.arange(1, o.numel() + 1).reshape(o.shape).sin()).sum() for o in run(module, data).values()
    ]
    return torch.stack(parts).sum()


def doubles(graph: Graph) -> dict[str, Any]:
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in random_feeds(graph).items()}


def slopes(graph: Graph, groups: Groups, where: Any) -> dict[str, Tensor]:
    gated = insert_gates(to_torch(graph).double().eval(), graph, groups, where=where)
    gated.module.double()
    value(gated.module, doubles(graph)).backward()
    return {name: vector.grad for name, vector in gated.vectors.items()}


@pytest.mark.parametrize("kind", MODELS)
def test_closed_gates_are_removal(kind: str) -> None:
    model = MODELS[kind]()
    graph, groups = opened(model)
    gated = insert_gates(to_torch(graph).eval(), graph, groups)
    data = random_feeds(graph)
    for seed in SEEDS:
        plan = plan_at_random(groups, np.random.default_rng(seed))
        close(gated, plan)
        mine = [o.detach().numpy() for o in run(gated.module, data).values()]
        small = session(rewrite(graph, plan, groups), optimise=False).run(None, data)
        for a, b, c in zip(mine, removed(model, graph, groups, plan, data), small, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_open_gates_change_nothing(kind: str) -> None:
    graph, groups = opened(MODELS[kind]())
    module = to_torch(graph).eval()
    before = [str(n) for n in module.graph.nodes]
    gated = insert_gates(module, graph, groups)
    data = random_feeds(graph)
    for a, b in zip(run(gated.module, data).values(), run(module, data).values(), strict=True):
        assert torch.equal(a, b)
    assert [str(n) for n in module.graph.nodes] == before
    own = dict(module.named_parameters())
    assert all(
        own.get(name) is p or name.startswith("graphprune_gates.") for name, p in gated.module.named_parameters()
    )
    assert {n: v.shape for n, v in gated.vectors.items()} == {
        g.id: (g.size,) for g in groups.groups if g.id in gated.gates
    }


@pytest.mark.parametrize("kind", MODELS)
def test_derivatives_are_those_of_finite_differences(kind: str) -> None:
    graph, groups = opened(MODELS[kind]())
    found = slopes(graph, groups, "consumers")
    gated = insert_gates(to_torch(graph).double().eval(), graph, groups)
    gated.module.double()
    data, step = doubles(graph), 1e-5
    for name, vector in gated.vectors.items():
        for unit in range(groups[name].size):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    vector[unit] = 1 + sign * step
                    sides.append(float(value(gated.module, data)))
                    vector[unit] = 1
            assert found[name][unit].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_a_unit_that_nothing_sums_over_has_no_gate() -> None:
    graph, groups = opened(unused())
    gated = insert_gates(to_torch(graph), graph, groups)
    assert {*groups} - {*gated.gates} == {"unused"}


# Producers and consumers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [mlp(8), residual_cnn(8)])
def test_producers_and_consumers_agree_where_all_between_is_positively_homogeneous(model: Any) -> None:
    graph, groups = opened(model)
    one, other = (slopes(graph, groups, where) for where in ("consumers", "producers"))
    assert {*one} == {*other} == {*groups}
    for name in one:
        assert one[name].abs().max() > 1e-3
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-12)


def test_they_differ_behind_a_sigmoid() -> None:
    graph, groups = opened(activations())
    one, other = (slopes(graph, groups, where) for where in ("consumers", "producers"))
    assert (one["a"] - other["a"]).abs().max() > 0.1 * one["a"].abs().max()


def test_gates_of_producers_stand_behind_the_batch_norm() -> None:
    graph, groups = opened(residual_cnn(8))
    sites = sites_of(graph, groups, "producers")
    assert [s.tensor for s in sites] == ["stem.bn", "block.first.bn", "block.second.bn"]
    assert sites[0].parameters == ("stem.gamma", "stem.beta")
    assert {f.group for s in sites for f in s.factors} == {*groups}


def test_gates_of_producers_take_the_bias_in_and_leave_depthwise_convolutions_out() -> None:
    graph, groups = opened(MODELS["grouped"]())
    sites = sites_of(graph, groups, "producers")
    assert [s.tensor for s in sites] == ["stem", "depthwise", "grouped", "up"]
    (multiplier,) = sites[1].factors
    assert groups[multiplier.group].size == 2, "the channels come from the stem, only the multiplier is made here"
    graph, groups = opened(MODELS["attention"]())
    (query,) = [s for s in sites_of(graph, groups, "producers") if "q.weight" in s.parameters]
    assert (query.tensor, query.parameters) == ("q.add", ("q.weight", "q.bias"))
    assert [groups[f.group].kind for f in query.factors] == ["head", "head-dim"]


def test_closed_gates_of_producers_are_removal_where_zero_stays_zero() -> None:
    """Before the norm they would leave beta behind: the trap."""
    graph, groups = opened(residual_cnn(8))
    module = to_torch(graph).eval()
    data, plan = random_feeds(graph), plan_at_random(groups, np.random.default_rng(1))
    results = []
    for where in ("consumers", "producers"):
        gated = insert_gates(module, graph, groups, where=where)
        close(gated, plan)
        results.append(run(gated.module, data)["y"])
    torch.testing.assert_close(results[0], results[1])


# Other gates ----------------------------------------------------------------------------------------------------------


class Noise(nn.Module):
    """A gate that differs by sample and by call; it notes what it gave."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units, self.given = units, torch.zeros(0)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.given = torch.rand(len(x), self.units)
        return self.given


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_gates_may_be_modules_that_differ_by_sample(kind: str) -> None:
    torch.manual_seed(0)
    graph, groups = opened(residual_cnn(8, batch="n") if kind == "cnn" else mlp(8, batch="n"))
    module = to_torch(graph).eval()
    noisy = insert_gates(module, graph, groups, make=lambda group: Noise(group.size))
    plain = insert_gates(module, graph, groups)
    data = random_feeds(graph, 3)
    together = run(noisy.module, data)["y"]
    assert noisy.vectors == {}
    for k in range(3):
        with torch.no_grad():
            for name, vector in plain.vectors.items():
                assert noisy.gates[name].calls == 1, "once a pass, however many places there are"
                vector.copy_(noisy.gates[name].given[k])
        alone = run(plain.module, {n: a[k : k + 1] for n, a in data.items()})["y"]
        torch.testing.assert_close(together[k : k + 1], alone)


def test_a_batch_folded_into_the_channels_repeats_the_gates() -> None:
    from onnx_models import Net

    net = Net()
    x = net.op("Relu", net.conv(net.input("n", 3, 4, 4, name="image"), 3, 6, name="conv"))
    x = net.reshape(x, -1, 16)
    model = net.model(net.linear(x, 16, 2, name="fc"))
    graph, groups = opened(model)
    gated = insert_gates(to_torch(graph), graph, groups)
    assert run(gated.module, random_feeds(graph, 2))["fc.add"].shape == (12, 2)


def test_sizes_that_gates_do_not_fit() -> None:
    graph, groups = opened(outer_product())
    gated = insert_gates(to_torch(graph), graph, groups, make=lambda g: Wide(g.size))
    with pytest.raises(ModelError) as caught:
        run(gated.module, random_feeds(graph))
    assert caught.value.code == "gate-shape"


class Wide(Vector):
    """Gates for more samples than there are."""

    def forward(self, _first_input: Tensor) -> Tensor:
        return self.value.expand(7, -1)


def test_a_module_of_another_model() -> None:
    graph, groups = opened(residual_cnn(8))
    with pytest.raises(ModelError) as caught:
        insert_gates(to_torch(mlp(8)), graph, groups)
    assert caught.value.code == "gate-place-missing"


def test_gates_are_trained_moved_and_stored_with_the_module() -> None:
    graph, groups = opened(mlp(8))
    gated = insert_gates(to_torch(graph), graph, groups)
    assert gated.module.training
    paths = {f"{gated.path(name)}.value" for name in groups}
    assert paths < {*gated.module.state_dict()}
    again = insert_gates(to_torch(graph), graph, groups, make=lambda g: half(g))
    assert not torch.equal(run(again.module, random_feeds(graph))["y"], run(gated.module, random_feeds(graph))["y"])
    again.module.load_state_dict(gated.module.state_dict())
    torch.testing.assert_close(run(again.module, random_feeds(graph)), run(gated.module, random_feeds(graph)))


def half(group: Group) -> Vector:
    made = Vector(group.size)
    nn.init.constant_(made.value, 0.5)
    return made
