"""Plans against brute force over all widths, against the bound, and against what the budget says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest
from instances import FAMILIES, Family, best_units, brute_force, groups_of, loss_of, random_groups, random_scores

from graphprune.budget import Budget
from graphprune.choices import auto_multiple
from graphprune.errors import BudgetError, UsageError
from graphprune.groups import Group, Groups, Kind
from graphprune.plan import Plan
from graphprune.scores import Objective, Scores
from graphprune.solve import solve

BUDGETS = ["0.5", "0.25", "macs=0.6,params=0.5", "macs=0.7,params=0.7,memory=0.6", "memory=0.5", "size=0.5"]
OBJECTIVES: tuple[Objective, ...] = ("retained", "sum")


def within(groups: Groups, plan: Plan, budget: str) -> float:
    """Check a plan against its groups and budget; return the part of the binding limit it uses."""
    widths = np.array([len(plan.keep[g.id]) for g in groups.groups])
    parts = []
    for metric, limit in Budget.parse(budget).limits(groups.costs.full).items():
        assert plan.costs[metric] == groups.costs.evaluate(metric, widths)
        assert plan.costs[metric] <= limit
        parts.append(plan.costs[metric] / limit)
    return max(parts)


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


@pytest.mark.parametrize(
    ("kind", "size", "multiple"),
    [
        ("channel", 512, 16), ("channel", 64, 16), ("channel", 63, 8), ("neuron", 32, 8), ("hidden", 31, 4),
        ("neuron", 16, 4), ("channel", 15, 1), ("head", 64, 1), ("head-dim", 64, 8), ("head-dim", 32, 8),
        ("head-dim", 24, 4), ("head-dim", 16, 4), ("head-dim", 14, 2), ("head-dim", 15, 1),
    ],
)  # fmt: skip
def test_automatic_alignment(kind: Kind, size: int, multiple: int) -> None:
    assert auto_multiple(Group("g", kind, size, ())) == multiple


def test_widths_are_aligned_but_for_a_few() -> None:
    groups = random_groups(4, 40, [32, 64, 128, 256], "residual")
    plan = solve(groups, random_scores(groups, 4, "retained"), Budget(macs=0.5))
    assert within(groups, plan, "0.5") >= 0.98
    off = [g.id for g in groups.groups if plan.widths[g.id] % auto_multiple(g) and plan.widths[g.id] != g.size]
    assert len(off) <= 2


@pytest.mark.parametrize("multiple", [1, 4, 7, 16])
@pytest.mark.parametrize("min_width", [1, 5, 40])
def test_an_explicit_multiple_and_a_minimum_always_hold(multiple: int, min_width: int) -> None:
    groups = random_groups(6, 15, [12, 40, 64, 100], "concat")
    plan = solve(groups, random_scores(groups, 6, "sum"), Budget(macs=0.8), multiple=multiple, min_width=min_width)
    within(groups, plan, "0.8")
    for group in groups.groups:
        width = plan.widths[group.id]
        assert width == group.size or (width % multiple == 0 and width >= min_width)


def test_automatic_alignment_gives_way_to_reach_a_budget() -> None:
    groups = groups_of([64, 64], {(0, 1): 1}, {(0, 1): 1})
    scores = random_scores(groups, 0, "retained")
    plan = solve(groups, scores, Budget(macs=0.01))
    assert within(groups, plan, "0.01") >= 0.97
    assert plan.widths["g0"] * plan.widths["g1"] <= 40
    with pytest.raises(BudgetError):
        solve(groups, scores, Budget(macs=0.01), multiple=16)


def test_automatic_alignment_gives_way_to_use_a_budget() -> None:
    groups = groups_of([64, 16], {(0,): 1, (1,): 1}, {(0,): 1, (1,): 1})
    plan = solve(groups, random_scores(groups, 0, "retained"), Budget(macs=59 / 80))
    assert sum(plan.widths.values()) >= math.ceil(0.98 * 59)
    assert sum(width % 4 != 0 for width in plan.widths.values()) == 1


def test_free_units_are_kept_while_the_budget_has_room() -> None:
    groups = groups_of([50, 50], {(0,): 1, (1,): 1}, {(0,): 1, (1,): 1})
    scores = Scores({"g0": np.zeros(50), "g1": np.ones(50)}, "drawn", "sum")
    plan = solve(groups, scores, Budget(macs=0.8), multiple=1)
    assert plan.widths["g1"] == 50
    assert plan.objective == 0.0
    assert within(groups, plan, "0.8") >= 0.98


@pytest.mark.parametrize(("objective", "worth", "width"), [("retained", 0.0, 0), ("retained", 0.1, 1), ("sum", 0.1, 0)])
def test_a_group_may_vanish(objective: Objective, worth: float, width: int) -> None:
    """Unless its last unit is all that "retained" says it has: losing that is a loss without bound."""
    groups = groups_of([8, 8], {(0,): 1, (1,): 1}, {(0,): 1, (1,): 1}, vanishing=[0])
    scores = Scores({"g0": np.r_[worth, np.zeros(7)], "g1": np.full(8, 1e3)}, "drawn", objective)
    plan = solve(groups, scores, Budget(macs=(8 + width) / 16), min_width=0)
    assert plan.widths == {"g0": width, "g1": 8}
    assert solve(groups, scores, Budget(macs=9 / 16), min_width=1).widths["g0"] == 1


def test_groups_that_may_not_vanish_keep_a_unit() -> None:
    groups = groups_of([8, 8], {(0,): 1, (1,): 1}, {(0,): 1, (1,): 1})
    scores = Scores({"g0": np.zeros(8), "g1": np.ones(8)}, "drawn", "sum")
    assert solve(groups, scores, Budget(macs=0.5), min_width=0).widths == {"g0": 1, "g1": 7}


def test_an_unreachable_budget_says_what_is_reachable() -> None:
    groups = groups_of([10, 10], {(0, 1): 10**6, (): 10**7}, {(0,): 100, (1,): 100})
    scores = random_scores(groups, 0, "retained")
    with pytest.raises(BudgetError) as caught:
        solve(groups, scores, Budget.parse("macs=0.05,params=0.5,size=1KB"), min_width=2, multiple=2)
    error = caught.value
    assert (error.code, error.where, error.exit_status) == ("budget-unreachable", "--budget", 1)
    assert (
        "macs at most 5.5M (0.05 of the original): out of reach, the smallest reachable is 14M (0.127" in error.message
    )
    assert "params at most 1K (0.5 of the original): within" in error.message
    assert (
        "size at most 1KB (0.111 of the original): out of reach, the smallest reachable is 2.6KB (0.289"
        in error.message
    )
    assert error.hint is not None
    for way in ("macs=0.128,size=0.289", "--min-width", "--multiple", "--allow-inexact"):
        assert way in error.hint
    plan = solve(groups, scores, Budget.parse("macs=0.128,params=0.5,size=0.289"), min_width=2, multiple=2)
    assert plan.widths == {"g0": 2, "g1": 2}


def test_the_hint_names_only_what_helps() -> None:
    groups = groups_of([10], {(0,): 1}, {(0,): 1})
    with pytest.raises(BudgetError) as caught:
        solve(groups, random_scores(groups, 0, "sum"), Budget(macs=0.05))
    hint = str(caught.value.hint)
    assert "macs=0.1" in hint
    assert "--min-width" not in hint
    assert "--multiple" not in hint


def test_a_model_without_groups() -> None:
    groups = groups_of([], {(): 100}, {(): 10})
    nothing = Scores({}, "drawn")
    plan = solve(groups, nothing, Budget(macs=1.0))
    assert (plan.keep, plan.objective, plan.bound, plan.gap) == ({}, 0.0, 0.0, 0.0)
    assert plan.costs["macs"] == 100
    with pytest.raises(BudgetError, match="nothing can be pruned") as caught:
        solve(groups, nothing, Budget(macs=0.5))
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"g0": np.ones(4)}, "scores-missing"),
        ({"g0": np.ones(4), "g1": np.ones(3)}, "scores-shape"),
        ({"g0": np.ones(4), "g1": np.ones((4, 1))}, "scores-shape"),
        ({"g0": np.ones(4), "g1": np.array(["a"] * 4)}, "scores-shape"),
        ({"g0": np.ones(4), "g1": np.array([1.0, np.nan, 1.0, 1.0])}, "scores-not-finite"),
        ({"g0": np.ones(4), "g1": np.array([1.0, np.inf, 1.0, 1.0])}, "scores-not-finite"),
    ],
)
def test_scores_that_do_not_fit(values: Mapping[str, np.ndarray], code: str) -> None:
    groups = groups_of([4, 4], {(0, 1): 1}, {(0, 1): 1})
    with pytest.raises(UsageError) as caught:
        solve(groups, Scores(values, "lamp"), Budget(macs=0.5))
    assert (caught.value.code, caught.value.where) == (code, "g1")
    assert "lamp" in str(caught.value)


@pytest.mark.parametrize(("min_width", "multiple"), [(-1, 1), (1, 0), (1, -4), (1, "fast"), (1.5, 1), (1, True)])
def test_options_out_of_range(min_width: int, multiple: int | Literal["auto"]) -> None:
    groups = groups_of([4], {(0,): 1}, {(0,): 1})
    with pytest.raises(UsageError) as caught:
        solve(groups, random_scores(groups, 0, "sum"), Budget(macs=0.5), min_width=min_width, multiple=multiple)
    assert caught.value.where in ("--min-width", "--multiple")
    assert caught.value.hint


def test_a_group_that_costs_nothing_stays_whole() -> None:
    groups = groups_of([8, 8], {(0,): 1}, {(0,): 1})
    plan = solve(groups, random_scores(groups, 0, "retained"), Budget(macs=0.5))
    assert plan.widths == {"g0": 4, "g1": 8}


def test_costs_beyond_exact_floats_stay_within_the_budget() -> None:
    groups = groups_of([64] * 4, {(0, 1): 10**15 + 1, (1, 2): 10**16 + 7, (2, 3): 10**14 + 3}, {(0,): 1})
    for part in (0.3, 0.5, 0.7):
        plan = solve(groups, random_scores(groups, 0, "sum"), Budget(macs=part), multiple=1)
        exact = sum(
            int(c) * math.prod(len(plan.keep[f"g{g}"]) for g in pair)
            for pair, c in (((0, 1), 10**15 + 1), ((1, 2), 10**16 + 7), ((2, 3), 10**14 + 3))
        )
        assert exact <= part * groups.costs.full["macs"]
