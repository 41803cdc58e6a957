"""Plans against brute force over all widths, against the bound, and against what the budget says."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
from instances import (
    FAMILIES,
    Family,
    best_units,
    brute_force,
    groups_of,
    loss_of,
    random_groups,
    random_scores,
    within,
)

from graphprune.budget import Budget
from graphprune.errors import BudgetError
from graphprune.groups import Groups
from graphprune.plan import Plan
from graphprune.scores import Objective, Scores
from graphprune.solver import proof, relaxation
from graphprune.solver.solve import solve

BUDGETS = ["0.5", "0.25", "macs=0.6,params=0.5", "macs=0.7,params=0.7,memory=0.6", "memory=0.5", "size=0.5"]
OBJECTIVES: tuple[Objective, ...] = ("retained", "sum")


def every_width(groups: Groups, least: int = 1) -> dict[str, range]:
    return {g.id: range(0 if g.can_vanish and least == 0 else max(least, 1), g.size + 1) for g in groups.groups}


def ratios(
    family: Family, budget: str, spread: float, zeros: float = 0.0, vanishing: tuple[int, ...] = ()
) -> list[float]:
    """Solve small tasks of a family; return objective over optimum, both checked against the bound."""
    found = []
    for seed in range(3):
        for objective in OBJECTIVES:
            groups = random_groups(seed, 5, [3, 6, 8], family, vanishing)
            scores = random_scores(groups, seed + 100, objective, spread, zeros)
            least = 0 if vanishing else 1
            optimum = brute_force(groups, scores, Budget.parse(budget), every_width(groups, least))
            if math.isinf(optimum):
                with pytest.raises(BudgetError):
                    solve(groups, scores, Budget.parse(budget), min_width=least)
                continue
            plan = solve(groups, scores, Budget.parse(budget), multiple=1, min_width=least)
            within(groups, plan, budget)
            assert plan.bound is not None
            assert plan.objective is not None
            assert plan.bound <= optimum + 1e-9
            assert optimum <= plan.objective + 1e-9
            found.append((plan.objective + 1e-9) / (optimum + 1e-9))
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_small_tasks_against_brute_force(family: Family, budget: str) -> None:
    found = ratios(family, budget, spread=1.0)
    assert max(found, default=1.0) <= 1.06
    assert np.mean(found or [1.0]) <= 1.02


@pytest.mark.parametrize("spread", [0.0, 0.05, 2.5])
def test_scores_alike_and_scores_far_apart_against_brute_force(spread: float) -> None:
    assert max(ratios("residual", "macs=0.5,params=0.6", spread)) <= 1.06


@pytest.mark.parametrize("zeros", [0.3, 0.8])
def test_zero_scores_and_vanishing_groups_against_brute_force(zeros: float) -> None:
    for family in FAMILIES:
        assert max(ratios(family, "0.3", 1.0, zeros, (1, 2, 4)), default=1.0) <= 1.06


def test_tasks_too_large_to_enumerate_against_brute_force() -> None:
    """Six groups of up to eight widths are searched, not enumerated."""
    found = []
    for seed in range(4):
        for family in ("chain", "residual", "concat"):
            for objective in OBJECTIVES:
                groups = random_groups(seed, 6, [6, 7, 8], family)
                scores = random_scores(groups, seed, objective)
                budget = Budget.parse("macs=0.5,params=0.6")
                optimum = brute_force(groups, scores, budget, every_width(groups))
                plan = solve(groups, scores, budget, multiple=1)
                assert plan.bound is not None
                assert plan.objective is not None
                assert plan.bound <= optimum + 1e-9 <= plan.objective + 2e-9
                found.append(plan.objective / optimum)
    assert max(found) <= 1.06
    assert np.mean(found) <= 1.01


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("budget", ["0.5", "macs=0.5,params=0.6", "macs=0.4,memory=0.7"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gap_is_small_on_real_sizes(family: Family, budget: str, objective: Objective) -> None:
    groups = random_groups(3, 24, [32, 64, 96], family)
    plan = solve(groups, random_scores(groups, 3, objective), Budget.parse(budget), multiple=1)
    assert within(groups, plan, budget) >= 0.98
    assert plan.gap is not None
    assert plan.bound is not None
    assert plan.objective is not None
    three = family == "attention" and objective == "sum"  # products of three widths only have their tangents
    assert 0 <= plan.gap <= (0.5 if three else 0.05)
    assert plan.gap == pytest.approx((plan.objective - plan.bound) / plan.objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_three_hundred_groups_within_two_budgets(objective: Objective) -> None:
    groups = random_groups(0, 300, [64, 128, 512], "residual")
    budget = "macs=0.5,params=0.6"
    plan = solve(groups, random_scores(groups, 0, objective), Budget.parse(budget))
    assert within(groups, plan, budget) >= 0.98
    assert plan.gap is not None
    assert plan.gap <= 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_keeps_the_best_units_and_counts_their_loss(objective: Objective) -> None:
    groups = random_groups(5, 8, [16, 24])
    scores = random_scores(groups, 5, objective, zeros=0.2)
    scores = Scores({k: np.round(v) for k, v in scores.items()}, "drawn", objective)
    plan = solve(groups, scores, Budget(macs=0.4), seed=7)
    assert plan.objective == pytest.approx(sum(loss_of(scores[k], units, objective) for k, units in plan.keep.items()))
    for name, units in plan.keep.items():
        assert list(units) == sorted(best_units(scores[name], len(units)))
    assert plan.sizes == {g.id: g.size for g in groups.groups}
    assert (plan.fingerprint, plan.method, plan.seed, plan.budget) == (groups.fingerprint, "drawn", 7, {"macs": 0.4})
    assert Plan.from_json(plan.to_json()) == plan


def test_ties_go_to_the_lower_ordinal() -> None:
    groups = groups_of([6], {(0,): 1}, {(0,): 1})
    scores = Scores({"g0": np.array([1.0, 2.0, 1.0, 2.0, 1.0, 1.0])}, "drawn")
    assert solve(groups, scores, Budget(macs=0.5)).keep == {"g0": (0, 1, 3)}


def test_same_in_same_out() -> None:
    groups = random_groups(1, 30, [24, 64], "concat")
    scores = random_scores(groups, 1, "retained")
    plans = {solve(groups, scores, Budget.parse("macs=0.5,memory=0.8")).to_json() for _ in range(3)}
    assert len(plans) == 1
    other = solve(groups, scores, Budget.parse("macs=0.5,memory=0.8"), seed=5)
    assert other.keep == solve(groups, scores, Budget.parse("macs=0.5,memory=0.8")).keep


def test_the_unit_of_the_scores_does_not_matter() -> None:
    groups = random_groups(2, 12, [16, 32], "residual")
    scores = random_scores(groups, 2, "sum")
    small = Scores({k: v * 2.0**-60 for k, v in scores.items()}, "drawn", "sum")
    one, other = (solve(groups, s, Budget(macs=0.5, params=0.5)) for s in (scores, small))
    assert one.keep == other.keep
    assert one.bound == pytest.approx(np.array(other.bound) * 2.0**60)


def test_without_a_bound() -> None:
    groups = random_groups(0, 6, [8])
    scores = random_scores(groups, 0, "sum")
    plan = solve(groups, scores, Budget(macs=0.5), bound=False)
    assert (plan.bound, plan.gap) == (None, None)
    assert plan.keep == solve(groups, scores, Budget(macs=0.5)).keep


def test_a_solver_that_fails_weakens_the_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = random_groups(0, 8, [16])
    scores = random_scores(groups, 0, "sum")
    monkeypatch.setattr(relaxation, "GOOD_ENOUGH", 0.0)
    monkeypatch.setattr(proof, "GAP", 0.0)
    monkeypatch.setattr(proof, "MOST", 0)  # as for groups that are woven together too much to be eliminated
    plan = solve(groups, scores, Budget(macs=0.5))

    def fail(*_: object, **__: object) -> None:
        raise cp.SolverError("out of luck")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    without = solve(groups, scores, Budget(macs=0.5))
    assert without.keep == plan.keep
    assert without.bound is not None
    assert plan.bound is not None
    assert 0.0 <= without.bound < plan.bound


def test_a_budget_that_holds_removes_nothing() -> None:
    groups = random_groups(0, 6, [8, 32])
    scores = random_scores(groups, 0, "retained", zeros=0.5)
    for budget in (Budget(macs=1.0), Budget(size="1GB"), Budget(macs=1, params=1, size=1, memory=1)):
        plan = solve(groups, scores, budget)
        assert plan.widths == {g.id: g.size for g in groups.groups}
        assert (plan.objective, plan.bound, plan.gap) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_units_without_worth_go_first(objective: Objective) -> None:
    groups = groups_of([16, 16], {(0,): 1, (1,): 1}, {(0,): 1, (1,): 1})
    dead = np.r_[np.zeros(8), np.ones(8)]
    plan = solve(
        groups, Scores({"g0": dead, "g1": dead[::-1].copy()}, "drawn", objective), Budget(macs=0.5), multiple=1
    )
    assert plan.keep == {"g0": tuple(range(8, 16)), "g1": tuple(range(8))}
    assert plan.objective == plan.bound == 0.0
