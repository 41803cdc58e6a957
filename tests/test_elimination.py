"""Elimination, the Lagrangian bound and branching against brute force over all choices."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from instances import FAMILIES, Family, random_groups, random_scores
from networks import SHAPES, Shape, network

from graphprune.budget import Budget
from graphprune.solver import branching
from graphprune.solver.branching import Effort, prove
from graphprune.solver.choices import Choices, losses, permitted, ranking
from graphprune.solver.dual import Priced
from graphprune.solver.elimination import Order
from graphprune.solver.limits import Limits
from graphprune.solver.planes import Planes, climb
from graphprune.solver.proof import loss_of, proved
from graphprune.solver.rounding import rounded
from graphprune.solver.search import search

BUDGETS = ("macs=0.5", "latency=0.5", "latency=0.6,params=0.5,memory=0.8")


def drawn_tables(seed: int, groups: int, scopes: list[tuple[int, ...]]) -> tuple[np.ndarray, list, list]:
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 5, groups)
    every = [*((g,) for g in range(groups)), *scopes]
    return count, every, [rng.normal(size=tuple(count[list(s)])) for s in every]


@pytest.mark.parametrize("seed", range(12))
def test_least_sums_and_marginals_are_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    pairs = list(itertools.combinations(range(6), 2)) + list(itertools.combinations(range(6), 3))
    scopes = [pairs[k] for k in rng.choice(len(pairs), 5, replace=False)]
    count, every, tables = drawn_tables(seed, 6, scopes)
    order = Order.of(count, every, 10**6)
    assert order is not None
    grid = np.array(list(itertools.product(*(range(c) for c in count))))
    total = sum(t[tuple(grid[:, list(s)].T)] for s, t in zip(every, tables, strict=True))
    least, rank = order.least(tables)
    assert least == pytest.approx(total.min())
    assert sum(t[tuple(rank[list(s)])] for s, t in zip(every, tables, strict=True)) == pytest.approx(least)
    for g, found in enumerate(order.marginals(tables)):
        assert found == pytest.approx([total[grid[:, g] == k].min() for k in range(count[g])])


def test_a_network_woven_together_has_no_order() -> None:
    scopes = [(a, b) for a in range(8) for b in range(a)]
    assert Order.of(np.full(8, 10), [*((g,) for g in range(8)), *((b, a) for a, b in scopes)], 10**6) is None


def test_chains_and_residual_blocks_leave_small_tables() -> None:
    for shape, most in (("chain", 49 * 32**2 + 32), ("residual", 46 * 32**2 + 40**3), ("bottleneck", 60 * 32**3)):
        groups = network(shape, 50, 0)  # type: ignore[arg-type]
        limits = Limits.of(groups.costs, {"macs": 0.5 * groups.costs.full["macs"]})
        of_term = {tuple(sorted({int(g) for g in f if g < 50})) for f in limits.rows.factor}
        order = Order.of(np.full(50, 32), [*((g,) for g in range(50)), *(s for s in of_term if len(s) > 1)], 10**8)
        assert order is not None
        assert order.work <= most


def small_task(seed: int, kind: Shape | Family, budget: str) -> tuple[Limits, Choices]:
    """Five or six groups of at most seven widths."""
    measured = kind in SHAPES and kind not in FAMILIES
    groups = network(kind, 6, seed, unit=8) if measured else random_groups(seed, 5, [4, 7], kind)  # type: ignore[arg-type]
    scores = random_scores(groups, seed, "sum")
    tables = [losses(v[ranking(v)], "sum") for v in scores.values()]
    unit = max(float(np.ptp(t)) for t in tables)
    widths = [permitted(g, 1, max(g.size // 5, 1)) for g in groups.groups]
    choices = Choices.of(widths, [t / unit for t in tables])
    return Limits.of(groups.costs, Budget.parse(budget).limits(groups.costs.full)), choices


def best_of_all(limits: Limits, choices: Choices) -> float:
    grid = np.array(list(itertools.product(*(range(c) for c in choices.count))))
    at = choices.start + grid
    return float(np.where(limits.holds(choices.width[at]), choices.loss[at].sum(axis=1), np.inf).min())


def tasks(seeds: int) -> list[tuple[int, Shape | Family, str]]:
    kinds: list[Shape | Family] = ["bottleneck", "inverted", *FAMILIES]
    return [
        (seed, kind, budget)
        for seed in range(seeds)
        for kind in kinds
        for budget in BUDGETS
        if "latency" not in budget or kind not in FAMILIES
    ]


@pytest.mark.parametrize(("seed", "kind", "budget"), tasks(3))
def test_any_prices_bound_the_optimum(seed: int, kind: Shape | Family, budget: str) -> None:
    limits, choices = small_task(seed, kind, budget)
    best, priced = best_of_all(limits, choices), Priced.of(limits, choices, 10**7)
    assert priced is not None
    rng = np.random.default_rng(seed)
    for _ in range(5):
        worth = rng.exponential(size=len(limits.most)) * rng.choice([0.0, 0.1, 1.0])
        height, widths = priced(worth)
        used = limits.cost(widths) / limits.most
        at = choices.start + choices.find(widths)
        assert height == pytest.approx(choices.loss[at].sum() + worth @ (used - 1), abs=1e-6)
        assert height <= best
        assert priced.marginals(worth).min() == pytest.approx(height)
    planes = climb(priced, Planes(), np.ones(len(limits.most)), best, 40, lambda: False)
    assert planes.bound <= best
    assert planes.bound >= priced(np.ones(len(limits.most)))[0]


@pytest.mark.parametrize(("seed", "kind", "budget"), tasks(4))
def test_branching_finds_the_optimum_and_proves_it(seed: int, kind: Shape | Family, budget: str) -> None:
    limits, choices = small_task(seed, kind, budget)
    if not limits.holds(choices.least):
        pytest.fail("the task has no solution")
    best = best_of_all(limits, choices)
    start = choices.least
    effort = Effort(1e-6, 1e9, lambda: False, 10**7)
    found = prove(limits, choices, start, np.ones(len(limits.most)), effort)
    assert found is not None
    widths, bound = found
    loss = float(choices.loss[choices.start + choices.find(widths)].sum())
    assert limits.holds(widths)
    assert bound <= best + 1e-12
    assert best <= loss + 1e-12
    assert loss - bound <= 1.01e-6 * loss + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_bounds_hold_however_early_branching_ends(shape: Shape) -> None:
    """With little work the bound is lower, and with more higher; the plan found with the most is above all of them."""
    groups = network(shape, 12, 5, unit=8)
    scores = random_scores(groups, 5, "sum")
    tables = [losses(v[ranking(v)], "sum") for v in scores.values()]
    limits = Limits.of(groups.costs, Budget.parse("latency=0.7,macs=0.5").limits(groups.costs.full))
    choices = limits.worthwhile(Choices.of([permitted(g, 1, 2) for g in groups.groups], tables))
    assert limits.holds(choices.least)
    widths, price = search(limits, choices)
    losses_found, bounds = [], []
    for work in (1.0, 1e5, 1e6, 1e8):
        found = prove(limits, choices, widths, price * limits.most, Effort(1e-4, work, lambda: False, 10**7))
        assert found is not None
        losses_found.append(float(choices.loss[choices.start + choices.find(found[0])].sum()))
        bounds.append(found[1])
    assert bounds == sorted(bounds)
    assert losses_found == sorted(losses_found, reverse=True)
    assert losses_found[-1] - bounds[-1] <= 1.01e-4 * losses_found[-1]


def test_known_planes_are_what_would_be_computed_again() -> None:
    limits, choices = small_task(1, "bottleneck", "latency=0.5")
    priced = Priced.of(limits, choices, 10**7)
    assert priced is not None
    planes = climb(priced, Planes(), np.ones(1), np.inf, 20, lambda: False)
    kept = choices.width <= np.repeat(planes.widths[planes.best], choices.count)
    part = priced.only(kept)
    known = planes.within(part.choices)
    assert known.worth
    for worth, height, widths in zip(known.worth, known.height, known.widths, strict=True):
        again, same = part(worth)
        assert again == pytest.approx(height, rel=1e-6)
        assert limits.cost(same) == pytest.approx(limits.cost(widths))


def test_what_is_left_out_holds_no_better_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every choice that is left out is checked by brute force."""
    limits, choices = small_task(2, "inverted", "latency=0.6,params=0.5,memory=0.8")
    grid = np.array(list(itertools.product(*(range(c) for c in choices.count))))
    at = choices.start + grid
    loss = np.where(limits.holds(choices.width[at]), choices.loss[at].sum(axis=1), np.inf)
    seen = []

    def left(self: branching.Proof, priced: Priced, kept: np.ndarray, planes: Planes) -> np.ndarray:
        after = original(self, priced, kept, planes)
        for choice in np.flatnonzero(kept & ~after):
            mine = loss[(at == choice).any(axis=1) & kept[at].all(axis=1)]
            assert mine.min(initial=np.inf) >= self.goal - 1e-9
            seen.append(choice)
        return after

    original = branching.Proof.left
    monkeypatch.setattr(branching.Proof, "left", left)
    prove(limits, choices, choices.least, np.ones(len(limits.most)), Effort(1e-6, 1e9, lambda: False, 10**7))
    assert seen


