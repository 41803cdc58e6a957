"""Groups, costs and scores made by hand or at random for the solver's tests, and its tasks solved by brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphprune.budget import Budget
from graphprune.cost import Costs, Metric, Polynomial, Terms, add_into, product
from graphprune.groups import Group, Groups, Kind
from graphprune.plan import Plan
from graphprune.scores import Objective, Scores

Family = Literal["chain", "residual", "concat", "squares", "attention"]
FAMILIES: tuple[Family, ...] = ("chain", "residual", "concat", "squares", "attention")


def groups_of(
    sizes: Sequence[int],
    macs: Terms,
    params: Terms,
    tensors: Sequence[tuple[Terms, int, int]] = (),
    kinds: Sequence[Kind] | None = None,
    vanishing: Sequence[int] = (),
) -> Groups:
    """Build groups with these costs; a tensor is (elements, first step, last step), four bytes each."""
    n = len(sizes)
    kinds = kinds or ["channel"] * n
    groups = tuple(Group(f"g{i}", kinds[i], sizes[i], (), can_vanish=i in vanishing) for i in range(n))
    size: Terms = {(): 1000}
    add_into(size, params, 4)
    held = [{m: 4 * c for m, c in terms.items()} for terms, _, _ in tensors]
    costs = Costs(
        np.array(sizes, dtype=np.int64),
        Polynomial.stack([macs], n),
        Polynomial.stack([params], n),
        Polynomial.stack([size], n),
        Polynomial.stack(held, n),
        np.array([born for _, born, _ in tensors], dtype=np.int64),
        np.array([died for _, _, died in tensors], dtype=np.int64),
    )
    return Groups(groups, (), costs)


def random_groups(
    seed: int, n: int, pool: Sequence[int], family: Family = "chain", vanishing: Sequence[int] = ()
) -> Groups:
    """Build a network of ``n`` groups: layer i reads groups before it, as its family says, and writes group i."""
    rng = np.random.default_rng(seed)
    sizes = [int(s) for s in rng.choice(pool, n)]
    macs: Terms = {}
    params: Terms = {(): 10}
    tensors: list[tuple[Terms, int, int]] = [({(): 200}, 0, 0)]
    for i in range(n):
        source = _source(rng, i, family)
        area = int(rng.choice([1, 4, 16, 64]))
        weight = product(source, {(i,): 9})
        add_into(params, weight)
        add_into(params, {(i,): 1})
        add_into(macs, weight, area)
        last = i + 1 + (int(rng.integers(0, 3)) if family in ("residual", "concat") else 0)
        tensors.append(({(i,): area}, i, min(last, n)))
    add_into(macs, {(n - 1,): 10})
    add_into(params, {(n - 1,): 10})
    return groups_of(sizes, macs, params, tensors, vanishing=vanishing)


def _source(rng: np.random.Generator, i: int, family: Family) -> Terms:
    """Channels that layer ``i`` reads, as a sum of products of the widths before it."""
    if i == 0:
        return {(): 3}
    if family == "residual" and i > 1 and rng.random() < 0.5:
        return {(int(rng.integers(0, i)),): 1}
    if family == "concat":
        return {(j,): 1 for j in range(max(0, i - 3), i)}
    if family == "squares" and rng.random() < 0.5:
        return {(i,): 1, (): 2}
    if family == "attention" and i > 1:
        return {(i - 2, i - 1): 1}
    return {(i - 1,): 1}


def random_scores(groups: Groups, seed: int, objective: Objective, spread: float = 1.0, zeros: float = 0.0) -> Scores:
    """Draw log-normal scores, a part of them zero; for "sum" the groups differ in scale."""
    rng = np.random.default_rng(seed)
    values = {}
    for group in groups.groups:
        drawn = rng.lognormal(0.0, spread, group.size) * (rng.lognormal() if objective == "sum" else 1.0)
        values[group.id] = np.where(rng.random(group.size) < zeros, 0.0, drawn)
    return Scores(values, method="drawn", objective=objective)


def loss_of(scores: NDArray[np.float64], kept: Sequence[int], objective: Objective) -> float:
    """Loss of keeping these units, straight from the definition in Scores."""
    if objective == "sum":
        return math.fsum(s for unit, s in enumerate(scores) if unit not in set(kept))
    everything = math.fsum(max(s, 0.0) for s in scores)
    if everything == 0:
        return 0.0
    mass = math.fsum(max(scores[unit], 0.0) for unit in kept)
    return math.inf if mass == 0 else -math.sqrt(len(scores)) * math.log(mass / everything)


def best_units(scores: NDArray[np.float64], width: int) -> list[int]:
    """Pick the units of highest score, the lower ordinal first among equals."""
    return sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))[:width]


def brute_force(groups: Groups, scores: Scores, budget: Budget, widths: Mapping[str, Sequence[int]]) -> float:
    """Return the least loss of all combinations of these widths that are within the budget."""
    grid = np.array(list(itertools.product(*(widths[g.id] for g in groups.groups))))
    limits: dict[Metric, float] = budget.limits(groups.costs.full)
    fits = np.all([groups.costs.evaluate(m, grid) <= limit for m, limit in limits.items()], axis=0)
    total = np.zeros(len(grid))
    for column, group in enumerate(groups.groups):
        values = scores[group.id]
        table = {w: loss_of(values, best_units(values, w), scores.objective) for w in widths[group.id]}
        total += np.array([table[w] for w in widths[group.id]])[np.searchsorted(widths[group.id], grid[:, column])]
    return float(np.where(fits, total, np.inf).min())


def within(groups: Groups, plan: Plan, budget: str) -> float:
    """Check a plan against its groups and budget; return the part of the binding limit it uses."""
    widths = np.array([len(plan.keep[g.id]) for g in groups.groups])
    parts = []
    for metric, limit in Budget.parse(budget).limits(groups.costs.full).items():
        assert plan.costs[metric] == groups.costs.evaluate(metric, widths)
        assert plan.costs[metric] <= limit
        parts.append(plan.costs[metric] / limit)
    return max(parts)
