"""Costs of widths against sums and products written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from instances import FAMILIES, Family, groups_of, random_groups

from graphprune.cost import METRICS, Costs, Polynomial, Terms, add_into, product


def by_hand(terms: Terms, widths: np.ndarray) -> int:
    return sum(c * math.prod(int(widths[g]) for g in monomial) for monomial, c in terms.items())


POLYNOMIALS: list[Terms] = [
    {(0, 1): 9, (1,): 2, (): 5},
    {},
    {(2, 2): 3, (0, 1, 2): 1},
    {(): 7},
    {(1, 1, 1): 2, (0,): 1},
]
WIDTHS = np.random.default_rng(0).integers(0, 20, (4, 3, 3))


def test_evaluates_every_row_at_every_width() -> None:
    stacked = Polynomial.stack(POLYNOMIALS, 3)
    values = stacked(WIDTHS)
    assert values.shape == (4, 3, 5)
    for place in np.ndindex(4, 3):
        assert values[place].tolist() == [by_hand(p, WIDTHS[place]) for p in POLYNOMIALS]
        assert stacked(WIDTHS[place]).tolist() == values[place].tolist()


def test_rows_may_come_in_any_order() -> None:
    stacked = Polynomial.stack(POLYNOMIALS, 3)
    order = np.random.default_rng(1).permutation(len(stacked.row))
    shuffled = Polynomial(stacked.coefficient[order], stacked.factor[order], stacked.row[order], 5, 3)
    assert (shuffled(WIDTHS) == stacked(WIDTHS)).all()


@pytest.mark.parametrize("terms", [[], [{}], [{}, {}], [{(): 3}]])
def test_evaluates_what_is_empty_or_constant(terms: list[Terms]) -> None:
    values = Polynomial.stack(terms, 2)(np.array([[4, 5], [6, 7]]))
    assert values.tolist() == [[p.get((), 0) for p in terms]] * 2


def test_large_values_are_exact() -> None:
    stacked = Polynomial.stack([{(0, 1): 3, (0,): 1}, {(): 1}], 2)
    widths = np.array([2**25 + 1, 2**25 - 1])
    assert int(stacked(widths)[0]) == 3 * (2**50 - 1) + 2**25 + 1


def test_products_and_sums_of_polynomials() -> None:
    left: Terms = {(0,): 2, (): 1}
    right: Terms = {(1,): 3, (0,): 1}
    assert product(left, right) == {(0, 1): 6, (0, 0): 2, (1,): 3, (0,): 1}
    assert product(left, {(): 4}) == {(0,): 8, (): 4}
    add_into(left, {(0,): 1, (1,): 5}, 2)
    assert left == {(0,): 4, (): 1, (1,): 10}


def test_log_gradient_is_the_slope_of_the_rows() -> None:
    stacked = Polynomial.stack(POLYNOMIALS, 3)
    widths, step = np.array([3.0, 4.0, 5.0]), 1e-6
    gradient = stacked.log_gradient(widths)
    assert gradient.shape == (5, 3)
    for group in range(3):
        up, down = widths.copy(), widths.copy()
        up[group] *= math.exp(step)
        down[group] *= math.exp(-step)
        slope = (stacked(up) - stacked(down)) / (2 * step)
        assert gradient[:, group] == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_log_gradient_adds_up_to_the_degree() -> None:
    """Euler: for a homogeneous polynomial of degree d the gradient by log widths sums to d times its value."""
    stacked = Polynomial.stack([{(0, 1): 4, (2, 2): 3, (1, 2): 1}], 3)
    widths = np.array([2.0, 7.0, 3.0])
    assert stacked.log_gradient(widths).sum() == pytest.approx(2 * stacked(widths)[0])


def peak_by_hand(costs: Costs, widths: np.ndarray) -> float:
    held = costs.tensors(widths)
    steps = range(int(costs.died.max()) + 1)
    alive = [(costs.born <= s) & (costs.died >= s) for s in steps]
    return max(float(held[mask].sum()) for mask in alive)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(4))
def test_peak_memory_is_the_largest_sum_over_the_steps(family: Family, seed: int) -> None:
    costs = random_groups(seed, 9, [4, 8, 16], family).costs
    widths = np.random.default_rng(seed).integers(1, costs.sizes + 1, (5, 9))
    peaks = costs.memory(widths)
    assert peaks.tolist() == [peak_by_hand(costs, w) for w in widths]
    assert costs.full["memory"] == peak_by_hand(costs, costs.sizes)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 1.0])
def test_peaks_tell_whether_the_memory_is_within_a_limit(part: float) -> None:
    for seed in range(6):
        costs = random_groups(seed, 8, [4, 8, 16], "residual").costs
        limit = part * costs.full["memory"]
        rows = costs.peaks(limit)
        widths = np.random.default_rng(seed).integers(1, costs.sizes + 1, (200, 8))
        assert ((rows(widths) <= limit).all(axis=-1) == (costs.memory(widths) <= limit)).all()
        assert (rows(costs.sizes) > limit).all()
        assert (rows.rows == 0) == (part == 1.0)


def test_memory_without_tensors_is_nothing() -> None:
    costs = groups_of([4, 4], {(0, 1): 1}, {(0,): 1}).costs
    assert costs.memory(np.ones((3, 2))).tolist() == [0.0] * 3
    assert costs.peaks(0.0).rows == 0


def test_like_terms_of_a_step_are_added_up() -> None:
    costs = groups_of([4], {(0,): 1}, {(0,): 1}, [({(0,): 3}, 0, 1), ({(0,): 2, (): 5}, 1, 1)]).costs
    rows = costs.peaks(10.0)
    assert rows.rows == 1
    assert len(rows.coefficient) == 2
    assert rows(np.array([2])).tolist() == [4 * (3 * 2 + 2 * 2 + 5)]


def test_metrics_by_name() -> None:
    costs = random_groups(0, 5, [4, 8]).costs
    widths = np.array([[1, 2, 3, 4, 1], [4, 4, 4, 4, 4]])
    for metric in METRICS:
        assert costs.evaluate(metric, widths).shape == (2,)
        assert costs.evaluate(metric, widths[0]) == costs.evaluate(metric, widths)[0]
        assert costs.full[metric] == costs.evaluate(metric, costs.sizes)
