"""Budgets on measured latency: gauges with steps against brute force, against the polynomial, and what is said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from graphprune.passes.itpruner import scores_of
from instances import FAMILIES, Family, brute_force, groups_of, random_groups, random_scores, within
from networks import SHAPES, Shape, alignment, network

from graphprune.budget import Budget
from graphprune.cost import METRICS, Latency, Polynomial
from graphprune.errors import BudgetError, UsageError
from graphprune.groups import Groups
from graphprune.scores import Objective
from graphprune.solver.choices import Choices, losses, permitted, ranking
from graphprune.solver.chosen import keep_chosen
from graphprune.solver.cuts import tangents, transports
from graphprune.solver.limits import Limits
from graphprune.solver.solve import solve

OBJECTIVES: tuple[Objective, ...] = ("retained", "sum")
BUDGETS = ("latency=0.6", "latency=0.7,macs=0.5", "latency=0.8,params=0.5,memory=0.7")


def timed(groups: Groups, seed: int, *, zero: bool = True) -> Groups:
    """Give groups a latency: for every product of widths in the MACs a kernel, with gauges that have steps."""
    rng = np.random.default_rng(seed)
    macs, n = groups.costs.macs, len(groups)
    tables, owner, factor = [], [], []
    for term in macs.factor:
        row = []
        for g in term[term < n]:
            block = int(rng.choice([1, 2, 4]))
            steps = np.cumsum(rng.uniform(0.5, 1.5, int(groups.sizes[g]) // block + 2))
            table = steps[np.ceil(np.arange(groups.sizes[g] + 1) / block).astype(int)]
            tables.append(table - table[0] if zero else table)
            owner.append(int(g))
            row.append(len(owner) - 1)
        factor.append(row)
    width = max(map(len, factor))
    padded = np.array([[*row, *[len(owner)] * (width - len(row))] for row in factor])
    seconds = Polynomial(1e-6 * macs.coefficient * rng.uniform(0.5, 2, len(padded)), padded, macs.row, 1, len(owner))
    return with_latency(groups, Latency(seconds, np.array(owner), tuple(tables)))


def with_latency(groups: Groups, latency: Latency) -> Groups:
    return replace(groups, costs=replace(groups.costs, latency=latency))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_small_tasks_against_brute_force(family: Family, budget: str) -> None:
    for seed in range(2):
        for objective in OBJECTIVES:
            groups = timed(random_groups(seed, 5, [3, 6, 8], family), seed, zero=seed == 0)
            scores = random_scores(groups, seed, objective)
            goal = Budget.parse(budget)
            optimum = brute_force(groups, scores, goal, {g.id: range(1, g.size + 1) for g in groups.groups})
            if math.isinf(optimum):
                with pytest.raises(BudgetError):
                    solve(groups, scores, goal, multiple=1)
                continue
            plan = solve(groups, scores, goal, multiple=1)
            within(groups, plan, budget)
            assert plan.bound is not None
            assert plan.objective is not None
            assert plan.bound <= optimum + 1e-9
            assert optimum <= plan.objective + 1e-9
            assert plan.objective <= 1.02 * optimum + 1e-9


def gauged_like_widths(groups: Groups) -> Groups:
    """Let latency be the MACs, in gauges that show the widths."""
    macs, n = groups.costs.macs, len(groups)
    order = np.arange(n)[::-1].copy()  # gauges in another order than the groups
    factor = np.append(order, n)[macs.factor]
    tables = tuple(np.arange(groups.sizes[g] + 1.0) for g in order)
    return with_latency(groups, Latency(Polynomial(macs.coefficient, factor, macs.row, 1, n), order, tables))


@pytest.mark.parametrize("others", ["", ",params=0.6", ",memory=0.8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gauges_that_show_the_widths_are_the_polynomial(family: Family, others: str) -> None:
    groups = gauged_like_widths(random_groups(1, 14, [16, 32, 64], family))
    for objective in OBJECTIVES:
        scores = random_scores(groups, 1, objective)
        plan = solve(groups, scores, Budget.parse("macs=0.5" + others), multiple=1)
        same = solve(groups, scores, Budget.parse("latency=0.5" + others), multiple=1)
        assert same.keep == plan.keep
        assert same.objective == plan.objective
        assert same.bound == pytest.approx(plan.bound, rel=1e-9)
        assert same.costs["latency"] == same.costs["macs"]


@pytest.mark.parametrize("allocation", ["continuous", "geometric"])
def test_allocations_take_gauges_that_show_the_widths_for_widths(allocation: str) -> None:
    groups = gauged_like_widths(random_groups(2, 12, [32, 64], "residual"))
    importance = dict(zip(groups, np.random.default_rng(0).lognormal(size=len(groups)).tolist(), strict=True))
    scores = scores_of(groups, importance, allocation)  # type: ignore[arg-type]
    plan, same = (solve(groups, scores, Budget.parse(f"{m}=0.5"), multiple=1) for m in ("macs", "latency"))
    assert same.keep == plan.keep


@pytest.mark.parametrize("budget", ["latency=0.6", "latency=0.7,params=0.5"])
@pytest.mark.parametrize("allocation", ["continuous", "geometric", "linear", "log"])
def test_itpruner_keeps_to_measured_latency(allocation: str, budget: str) -> None:
    """Its plan is close to the best for its own objective, though its problem takes lines for the steps."""
    groups = network("bottleneck", 14, 3)
    rng = np.random.default_rng(1)
    importance = dict(zip(groups, rng.lognormal(0, 0.5, len(groups)).tolist(), strict=True))
    plan = solve(groups, scores_of(groups, importance, allocation), Budget.parse(budget), multiple=4)  # type: ignore[arg-type]
    assert within(groups, plan, budget) > 0.95
    assert plan.gap is not None
    assert 0 <= plan.gap <= 0.15


def test_costs_name_latency_where_it_was_measured() -> None:
    bare = random_groups(0, 4, [8])
    groups = timed(bare, 0)
    assert tuple(bare.costs.full) == METRICS
    assert tuple(groups.costs.full) == (*METRICS, "latency")
    plan = keep_chosen(
        groups, replace(random_scores(groups, 0, "sum"), chosen={g: np.ones(8, np.bool_) for g in groups})
    )
    assert plan.costs["latency"] == groups.costs.full["latency"]
    assert "latency" not in solve(bare, random_scores(bare, 0, "sum"), Budget(macs=0.5)).costs


def test_a_limit_on_a_latency_that_was_not_measured_is_an_error() -> None:
    groups = random_groups(0, 4, [8])
    with pytest.raises(UsageError) as caught:
        solve(groups, random_scores(groups, 0, "sum"), Budget.parse("latency=0.5"))
    assert caught.value.code == "latency-unknown"


def test_an_unreachable_latency_says_what_is_reachable() -> None:
    seconds = Polynomial(np.array([2e-3, 1e-4]), np.array([[1], [0]]), np.zeros(2, np.int64), 1, 1)
    bare = groups_of([10], {(0,): 1}, {(0,): 1})
    groups = with_latency(bare, Latency(seconds, np.zeros(1, np.int64), (np.arange(11.0),)))
    with pytest.raises(BudgetError) as caught:
        solve(groups, random_scores(groups, 0, "sum"), Budget.parse("latency=500us"))
    words = caught.value.message
    assert "latency at most 500us (0.167 of the original): out of reach, the smallest reachable is 2.1ms (0.7" in words
    assert caught.value.hint is not None
    assert "latency=0.701" in caught.value.hint
    with pytest.raises(BudgetError, match=r"latency at most 2.1ms \(0.7 of the original\): out of reach"):
        solve(groups, random_scores(groups, 0, "sum"), Budget.parse("latency=0.7"))  # but for rounding
    plan = solve(groups, random_scores(groups, 0, "sum"), Budget.parse("latency=0.701"))
    assert plan.widths == {"g0": 1}


def test_widths_lie_at_the_top_of_steps() -> None:
    """Nothing is gained below the top of a step: plans under latency alone keep all that the step pays for."""
    bare = random_groups(3, 10, [32, 64], "chain")
    groups = timed(bare, 3)
    latency = groups.costs.latency
    assert latency is not None
    plan = solve(groups, random_scores(groups, 3, "retained"), Budget.parse("latency=0.5"), multiple=1)
    for group, table in zip(latency.group, latency.table, strict=True):
        width, size = plan.widths[f"g{group}"], int(groups.sizes[group])
        others = [t for g, t in zip(latency.group, latency.table, strict=True) if g == group]
        assert width == size or any(t[width + 1] > t[width] for t in others), table


@pytest.mark.parametrize("budget", ["latency=0.6", "latency=0.7,macs=0.5"])
@pytest.mark.parametrize("family", FAMILIES)
def test_cuts_of_gauges_hold_everywhere(family: Family, budget: str) -> None:
    for seed in range(3):
        groups = timed(random_groups(seed, 6, [4, 9, 20], family, vanishing=[1, 3]), seed, zero=seed != 1)
        scores = random_scores(groups, seed, "sum")
        tables = [losses(v[ranking(v)], "sum") for v in scores.values()]
        choices = Choices.of([permitted(g, 0, 1) for g in groups.groups], tables)
        limits = Limits.of(groups.costs, Budget.parse(budget).limits(groups.costs.full))
        rng = np.random.default_rng(seed)
        rank = rng.integers(0, choices.count, (4000, 6))
        rank[:1000] = np.where(rank[:1000] * 2 < choices.count, 0, choices.count - 1)
        places = choices.start + rank
        base = np.maximum(choices.width[places[0]], 0.5)
        price = rng.uniform(0.1, 3.0, len(limits.most)) / limits.most
        weights = [price, *(np.eye(len(price)) / limits.most)]
        for cut in [*tangents(limits, choices, base, weights), *transports(limits, choices, base, price, weights)]:
            room = cut.most - cut.value[places].sum(axis=1)
            slack = limits.slack(choices.width[places]) @ cut.weight
            assert (room >= slack - 1e-9 * np.abs(cut.value).max()).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_smooth_rows_are_close_to_gauges_and_equal_to_widths(family: Family) -> None:
    groups = timed(random_groups(2, 6, [40, 60], family), 2)
    limits = Limits.of(groups.costs, {"latency": 1e-9, "macs": 1.0})
    widths = np.random.default_rng(0).integers(10, groups.sizes + 1, (50, 6))
    exact, smooth = limits.cost(widths), np.array([limits.smooth(w) for w in widths])
    assert smooth[:, 0] == pytest.approx(exact[:, 0])
    assert smooth[:, 1] == pytest.approx(exact[:, 1], rel=0.35)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fifty_groups_are_proved_within_two_percent(shape: Shape, objective: Objective) -> None:
    """By a fixed amount of work, which takes about a second where it is all needed."""
    groups = network(shape, 50, 7)
    plan = solve(
        groups,
        random_scores(groups, 7, objective),
        Budget.parse("latency=0.5,params=0.5"),
        multiple=alignment(groups, 7),
    )
    within(groups, plan, "latency=0.5,params=0.5")
    assert plan.gap is not None
    assert plan.gap <= 0.02


def test_a_mapping_aligns_by_group_and_by_size_where_it_names_none() -> None:
    groups = network("chain", 10, 0)
    multiple = {"g0": 3, "g1": 24, "g2": 20}
    budget = Budget.parse("latency=0.7,macs=0.6")
    plan = solve(groups, random_scores(groups, 0, "retained"), budget, multiple=multiple)
    expected = {**dict.fromkeys(groups, 16), **multiple}
    off = [g.id for g in groups.groups if plan.widths[g.id] % expected[g.id] and plan.widths[g.id] != g.size]
    assert len(off) <= 2
    with pytest.raises(UsageError):
        solve(groups, random_scores(groups, 0, "retained"), budget, multiple={"g0": 0})


class Clock:
    """Advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return float(self.reads)


