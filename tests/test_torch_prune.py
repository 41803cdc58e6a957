"""prune on torch modules: within budget, verified, reported; and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch_models import made
from torch_pruning import far, opened, random_plan, run, with_zeros

import graphprune as gp
from graphprune.coupling import couple
from graphprune.errors import BudgetError, PlanError, UsageError, VerificationError
from graphprune.frontends.fx.trace import trace
from graphprune.plan import Plan
from graphprune.report.report import Report
from graphprune.verification.verify_torch import reference_of, verify_module


def flops(module: nn.Module, args: tuple[Any, ...]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*args)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["resnet_bottleneck", "mobilenet_v2", "densenet", "unet"])
def test_half_of_the_macs_by_torchs_own_count(name: str) -> None:
    module, args = made(name)
    before = flops(module, args)
    small, report = gp.prune(module, example_inputs=args, budget=0.5)
    assert type(small) is type(module)
    assert flops(small, args) <= 0.5 * before * 1.001
    assert flops(module, args) == before
    assert report.form == "module class"
    assert (report.input.path, report.output.path) == (None, None)
    assert report.output.macs <= 0.5 * report.input.macs
    assert report.output.params < report.input.params
    assert report.verify is not None
    assert report.verify.relative < 1e-5


@pytest.mark.parametrize("method", ["magnitude", "l1", "lamp", "fpgm", "bn", "random"])
def test_every_method_without_data(method: str) -> None:
    module, args = made("resnet_bottleneck")
    small, report = gp.prune(module, example_inputs=args, budget="params=0.6", method=method, seed=3)
    assert report.output.params <= 0.6 * report.input.params
    again, _ = gp.prune(module, example_inputs=args, budget="params=0.6", method=method, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), again.parameters(), strict=True))


def test_kept_indices_are_those_of_the_parameters() -> None:
    module, args = made("densenet")
    small, report = gp.prune(module, example_inputs=args, budget=0.6)
    mine, original = dict(small.named_parameters()), dict(module.named_parameters())
    assert report.kept
    for name, axes in report.kept.items():
        cut = original.get(name)
        if cut is not None:
            for axis, kept in axes.items():
                cut = cut.index_select(int(axis), torch.tensor(kept))
            assert torch.equal(mine[name], cut)


def test_the_report_survives_json() -> None:
    module, args = made("mlp")
    _, report = gp.prune(module, example_inputs=args, budget=0.5)
    assert Report.from_json(report.to_json()) == report


def test_a_plan_takes_the_place_of_solving() -> None:
    module, args, graph, groups = opened("resnet_basic")
    plan = random_plan(groups, 4)
    small, report = gp.prune(module, example_inputs=args, plan=plan)
    assert far(run(small, args), run(with_zeros(module, graph, groups, plan), args)) < 1e-5
    assert {g.id: g.kept for g in report.groups} == dict(plan.keep)
    other, other_args = made("unet")
    with pytest.raises(PlanError, match="another model"):
        gp.prune(other, example_inputs=other_args, plan=plan)


def test_keep_and_inexact_groups() -> None:
    module, args = made("mixer")
    with pytest.raises(BudgetError, match="no groups"):
        gp.prune(module, example_inputs=args, budget=0.9, keep=["*.weight", "*.bias"])
    _, report = gp.prune(module, example_inputs=args, budget=0.5, allow_inexact=True)
    assert any(not g.exact and len(g.kept) < g.size for g in report.groups)
    assert report.verify is not None
    assert report.verify.relative < 1e-4
    assert any("normalisations" in w for w in report.warnings)
    assert report.output.macs <= 0.5 * report.input.macs


def test_graphs_and_exported_programs_come_in_too() -> None:
    module, args = made("resnet_basic")
    program = torch.export.export(module, args)
    small, report = gp.prune(program, budget=0.5)
    assert isinstance(small, torch.fx.GraphModule)
    assert report.form == "graph module"
    assert "as a graph" in report.warnings[-1]
    assert flops(small, args) <= 0.5 * flops(module, args) * 1.001
    traced, second = gp.prune(torch.fx.symbolic_trace(module), example_inputs=args, budget=0.5)
    assert isinstance(traced, torch.fx.GraphModule)
    assert second.output.macs <= 0.5 * second.input.macs
    smaller, third = gp.prune(small, example_inputs=args, budget=0.5)
    assert isinstance(smaller, torch.fx.GraphModule)
    assert third.output.macs <= 0.5 * report.output.macs


def test_pruning_again_what_was_pruned() -> None:
    module, args = made("vit")
    once, first = gp.prune(module, example_inputs=args, budget=0.7)
    twice, second = gp.prune(once, example_inputs=args, budget=0.7)
    assert type(twice) is type(module)
    assert second.input.macs == first.output.macs
    assert second.output.macs <= 0.7 * first.output.macs


def test_the_mode_of_the_module_stays() -> None:
    module, args = made("mobilenet_v2")
    module.train()
    small, _ = gp.prune(module, example_inputs=args, budget=0.5)
    assert module.training and small.training
    assert all(m.training for m in small.modules())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "budget-missing"),
        ({"budget": 0.5, "min_width": 0}, "min-width"),
        ({"budget": 0.5, "steps": 0}, "bad-steps"),
        ({"budget": 0.5, "input_shapes": {"x": (1, 2)}}, "input-shapes"),
        ({"budget": 0.5, "keep": ["nothing.like.this"]}, "keep-matches-nothing"),
        ({"budget": 0.5, "example_inputs": None}, "example-inputs"),
        ({"budget": 0.5, "method": "magnitud"}, "unknown-method"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], code: str) -> None:
    module, args = made("mlp")
    with pytest.raises(UsageError) as caught:
        gp.prune(module, **{"example_inputs": args, **options})
    assert caught.value.code == code


def test_an_unreachable_budget_says_what_is_reachable() -> None:
    module, args = made("mlp")
    with pytest.raises(BudgetError):
        gp.prune(module, example_inputs=args, budget=1e-4)


class NotANumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x)) / 0.0 * 0.0


def test_what_gives_no_number_cannot_be_verified() -> None:
    with pytest.raises(VerificationError, match="no finite number"):
        gp.prune(NotANumber(), example_inputs=torch.randn(2, 4), budget=0.5)


@pytest.mark.parametrize("damage", ["order", "value", "shape"])
def test_verification_notices(damage: str) -> None:
    module, args, graph, groups = opened("resnet_basic")
    plan = random_plan(groups)
    small, _ = gp.prune(module, example_inputs=args, plan=plan)
    verify_module(graph, groups, plan, small)
    weight = next(p for n, p in small.named_parameters() if n.endswith("conv1.weight"))
    with torch.no_grad():
        if damage == "order":
            weight.copy_(weight.roll(1, 0))
        elif damage == "value":
            weight[0, 0] += 0.2
        else:
            weight.set_(weight[:-1].clone())
    with pytest.raises(VerificationError, match="not the masked original"):
        verify_module(graph, groups, plan, small)


def test_verification_hears_quiet_parts() -> None:
    """A layer scale of a millionth, and a head of zeros, hide nothing."""

    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 12), nn.Linear(12, 6), nn.Linear(6, 3)
            self.gamma = nn.Parameter(torch.full((6,), 1e-6))
            nn.init.zeros_(self.head.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x + self.gamma * self.b(torch.relu(self.a(x))))

    torch.manual_seed(0)
    module, x = Quiet().eval(), torch.randn(4, 6)
    graph = trace(module, x)
    groups = couple(graph)
    plan = random_plan(groups)
    small, _ = gp.prune(module, example_inputs=x, plan=plan)
    with torch.no_grad():
        small.b.weight.copy_(small.b.weight.roll(1, 1))
    with pytest.raises(VerificationError):
        verify_module(graph, groups, plan, small, reference=reference_of(graph, groups, plan))


def test_a_module_that_does_not_run() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    with pytest.raises(UsageError, match="the forward fails"):
        gp.prune(Broken(), example_inputs=torch.randn(1), budget=0.5)


def test_example_inputs_are_not_for_files() -> None:
    with pytest.raises(UsageError, match="torch modules"):
        gp.prune("model.onnx", example_inputs=torch.randn(1), budget=0.5)


def test_files_are_pruned_without_torch() -> None:
    code = (
        "import sys, graphprune.pipeline.run, graphprune.worlds as t; t.is_torch(1); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_plan_of_a_run_makes_the_same_module() -> None:
    from graphprune.budget import Budget
    from graphprune.pipeline.run_torch import run_module
    from graphprune.pipeline.settings import Settings

    module, args = made("resnet_basic")
    done = run_module(module, args, Settings(Budget.parse(0.5)), lambda _stage: None)
    again, _ = gp.prune(module, example_inputs=args, plan=Plan.from_json(done.plan.to_json()))
    assert far(run(again, args), run(done.module, args)) == 0


def test_rewrite_and_verify_go_by_what_was_traced() -> None:
    from graphprune.worlds import rewrite, verify

    module, args, graph, groups = opened("resnet_basic")
    plan = random_plan(groups, 1)
    small = rewrite(graph, plan, groups)
    assert type(small) is type(module)
    assert verify(graph, groups, plan, small).max_rel < 1e-5
    assert far(run(small, args), run(with_zeros(module, graph, groups, plan), args)) < 1e-5
