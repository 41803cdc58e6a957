"""Pruning in steps: within budget, each on what the last left, and told in terms of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from models import mlp, residual_cnn
from onnx import numpy_helper
from onnx_models import Net

import graphprune as gp
from graphprune.backends.onnx.rewrite import rewrite
from graphprune.coupling import couple
from graphprune.errors import BudgetError, UsageError
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.pipeline.lineage import Lineage
from graphprune.pipeline.opening import Opened, open_model, read
from graphprune.pipeline.run import run
from graphprune.pipeline.settings import Settings
from graphprune.pipeline.stepwise import Stepped, fit_in_steps, schedule
from graphprune.plan import Plan
from graphprune.scores import Scores


def quiet(_stage: str) -> None:
    pass


def opened(model: onnx.ModelProto, settings: Settings) -> Opened:
    return open_model(read(model), settings)


def settings_of(budget: Any, **options: Any) -> Settings:
    return Settings(gp.Budget.parse(budget), multiple=options.pop("multiple", 1), **options)


def steps_of(model: onnx.ModelProto, settings: Settings, steps: int, **options: Any) -> tuple[Opened, Stepped]:
    original = opened(model, settings)
    return original, fit_in_steps(original, settings, steps, quiet, **options)


@dataclass(frozen=True)
class Noting:
    """Scores by magnitude, and notes the sizes of the groups it is shown."""

    seen: list[dict[str, int]] = field(default_factory=list)

    name: ClassVar[str] = "noting"
    needs: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "notes what it sees"
    scale_equivariant: ClassVar[bool] = True

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        from graphprune.passes import Magnitude

        self.seen.append({g.id: g.size for g in groups.groups})
        return replace(Magnitude()(graph, groups), method=self.name)


# The schedule ---------------------------------------------------------------------------------------------------------


def test_limits_fall_geometrically_to_the_budget() -> None:
    full = {"macs": 1000.0, "params": 400.0, "size": 5000.0, "memory": 10.0}
    limits = schedule(gp.Budget(macs=0.25, size="3200B", params=1.0), full, 4)
    np.testing.assert_allclose([s["macs"] for s in limits], [1000 * 0.25 ** (k / 4) for k in (1, 2, 3, 4)])
    np.testing.assert_allclose([s["size"] for s in limits], [5000 * 0.64 ** (k / 4) for k in (1, 2, 3, 4)])
    assert {s["params"] for s in limits} == {400.0}
    assert schedule(gp.Budget(macs=0.25), full, 1) == ({"macs": 250.0},)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, 10**6])
def test_a_number_of_steps_that_is_none(steps: Any) -> None:
    with pytest.raises(UsageError) as caught:
        schedule(gp.Budget(macs=0.5), {"macs": 1.0, "params": 1.0, "size": 1.0, "memory": 1.0}, steps)
    assert caught.value.code == "bad-steps"


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [mlp(48), residual_cnn(24)])
def test_every_step_is_within_its_limit_and_the_last_is_the_budget(model: onnx.ModelProto) -> None:
    original, done = steps_of(model, settings_of("macs=0.3,params=0.4"), 4)
    full = original.groups.costs.full
    assert len(done.steps) == 4
    for step in done.steps:
        assert all(step.costs[m] <= limit for m, limit in step.limits.items())
    assert done.fitted.after["macs"] <= 0.3 * full["macs"]
    assert done.fitted.after["params"] <= 0.4 * full["params"]
    assert done.steps[-1].costs == done.fitted.after
    widths = np.array([[s.widths[g] for g in original.groups] for s in done.steps])
    assert (np.diff(widths, axis=0) <= 0).all()
    assert (widths[0] < original.groups.sizes).any()
    assert done.steps[-1].widths == done.fitted.plan.widths
    assert done.steps[0].to_dict()["costs"]["macs"] == done.steps[0].costs["macs"]


@pytest.mark.parametrize("model", [mlp(48), residual_cnn(24)])
def test_the_plan_replays_on_the_original(model: onnx.ModelProto) -> None:
    original, done = steps_of(model, settings_of(0.4, method="random", seed=3), 3)
    plan = gp.Plan.from_json(done.fitted.plan.to_json())
    assert rewrite(trace(model), plan) == done.fitted.model
    assert gp.prune(model, plan=plan)[0] == done.fitted.model
    gp.verify(original.graph, original.groups, plan, done.fitted.model)
    assert (plan.method, plan.seed, plan.budget) == ("random", 3, {"macs": 0.4})
    assert plan.costs["macs"] == done.fitted.after["macs"]


def test_one_step_is_what_prune_does() -> None:
    model = residual_cnn(24)
    settings = settings_of(0.5, multiple="auto")
    _, done = steps_of(model, settings, 1)
    assert done.fitted.model == run(model, settings).model
    assert done.check is None


def test_scores_are_taken_anew_on_what_is_left() -> None:
    noting = Noting()
    original, done = steps_of(residual_cnn(24), settings_of(0.3, method=noting), 3)
    assert len(noting.seen) == 3
    assert noting.seen[0] == {g.id: g.size for g in original.groups.groups}
    assert noting.seen[1:] == [step.widths for step in done.steps[:-1]]


def test_gradients_are_taken_on_what_is_left() -> None:
    from graphprune.passes.taylor import Taylor

    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((8, 3, 8, 8)).astype(np.float32), "labels": np.arange(8)}
    model = residual_cnn(16, batch="n")
    original, done = steps_of(model, settings_of(0.4, method=Taylor(data=data)), 3)
    assert done.fitted.after["macs"] <= 0.4 * original.groups.costs.full["macs"]
    assert done.fitted.plan.method == "taylor"
    assert rewrite(original.graph, done.fitted.plan, original.groups) == done.fitted.model
    # The second of two steps, by hand: scored on what the first left.
    first = fit_in_steps(original, settings_of(0.4**0.5, method=Taylor(data=data)), 1, quiet)
    left = opened(first.fitted.model, settings_of(0.4))
    limit = 0.4 * original.groups.costs.full["macs"] / left.groups.costs.full["macs"]
    plan = gp.solve(left.groups, Taylor(data=data)(left.graph, left.groups), gp.Budget(macs=limit), multiple=1)
    _, twice = steps_of(model, settings_of(0.4, method=Taylor(data=data)), 2)
    assert rewrite(left.graph, plan, left.groups) == twice.fitted.model


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_pass_has_to_say_is_in_the_report(steps: int) -> None:
    from graphprune.passes.fisher import Fisher

    data = {"x": np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)}
    report = run(mlp(16, batch="n"), settings_of(0.5, method=Fisher(data=data), steps=steps)).report
    assert ["second order" in warning for warning in report.notes] == [True]


def test_protected_layers_and_stages() -> None:
    told: list[str] = []
    model = residual_cnn(24)
    settings = settings_of(0.6, keep=("block.first.g*",))
    original = opened(model, settings)
    done = fit_in_steps(original, settings, 2, told.append)
    assert "block.first" not in original.groups
    assert told[0] == "step 1/2"
    assert told.count("score") == 2
    assert done.fitted.plan.coupling["keep"] == ["block.first.g*"]
    assert {n.name for n in done.fitted.model.graph.node} == {n.name for n in model.graph.node}


def test_a_budget_out_of_reach() -> None:
    noting = Noting()
    with pytest.raises(BudgetError) as caught:
        steps_of(residual_cnn(24), settings_of(0.001, method=noting), 3)
    with pytest.raises(BudgetError) as at_once:
        run(residual_cnn(24), settings_of(0.001))
    assert caught.value.message == at_once.value.message, "in terms of the original"
    assert not noting.seen, "before any scoring"


# With training between ------------------------------------------------------------------------------------------------


def test_training_between_steps_goes_into_the_next() -> None:
    """What is trained is what is scored and pruned next; the plan then does not carry the weights."""
    seen: list[tuple[int, int]] = []

    def negate(model: onnx.ModelProto, step: int) -> onnx.ModelProto:
        trained = onnx.ModelProto()
        trained.CopyFrom(model)
        for tensor in trained.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        seen.append((step, len(trained.SerializeToString())))
        return trained

    model = mlp(48)
    original, done = steps_of(model, settings_of(0.3), 3, train=negate)
    assert done.check is not None
    assert done.check.max_rel <= done.check.tolerance
    assert [step for step, _ in seen] == [1, 2]
    twice = rewrite(original.graph, done.fitted.plan, original.groups)
    mine, theirs = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (done.fitted.model, twice))
    assert all(np.array_equal(mine[name], theirs[name]) for name in theirs), "negated twice, and the same units kept"
    _, once = steps_of(model, settings_of(0.3), 2, train=negate)
    weights = {t.name: numpy_helper.to_array(t) for t in once.fitted.model.graph.initializer}
    plan_alone = rewrite(original.graph, once.fitted.plan, original.groups)
    assert all(np.array_equal(weights[t.name], -numpy_helper.to_array(t)) for t in plan_alone.graph.initializer)


# In terms of the original ---------------------------------------------------------------------------------------------


def attention_net() -> onnx.ModelProto:
    """Heads and head dimensions: positions that need two units."""
    net = Net()
    x = net.input(1, 5, 16, name="x")
    q, k, v = (
        net.transpose(net.reshape(net.linear(x, 16, 32, name=n), 1, 5, 4, 8), 0, 2, 1, 3) for n in ("q", "k", "v")
    )
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), 1, 5, 32)
    return net.model(net.linear(net.op("Relu", net.linear(y, 32, 24, name="o")), 24, 4, name="out"))


def grouped_net() -> onnx.ModelProto:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6, name="x"), 3, 24, name="stem")
    x = net.conv(net.op("Relu", net.conv(x, 24, 24, 3, 4, name="grouped")), 24, 24, 3, 24, name="depthwise")
    both = net.op("Concat", x, net.conv(x, 24, 8, name="side"), axis=1)
    return net.model(net.conv(both, 32, 4, name="head"))


@pytest.mark.parametrize("make", [attention_net, grouped_net])
@pytest.mark.parametrize("least", [0, 1])
def test_units_are_followed_through_products_of_axes(make: Any, least: int) -> None:
    for seed in range(3):
        original, done = steps_of(make(), settings_of(0.3, method="random", seed=seed, min_width=least), 4)
        gp.verify(original.graph, original.groups, done.fitted.plan, done.fitted.model)
        assert done.fitted.after["macs"] <= 0.3 * original.groups.costs.full["macs"]


def test_shared_vectors_that_are_copied_on_the_way_tell_nothing() -> None:
    """Two layers share a bias of zeros; cut differently, each gets its own, under another name."""
    net = Net()
    x = net.input(1, 6, name="x")
    bias = net.stored(np.zeros(16, np.float32), "zeros")
    for width in (6, 16):
        x = net.op("Relu", net.op("Gemm", x, net.weight(16, width), bias, transB=1))
    model = net.model(net.gemm(x, 16, 3, "out"))
    original, done = steps_of(model, settings_of(0.3, method="random"), 3)
    gp.verify(original.graph, original.groups, done.fitted.plan, done.fitted.model)
    assert len({len(units) for units in done.fitted.plan.keep.values()}) > 1


def part_of_a_unit(graph: Graph, groups: Groups, name: str, kept: Sequence[int]) -> Plan:
    keep = {g.id: tuple(range(g.size)) for g in groups.groups} | {name: tuple(kept)}
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def test_what_no_plan_for_the_original_does_is_protected_and_not_noted() -> None:
    """The original couples two layers; a step that cuts one of them alone is sent back with the names to protect."""
    tied, loose = Net(), Net()
    for net in (tied, loose):
        x = net.input(1, 6, name="x")
        a, b = net.gemm(x, 6, 8, "a"), net.gemm(x, 6, 8, "b")
        joined = [net.op("Add", a, b)] * 2 if net is tied else [a, b]
        net.nodes[-1].name = "join"
        outputs = [net.gemm(y, 8, 3, f"out{k}") for k, y in enumerate(joined)]
        if net is tied:
            original = net.model(*outputs)
        else:
            later = net.model(*outputs)
    graph, groups = trace(original), couple(trace(original))
    lineage = Lineage(graph, groups)
    now = trace(later)
    cut = part_of_a_unit(now, couple(now), "a", (0, 1, 2))
    strange = lineage.follow(now, couple(now), cut)
    assert set(strange) >= {"a.weight", "a.bias"}
    assert lineage.widths() == {g.id: g.size for g in groups.groups}
    protected = couple(now, keep=strange)
    assert "a" not in protected
    assert lineage.follow(now, protected, part_of_a_unit(now, protected, "none", ())) == ()


def test_names_with_wildcards_are_protected_literally() -> None:
    from fnmatch import fnmatchcase

    from graphprune.pipeline.lineage import _escaped

    for name in ("a*b", "w[0]", "what?", "plain.weight"):
        assert fnmatchcase(name, _escaped(name))
        assert not fnmatchcase("xyz", _escaped(name))


# Modules --------------------------------------------------------------------------------------------------------------


def test_a_module_in_steps_with_training_between_and_without() -> None:
    import torch
    from torch import nn

    from graphprune.frontends.fx.trace import trace as trace_module
    from graphprune.pipeline import run_torch as torch_pipeline
    from graphprune.pipeline.stepwise_torch import torch_world

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 3)).eval()
    x = torch.randn(4, 6)
    graph = trace_module(module, x)
    settings = settings_of(0.3)
    trained: list[list[int]] = []

    def train(small: nn.Module, _step: int) -> nn.Module:
        trained.append([p.shape[0] for p in small.parameters() if p.ndim > 1])
        with torch.no_grad():
            for p in small.parameters():
                p.mul_(1.5)
        return small

    for between in (None, train):
        apply = torch_pipeline._Applying(0)
        original = torch_pipeline._opened(graph, settings, quiet)
        world = torch_world(apply, lambda made=apply: made.reference)
        done = fit_in_steps(original, settings, 3, quiet, world=world, train=between)
        small = done.fitted.model.module
        assert done.fitted.after["macs"] <= 0.3 * original.groups.costs.full["macs"]
        assert [p.shape[0] for p in small.parameters() if p.ndim > 1][:2] == list(done.fitted.plan.widths.values())
        plan_alone = torch_pipeline.rewritten(graph, done.fitted.plan, original.groups).module
        same = torch.allclose(small(x), plan_alone(x), atol=1e-6)
        assert same == (between is None)
    assert len(trained) == 2
    assert trained[0] > trained[1]