def test_widths_stay_where_they_may_not_be_improved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphprune.solver.proof.few", lambda _: False)
    limits, choices = small_task(0, "bottleneck", "latency=0.5")
    effort = Effort(1e-6, 1e9, lambda: False, 10**7)
    widths, bound = proved(limits, choices, choices.least, 1 / limits.most, replace(effort), improve=False)
    assert (widths == choices.least).all()
    assert bound == pytest.approx(best_of_all(limits, choices), rel=1e-5)
    widths, _ = proved(limits, choices, choices.least, 1 / limits.most, effort, improve=True)
    assert loss_of(choices, widths) == pytest.approx(best_of_all(limits, choices), rel=1e-5)


def test_rounding_ends_where_the_next_steps_free_nothing() -> None:
    """Gauges with a step below the window of widths that are looked at: halving leads there."""
    groups = network("chain", 3, 0, unit=512)
    latency = groups.costs.latency
    assert latency is not None
    flat = tuple(np.where(np.arange(len(t)) < 20, 0.0, 1.0) for t in latency.table)
    groups = replace(groups, costs=replace(groups.costs, latency=replace(latency, table=flat)))
    tables = [losses(np.ones(g.size), "sum") for g in groups.groups]
    choices = Choices.of([permitted(g, 1, 1) for g in groups.groups], tables)
    limits = Limits.of(groups.costs, {"latency": 1.001 * float(groups.costs.measured(choices.least))})
    widths = rounded(limits, choices, choices.most, 1 / limits.most)
    assert limits.holds(widths)


@pytest.mark.parametrize("seed", range(20))
def test_the_group_of_the_smallest_table_goes_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 6, 9)
    pairs = list(itertools.combinations(range(9), 2))
    scopes = [pairs[k] for k in rng.choice(len(pairs), 12, replace=False)]
    near = {g: {h for s in scopes if g in s for h in s} - {g} for g in range(9)}
    expected, work = [], 0
    while near:
        entries = {g: int(count[g] * np.prod([count[h] for h in beside])) for g, beside in near.items()}
        first = min(near, key=lambda g: (entries[g], g))
        beside = near.pop(first)
        expected.append((first, tuple(sorted(beside))))
        work += entries[first]
        for h in beside:
            near[h] = (near[h] | beside) - {first, h}
    order = Order.of(count, [*((g,) for g in range(9)), *scopes], 10**9)
    assert order is not None
    assert [(s.group, s.beside) for s in order.steps] == expected
    assert order.work == work
