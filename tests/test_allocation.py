"""Allocations over kept parts: gradients, optima found by other means, rounding that holds every limit."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from graphprune.passes.itpruner import Allocation, scores_of
from instances import FAMILIES, Family, random_groups, within

import graphprune as gp
from graphprune.budget import Budget
from graphprune.errors import BudgetError
from graphprune.groups import Groups
from graphprune.solver import allocation as module
from graphprune.solver import continuous, geometric
from graphprune.solver.choices import Choices, losses, permitted
from graphprune.solver.continuous import Task
from graphprune.solver.limits import Limits

RELAXED = ("continuous", "geometric")
BUDGETS = ("macs=0.5", "macs=0.3,params=0.4", "macs=0.6,memory=0.7", "params=0.2")


def task_of(groups: Groups, budget: str, seed: int = 0, low: float = 0.1) -> Task:
    limits = Limits.of(groups.costs, Budget.parse(budget).limits(groups.costs.full))
    weight = np.random.default_rng(seed).lognormal(size=len(groups))
    return Task(limits, weight, groups.sizes.astype(np.float64), np.full(len(groups), low))


def importance_of(groups: Groups, seed: int) -> dict[str, float]:
    return dict(zip(groups, np.random.default_rng(seed).lognormal(size=len(groups)).tolist(), strict=True))


def value(groups: Groups, importance: dict[str, float], plan: gp.Plan, allocation: str) -> float:
    weight = np.array(list(importance.values()))
    part = np.array([len(plan.keep[name]) for name in groups]) / groups.sizes
    return float((weight * (np.log(part) if allocation in ("log", "geometric") else part)).sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_limits_are_those_of_small_differences(family: Family) -> None:
    task = task_of(random_groups(0, 6, [16, 32], family), "macs=0.5,memory=0.8")
    part = np.random.default_rng(1).uniform(0.3, 0.9, 6)
    step = 1e-6 * np.eye(6)
    differences = np.stack([(task.used(part + s) - task.used(part - s)) / 2e-6 for s in step], axis=1)
    np.testing.assert_allclose(task.used_gradient(part), differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_within_bounds_and_limits(family: Family, budget: str) -> None:
    task = task_of(random_groups(1, 12, [16, 64], family), budget, low=0.05)
    assert (task.used(task.low) <= 1).all()
    for part in (geometric.maximise(task), continuous.maximise(task)):
        assert part is not None
        assert (task.used(part) <= 1).all()
        assert (part >= task.low).all()
        assert (part <= 1).all()
        assert task.used(part).max() > 1 - 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_continuous_finds_the_best_of_a_grid(seed: int) -> None:
    """Three groups: every point of a fine grid that is within the limits, against the solution."""
    task = task_of(random_groups(seed, 3, [32, 64], "chain"), "macs=0.4,params=0.5", seed)
    axis = np.linspace(0.1, 1, 61)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    fits = (task.limits.smooth(grid * task.size) <= task.limits.most).all(axis=1)
    best = (grid[fits] @ task.weight).max()
    found = task.weight @ continuous.maximise(task)
    assert best - 1e-9 <= found <= best + 0.02 * task.weight.sum()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [4, 30])
def test_geometric_returns_the_parts_that_its_weights_are_made_for(family: Family, count: int) -> None:
    """With the log gradient of the cost as weights, any parts are optimal for what they cost (KKT, and convexity)."""
    groups = random_groups(count, count, [64, 128], family)
    wanted = np.random.default_rng(2).uniform(0.2, 0.9, count)
    limit = float(groups.costs.evaluate("macs", wanted * groups.sizes))
    limits = Limits.of(groups.costs, {"macs": limit})
    weight = groups.costs.macs.log_gradient(wanted * groups.sizes)[0]
    task = Task(limits, weight, groups.sizes.astype(np.float64), np.full(count, 0.01))
    found = geometric.maximise(task)
    assert found is not None
    np.testing.assert_allclose(found, wanted, rtol=2e-3)


def test_at_150_groups_both_end_where_no_group_gains() -> None:
    """First-order conditions at a price: free groups gain what they cost, others only at the bound they are at."""
    groups = random_groups(3, 150, [64, 128, 256], "residual")
    task = task_of(groups, "macs=0.5,params=0.6")
    for kind, part in (("geometric", geometric.maximise(task)), ("continuous", continuous.maximise(task))):
        assert part is not None
        slope = task.weight / part if kind == "geometric" else task.weight
        price = module._prices(task, part, slope) * task.limits.most
        gain = (slope - price @ task.used_gradient(part)) / slope.max()
        free = (part > task.low * 1.001) & (part < 0.999)
        assert np.abs(gain[free]).max() < 0.01
        assert (gain[part >= 0.999] > -0.01).all()
        assert (gain[part <= task.low * 1.001] < 0.01).all()
    start = task.lowered(np.ones(150))
    assert task.weight @ part > task.weight @ start


def test_successive_programmes_climb_the_linear_objective() -> None:
    task = task_of(random_groups(4, 40, [64, 128], "concat"), "macs=0.4")
    first = geometric.maximise(task)
    assert first is not None
    last = geometric.successive(task, first)
    best = task.weight @ continuous.maximise(task)
    assert task.weight @ last > task.weight @ first
    assert task.weight @ last == pytest.approx(best, rel=5e-3)
    assert (task.used(last) <= 1).all()


def test_more_than_many_groups_are_solved_by_successive_programmes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 10)
    monkeypatch.setattr(continuous, "maximise", None)  # not to be called
    groups = random_groups(5, 20, [64], "chain")
    plan = gp.solve(groups, scores_of(groups, importance_of(groups, 0), "continuous"), Budget(macs=0.5), multiple=1)
    assert within(groups, plan, "macs=0.5") > 0.98


@pytest.mark.parametrize("multiple", [1, 8, "auto"])
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("allocation", RELAXED)
def test_plans_hold_every_limit_and_every_rule(allocation: Allocation, budget: str, multiple: int | str) -> None:
    for seed, family in enumerate(("residual", "attention")):
        groups = random_groups(seed, 9, [24, 64, 96], family)
        scores = scores_of(groups, importance_of(groups, seed), allocation)
        plan = gp.solve(groups, scores, Budget.parse(budget), multiple=multiple, min_width=3)  # type: ignore[arg-type]
        assert within(groups, plan, budget) > (0.8 if multiple == 8 else 0.98)
        for units in plan.keep.values():
            assert len(units) >= 3
            assert multiple != 8 or len(units) % 8 == 0
            assert units == tuple(range(len(units)))  # scores rank units as they come
        assert plan.objective is not None
        assert plan.bound is not None
        assert plan.bound <= plan.objective + 1e-9


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("allocation", get_args(Allocation))
def test_rounded_widths_come_close_to_the_best_of_all(allocation: Allocation, seed: int) -> None:
    groups = random_groups(seed, 4, [12, 16], "residual")
    importance = importance_of(groups, seed)
    plan = gp.solve(groups, scores_of(groups, importance, allocation), Budget(macs=0.5), multiple=1)
    lowest = 8 if allocation in ("linear", "continuous") else 1
    axes = [np.arange(min(lowest, n), n + 1) for n in groups.sizes]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    part = grid[groups.costs.evaluate("macs", grid) <= 0.5 * groups.costs.full["macs"]] / groups.sizes
    weight = np.array(list(importance.values()))
    best = float(((np.log(part) if allocation in ("log", "geometric") else part) @ weight).max())
    found = value(groups, importance, plan, allocation)
    assert best - 0.02 * abs(best) <= found <= best + 1e-9


@pytest.mark.parametrize("allocation", ["linear", "continuous"])
def test_floors_hold_as_long_as_the_budget_can_be_reached_with_them(allocation: Allocation) -> None:
    groups = random_groups(6, 8, [64, 128], "chain")
    scores = scores_of(groups, importance_of(groups, 6), allocation, least=0.25)
    plan = gp.solve(groups, scores, Budget(macs=0.4), multiple=1)
    assert all(len(units) >= 0.25 * plan.sizes[name] for name, units in plan.keep.items())
    tight = gp.solve(groups, scores, Budget(macs=0.01), multiple=1)
    assert any(len(units) < 0.25 * tight.sizes[name] for name, units in tight.keep.items())
    assert within(groups, tight, "macs=0.01") > 0.9


@pytest.mark.parametrize("allocation", RELAXED)
def test_a_budget_out_of_reach_is_told_as_ever(allocation: Allocation) -> None:
    groups = random_groups(7, 5, [16], "chain")
    with pytest.raises(BudgetError, match="out of reach"):
        gp.solve(groups, scores_of(groups, importance_of(groups, 7), allocation), Budget(macs=1e-6))


@pytest.mark.parametrize("allocation", RELAXED)
def test_branches_may_vanish(allocation: Allocation) -> None:
    groups = random_groups(8, 6, [8], "residual", vanishing=(2,))
    least = float(groups.costs.evaluate("macs", np.ones(6)))
    below = Budget(macs=(least - 1) / groups.costs.full["macs"])
    plan = gp.solve(groups, scores_of(groups, importance_of(groups, 8), allocation), below, multiple=1, min_width=0)
    assert plan.keep["g2"] == ()
    assert plan.costs["macs"] < least


@pytest.mark.parametrize("allocation", RELAXED)
def test_where_the_programme_is_not_solved_widths_are_found_all_the_same(
    allocation: Allocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geometric, "maximise", lambda _task: None)
    groups = random_groups(9, 20, [64], "chain")
    plan = gp.solve(groups, scores_of(groups, importance_of(groups, 9), allocation), Budget(macs=0.5), multiple=1)
    assert within(groups, plan, "macs=0.5") > 0.98


def test_a_solver_that_fails_gives_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    import cvxpy as cp

    def fails(*_args: object, **_options: object) -> None:
        raise cp.SolverError("no")

    monkeypatch.setattr(cp.Problem, "solve", fails)
    assert geometric.maximise(task_of(random_groups(0, 4, [16], "chain"), "macs=0.5")) is None


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("allocation", RELAXED)
def test_the_scale_of_the_importance_does_not_matter(allocation: Allocation, factor: float) -> None:
    groups = random_groups(10, 25, [64, 128], "residual")
    importance = importance_of(groups, 10)
    scaled = {name: w * factor for name, w in importance.items()}
    one, other = (
        gp.solve(groups, scores_of(groups, i, allocation), Budget(macs=0.5), multiple=1) for i in (importance, scaled)
    )
    assert value(groups, importance, one, allocation) == pytest.approx(
        value(groups, importance, other, allocation), rel=1e-3
    )


def test_rounding_lowers_what_is_over_and_raises_what_fits() -> None:
    groups = random_groups(11, 10, [64], "chain")
    limits = Limits.of(groups.costs, {"macs": 0.5 * groups.costs.full["macs"]})
    tables = [losses(np.ones(64), "sum")] * 10
    choices = Choices.of([permitted(g, 1, 4) for g in groups.groups], tables)
    price = np.array([1 / limits.most[0]])
    for start in (60.0, 3.0):
        widths = module.rounded(limits, choices, np.full(10, start), price)
        assert limits.holds(widths)
        assert limits.used(widths) > 0.9
        assert (widths % 4 == 0).all()


@pytest.mark.parametrize("name", ["log", "linear"])
def test_the_others_leave_widths_to_the_search(name: Allocation) -> None:
    groups = random_groups(12, 5, [16], "chain")
    scores = scores_of(groups, importance_of(groups, 12), name)
    assert scores.allocation is None
    plain = gp.solve(groups, replace(scores, allocation=None), Budget(macs=0.5))
    assert plain == gp.solve(groups, scores, Budget(macs=0.5))


def test_zero_importance_everywhere_is_solved() -> None:
    groups = random_groups(13, 6, [32], "chain")
    for allocation in RELAXED:
        scores = scores_of(groups, dict.fromkeys(groups, 0.0), allocation)  # type: ignore[arg-type]
        within(groups, gp.solve(groups, scores, Budget(macs=0.5), multiple=1), "macs=0.5")
