"""Which widths a plan may have, and what is said of budgets, scores and options that cannot be met."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest
from instances import groups_of, random_groups, random_scores, within

from graphprune.budget import Budget
from graphprune.errors import BudgetError, UsageError
from graphprune.groups import Group, Kind
from graphprune.scores import Objective, Scores
from graphprune.solver.choices import auto_multiple
from graphprune.solver.solve import solve

OBJECTIVES: tuple[Objective, ...] = ("retained", "sum")


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
