"""What the lower bound stands on, checked at many widths: rows, their changes, cuts and certificates."""

from __future__ import annotations

import numpy as np
import pytest
from instances import FAMILIES, Family, best_units, loss_of, random_groups, random_scores

from graphprune.budget import Budget
from graphprune.groups import Groups
from graphprune.scores import Objective, Scores
from graphprune.solver.choices import Choices, losses, permitted, ranking
from graphprune.solver.cuts import Cut, tangents, transports
from graphprune.solver.limits import Limits
from graphprune.solver.relaxation import certificate

BUDGETS = ["0.5", "macs=0.6,params=0.4", "memory=0.6,macs=0.5"]


def task(seed: int, family: Family, budget: str, least: int = 1) -> tuple[Groups, Limits, Choices]:
    groups = random_groups(seed, 6, [4, 9, 20], family, vanishing=[1, 3, 4])
    scores = random_scores(groups, seed, "sum")
    tables = [losses(v[ranking(v)], "sum") for v in scores.values()]
    choices = Choices.of([permitted(g, least, 1) for g in groups.groups], tables)
    return groups, Limits.of(groups.costs, Budget.parse(budget).limits(groups.costs.full)), choices


def sample(choices: Choices, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw places of choices and their widths, (count, groups) each, with every extreme of the ranges among them."""
    rank = np.random.default_rng(seed).integers(0, choices.count, (count, len(choices.start)))
    rank[: count // 4] = np.where(rank[: count // 4] * 2 < choices.count, 0, choices.count - 1)
    return choices.start + rank, choices.width[choices.start + rank]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_changes_by_single_moves_are_exact(family: Family, budget: str) -> None:
    _, limits, choices = task(1, family, budget, least=0)
    _, (widths, *_) = sample(choices, 3, seed=5)
    candidates = np.tile(np.array([0.0, 1.0, 3.0, 20.0]), (6, 1))
    at, change = limits.incidences, limits.changes(widths, candidates)
    assert np.unique(at.group).tolist() == list(range(6))
    for group in range(6):
        for column in range(4):
            after = widths.copy()
            after[group] = candidates[group, column]
            moved = np.zeros(len(limits.most))
            mine = at.group == group
            moved[at.row[mine]] = change[mine, column]
            assert moved == pytest.approx(limits.cost(after) - limits.cost(widths), abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_prices_are_what_a_group_changes(family: Family) -> None:
    _, limits, choices = task(2, family, "macs=0.6,params=0.4")
    weight = np.array([2e-3, 5e-3])
    _, (widths, *_) = sample(choices, 1)
    candidates = np.tile(np.array([1.0, 3.0, 4.0]), (6, 1))
    priced = limits.priced(widths, weight, candidates)
    for group in range(6):
        after = np.tile(widths, (3, 1))
        after[:, group] = candidates[group]
        assert np.diff(priced[group]) == pytest.approx(np.diff(limits.cost(after) @ weight))


def is_valid(cut: Cut, limits: Limits, choices: Choices) -> None:
    """A cut must undercut the weighted rows at all widths, within the limits or not."""
    places, widths = sample(choices, 4000)
    room = cut.most - cut.value[places].sum(axis=1)
    slack = limits.slack(widths) @ cut.weight
    assert (room >= slack - 1e-9 * np.abs(cut.value).max()).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("least", [0, 1])
def test_cuts_hold_everywhere(family: Family, budget: str, least: int) -> None:
    for seed in range(3):
        _, limits, choices = task(seed, family, budget, least)
        _, (base, *_) = sample(choices, 1, seed)
        base = np.maximum(base, 0.5)
        price = np.random.default_rng(seed).uniform(0.1, 3.0, len(limits.most)) / limits.most
        weights = [price, *(np.eye(len(price)) / limits.most)]
        for cut in [*tangents(limits, choices, base, weights), *transports(limits, choices, base, price, weights)]:
            is_valid(cut, limits, choices)


def test_tangents_touch_at_the_base() -> None:
    _, limits, choices = task(0, "residual", "macs=0.6,params=0.4")
    places, (base, *_) = sample(choices, 1)
    weights = list(np.eye(2) / limits.most)
    for cut in tangents(limits, choices, base, weights):
        room = cut.most - cut.value[places[0]].sum()
        assert room == pytest.approx(limits.slack(base) @ cut.weight)


def test_a_linear_cost_is_its_own_cut() -> None:
    groups = random_groups(0, 1, [9])
    limits = Limits.of(groups.costs, {"macs": 0.5 * groups.costs.full["macs"]})
    choices = Choices.of([permitted(groups.groups[0], 1, 1)], [np.arange(10.0)[::-1]])
    (cut,) = transports(limits, choices, np.array([3.0]), np.ones(1), [np.ones(1)])
    assert cut.most - cut.value == pytest.approx(limits.slack(choices.width[:, None])[:, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_any_multipliers_certify(family: Family) -> None:
    _, limits, choices = task(3, family, "macs=0.6,params=0.5")
    base, price = np.maximum(0.5 * choices.most, 1.0), 1 / limits.most
    cuts = [*tangents(limits, choices, base, [price]), *transports(limits, choices, base, price, [price])]
    places, widths = sample(choices, 20000)
    least = choices.loss[places].sum(axis=1)[limits.holds(widths)].min()
    for scale in (0.0, 0.1, 1.0, 10.0):
        assert certificate(choices, cuts, np.array([0.3, 0.7]) * scale) <= least


@pytest.mark.parametrize("objective", ["sum", "retained"])
def test_losses_are_as_defined(objective: Objective) -> None:
    for values in ([3.0, 1.0, 0.0, 2.0, 1.0], [0.0, 0.0], [5.0], [1.0, -2.0, 4.0], [1e-300, 1e300]):
        scores = np.array(values)
        order = ranking(scores)
        table = losses(scores[order], objective)
        assert order.tolist() == best_units(scores, len(scores))
        for width in range(len(scores) + 1):
            kept = order[:width].tolist()
            assert table[width] == pytest.approx(loss_of(scores, kept, objective)), (values, width)


def test_losses_of_one_group_do_not_depend_on_the_scale_of_retained_scores() -> None:
    scores = Scores({"g": np.array([3.0, 2.0, 1.0])}, "drawn")
    assert losses(scores["g"], "retained") == pytest.approx(losses(1e-200 * scores["g"], "retained"))