def test_a_time_limit_ends_the_proof_and_keeps_what_was_found() -> None:
    groups = network("inverted", 50, 1)
    scores, multiple = random_scores(groups, 1, "retained"), alignment(groups, 1)
    budget = "latency=0.5,macs=0.5,memory=0.8"
    plans, reads = [], []
    for limit in (1.0, 20.0, 150.0):
        clock = Clock()
        plans.append(solve(groups, scores, Budget.parse(budget), multiple=multiple, time_limit=limit, clock=clock))
        reads.append(clock.reads)
        within(groups, plans[-1], budget)
        assert clock.reads <= limit + 6  # once it is late, nothing more is begun
    assert reads == sorted(reads)
    gaps = [plan.gap or 0.0 for plan in plans]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < gaps[0]
    again = solve(groups, scores, Budget.parse(budget), multiple=multiple, time_limit=20.0, clock=Clock())
    assert again == plans[1]


@pytest.mark.parametrize("limit", [0, -1.0, math.nan, "10", True])
def test_time_limits_out_of_range(limit: float) -> None:
    groups = random_groups(0, 2, [4])
    with pytest.raises(UsageError) as caught:
        solve(groups, random_scores(groups, 0, "sum"), Budget(macs=0.5), time_limit=limit)
    assert caught.value.where == "--time-limit"
