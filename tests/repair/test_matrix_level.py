"""Repair at the level of matrices, against explicit data, brute force and identities."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matrices import System, system

from graphprune.errors import UsageError
from graphprune.repair import elimination
from graphprune.repair.alike import joined
from graphprune.repair.columnwise import saliencies, updated
from graphprune.repair.elimination import eliminate
from graphprune.repair.fit import compensated, least_squares
from graphprune.repair.greedy import interactions, smallest_first
from graphprune.repair.layer import Layer
from graphprune.repair.saliency import fluctuation, wanda
from graphprune.repair.swapping import Swept, exchange, search

RIDGE = 0.01


def refit_error(layer: Layer, gone: list[int], ridge: float = RIDGE) -> float:
    """The least of |W x - W'_K x_K|^2 under damped moments, by solving for W'."""
    damped, left = layer.damped(ridge), ~np.isin(layer.unit, gone)
    cross = layer.weights @ damped
    best = cross[:, left] @ np.linalg.solve(damped[np.ix_(left, left)], cross[:, left].T) if left.any() else 0.0
    return float(np.trace(cross @ layer.weights.T - best))


def together(systems: list[System], factors: list[float], gone: list[int]) -> float:
    return sum(f * refit_error(s.layer, gone) for s, f in zip(systems, factors, strict=True))


@pytest.mark.parametrize("centred", [True, False])
def test_least_squares_is_lstsq(centred: bool) -> None:
    made = system(6, 3, 5, rows=80, always=2, centred=centred)
    removed = np.isin(made.layer.unit, [1, 4])
    for towards in ("old", "zero"):
        fit = least_squares(made.layer, removed, ridge=0.0, towards=towards)
        left = made.data[:, ~removed]
        regressors = np.column_stack([left, np.ones(len(left))]) if centred else left
        wanted = made.data @ made.layer.weights.T
        best, *_ = np.linalg.lstsq(regressors, wanted, rcond=None)
        assert np.allclose(fit.weights[:, ~removed], best[: left.shape[1]].T, atol=1e-8)
        assert not fit.weights[:, removed].any()
        assert np.allclose(fit.shift, best[-1] if centred else 0.0, atol=1e-8)
        missed = np.square(wanted - regressors @ best).sum() / len(left)
        assert fit.after == pytest.approx(missed / made.layer.energy, rel=1e-6)


@pytest.mark.parametrize("towards", ["old", "zero"])
def test_ridge_is_augmented_least_squares(towards: str) -> None:
    """Rows sqrt(n * ridge) * I with targets sqrt(n * ridge) * W0 are the penalty."""
    made = system(6, 1, 4, rows=50, centred=False)
    removed = np.isin(made.layer.unit, [0, 5])
    left, start = made.data[:, ~removed], made.layer.weights[:, ~removed] * (towards == "old")
    weight = np.sqrt(50 * 0.1 * np.trace(left.T @ left / 50) / 4)
    rows = np.vstack([left, weight * np.eye(4)])
    wanted = np.vstack([made.data @ made.layer.weights.T, weight * start.T])
    best, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    fit = least_squares(made.layer, removed, ridge=0.1, towards=towards)  # type: ignore[arg-type]
    assert np.allclose(fit.weights[:, ~removed], best.T, atol=1e-9)


def test_targets_from_the_dense_inputs() -> None:
    made = system(6, 2, 4, rows=90, drift=0.3)
    removed = np.isin(made.layer.unit, [2])
    fit = least_squares(made.layer, removed, ridge=0.0)
    left = made.data[:, ~removed]
    wanted = made.dense @ made.layer.weights.T
    best, *_ = np.linalg.lstsq(np.column_stack([left, np.ones(90)]), wanted, rcond=None)
    assert np.allclose(fit.weights[:, ~removed], best[:-1].T, atol=1e-8)
    assert np.allclose(fit.shift, best[-1], atol=1e-8)
    plain = made.data[:, ~removed] @ made.layer.weights[:, ~removed].T
    spread = np.square(wanted - wanted.mean(axis=0)).sum()
    assert fit.before == pytest.approx(np.square(wanted - plain).sum() / spread)


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 1.0, 100.0])
def test_towards_old_weights_never_does_harm(ridge: float) -> None:
    made = system(8, 2, 4, rows=12, drift=0.2)  # fewer rows than columns: singular moments
    removed = np.isin(made.layer.unit, [0, 3, 5])
    fit = least_squares(made.layer, removed, ridge)
    assert fit.after <= compensated(made.layer, removed).after + 1e-12 <= fit.before + 2e-12


def test_bias_takes_up_the_mean() -> None:
    made = system(5, 2, 3, rows=60)
    removed = np.isin(made.layer.unit, [1, 2])
    fit = compensated(made.layer, removed)
    missed = (made.data @ made.layer.weights.T) - (made.data @ fit.weights.T + fit.shift)
    assert np.allclose(missed.mean(axis=0), 0, atol=1e-12)
    cut, covariance = made.layer.weights[:, removed], np.cov(made.data[:, removed].T, bias=True)
    assert fit.after * made.layer.energy == pytest.approx(np.trace(cut @ covariance @ cut.T))
    assert np.square(missed).sum() / 60 == pytest.approx(fit.after * made.layer.energy)


def test_a_layer_without_bias_is_not_shifted() -> None:
    made = system(5, 2, 3, rows=60, centred=False)
    removed = np.isin(made.layer.unit, [1])
    assert not compensated(made.layer, removed).shift.any()
    assert not least_squares(made.layer, removed).shift.any()


def test_elimination_is_greedy_by_the_exact_error_of_all_layers() -> None:
    systems = [system(8, 3, 5, rows=100, always=4, seed=1), system(8, 2, 7, rows=60, centred=False, seed=2)]
    factors = [1.0, 0.3]
    found = eliminate([s.layer for s in systems], factors, RIDGE)
    gone: list[int] = []
    for unit, total in zip(found.order.tolist(), np.cumsum(found.added), strict=True):
        trials = {j: together(systems, factors, [*gone, j]) for j in range(8) if j not in gone}
        assert min(trials, key=lambda j: trials[j]) == unit
        gone.append(unit)
        assert total == pytest.approx(trials[unit], rel=1e-9)


def test_elimination_with_updates_that_are_flushed_many_times() -> None:
    made = system(60, 9, 20, rows=800, seed=3)
    found = eliminate([made.layer], [1.0], RIDGE)
    totals = np.cumsum(found.added)
    for count in (1, 17, 18, 40, 60):
        assert totals[count - 1] == pytest.approx(refit_error(made.layer, found.order[:count].tolist()), rel=1e-8)


@pytest.mark.parametrize("outputs", [3, 50])
def test_elimination_with_few_outputs_and_with_many_that_ends_with_an_update(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elimination, "RANK", 6)
    made = system(12, 3, outputs, rows=200, always=2, seed=9)
    found = eliminate([made.layer], [1.0], RIDGE)
    for count, total in enumerate(np.cumsum(found.added), start=1):
        assert total == pytest.approx(refit_error(made.layer, found.order[:count].tolist()), rel=1e-8)


def test_layers_that_hold_the_same_moments_are_one() -> None:
    one, other = system(8, 2, 3, rows=60, seed=1), system(8, 2, 5, rows=60, seed=2)
    same = replace(one.layer, weights=np.random.default_rng(3).standard_normal((4, 16)))
    layers, factors = [one.layer, other.layer, same], [1.0, 0.3, 2.5]
    assert [len(layer.weights) for layer in joined(layers, factors)] == [7, 5]
    apart = [one.layer, other.layer, replace(same, second=same.second.copy())]
    assert len(joined(apart, factors)) == 3
    found, wanted = (eliminate(each, factors, RIDGE) for each in (layers, apart))
    assert found.order.tolist() == wanted.order.tolist()
    assert found.added == pytest.approx(wanted.added)
    total = sum(f * refit_error(layer, found.order[:5].tolist()) for f, layer in zip(factors, layers, strict=True))
    assert found.added[:5].sum() == pytest.approx(total)


def test_elimination_of_units_that_only_some_layers_have() -> None:
    left, right = system(4, 2, 3, rows=50, seed=1), system(4, 2, 3, rows=50, seed=2)
    layers = [
        Layer(s.layer.weights, s.layer.second, s.layer.mean, s.layer.unit + shift, 8)
        for s, shift in ((left, 0), (right, 4))
    ]
    found = eliminate(layers, [1.0, 1.0], RIDGE)
    alone = [eliminate([s.layer], [1.0], RIDGE) for s in (left, right)]
    assert found.order[found.order < 4].tolist() == alone[0].order.tolist()
    assert (found.order[found.order >= 4] - 4).tolist() == alone[1].order.tolist()
    assert found.added.sum() == pytest.approx(alone[0].added.sum() + alone[1].added.sum())


def test_obs_refit_is_least_squares_towards_the_old_weights() -> None:
    made = system(8, 2, 5, rows=70, seed=4)
    removed = np.isin(made.layer.unit, [0, 6])
    damped, weights = np.linalg.inv(made.layer.damped(RIDGE)), made.layer.weights
    gone = np.flatnonzero(removed)
    obs = weights - weights[:, gone] @ np.linalg.solve(damped[np.ix_(gone, gone)], damped[gone])
    left = ~removed
    share = np.trace(made.layer.gram) / 16 / (np.trace(made.layer.gram[np.ix_(left, left)]) / 12)
    fit = least_squares(made.layer, removed, RIDGE * share)  # the mean of another diagonal
    assert np.allclose(obs, fit.weights, atol=1e-9)


def test_sweeps_keep_count_of_the_error() -> None:
    made = system(7, 3, 12, rows=90, always=2, seed=5)
    swept = Swept(made.layer, 2.0, RIDGE)
    total, out = 0.0, set[int]()
    for units, leave in (([1, 4], True), ([0], True), ([4], False), ([2, 3], True), ([0, 1, 2, 3], False)):
        total += swept.flip(np.array(units))
        out = out | set(units) if leave else out - set(units)
        assert total == pytest.approx(2 * refit_error(made.layer, sorted(out)), abs=1e-8)
        costs, gains = swept.costs()
        for unit in range(7):
            other = 2 * refit_error(made.layer, sorted(out ^ {unit}))
            assert (gains if unit in out else costs)[unit] == pytest.approx(abs(other - total), abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_exchanges_lower_the_error_as_much_as_they_say(seed: int) -> None:
    systems = [system(9, 2, 6, rows=60, seed=seed), system(9, 1, 4, rows=40, seed=seed + 50)]
    swept = [Swept(s.layer, f, RIDGE) for s, f in zip(systems, (1.0, 0.5), strict=True)]
    start = np.arange(5)
    before = sum(s.flip(start) for s in swept)
    fallen = exchange(swept, np.ones(9, np.bool_), 4)
    out = np.flatnonzero(~swept[0].inside)
    assert len(out) == 5
    assert together(systems, [1.0, 0.5], out.tolist()) == pytest.approx(before - fallen, rel=1e-7)
    best = min(together(systems, [1.0, 0.5], list(c)) for c in combinations(range(9), 5))
    assert best * (1 - 1e-9) <= before - fallen
    assert fallen >= 0


def test_local_search_finds_the_best_sets_more_often_than_elimination() -> None:
    won, best = [0, 0], 0.0
    for seed in range(30):
        made = system(8, 1, 3, rows=30, seed=seed, centred=False)
        best = min(refit_error(made.layer, list(c)) for c in combinations(range(8), 4))
        for k, removal in enumerate((search([made.layer], [1.0], RIDGE, 2, 4), eliminate([made.layer], [1.0], RIDGE))):
            won[k] += bool(refit_error(made.layer, removal.order[:4].tolist()) <= best * (1 + 1e-9))
    assert won[0] > won[1]


@pytest.mark.parametrize("levels", [1, 4, 11])
def test_search_gives_a_nested_order_with_exact_errors_at_its_levels(levels: int) -> None:
    systems = [system(11, 3, 4, rows=60, seed=7), system(11, 1, 9, rows=60, seed=8)]
    found = search([s.layer for s in systems], [1.0, 0.2], RIDGE, levels, 3)
    assert sorted(found.order.tolist()) == list(range(11))
    for k in range(levels):
        gone = 11 - round(11 * k / levels)
        exact = together(systems, [1.0, 0.2], found.order[:gone].tolist())
        assert found.added[:gone].sum() == pytest.approx(exact, rel=1e-7)


def test_column_by_column_is_obs_with_the_columns_on_the_left_held() -> None:
    made = system(10, 1, 4, rows=60, seed=9)
    removed = np.isin(np.arange(10), [2, 3, 7])
    weights, damped = made.layer.weights.copy(), made.layer.damped(RIDGE)
    for j in (2, 3, 7):
        tail = np.linalg.inv(damped[j:, j:])
        weights[:, j:] -= np.outer(weights[:, j] / tail[0, 0], tail[0])
    weights[:, removed] = 0
    assert np.allclose(updated(made.layer, removed, RIDGE), weights, atol=1e-10)


def test_column_by_column_over_several_blocks() -> None:
    made = system(300, 1, 3, rows=600, seed=10)
    removed = np.arange(300) % 3 == 0
    weights = updated(made.layer, removed, RIDGE)
    assert not weights[:, removed].any()
    left = np.where(removed, 0.0, made.layer.weights)
    best = least_squares(made.layer, removed, RIDGE).weights
    assert made.layer.error(best) < made.layer.error(weights) < made.layer.error(left)


def test_obspa_saliency_of_a_unit() -> None:
    made = system(4, 3, 5, rows=50, always=1, seed=11)
    diagonal = np.diag(np.linalg.inv(made.layer.damped(RIDGE)))
    expected = [
        sum(made.layer.weights[o, c] ** 2 / diagonal[c] for o in range(5) for c in np.flatnonzero(made.layer.unit == u))
        for u in range(4)
    ]
    assert np.allclose(saliencies(made.layer, RIDGE), expected)


@pytest.mark.parametrize("centred", [True, False])
def test_interactions_are_the_energy_of_what_is_removed(centred: bool) -> None:
    made = system(6, 2, 4, rows=40, always=3, centred=centred, seed=12)
    q = interactions(made.layer)
    for gone in ([0], [1, 4], [0, 2, 3, 5]):
        columns = np.isin(made.layer.unit, gone)
        part = made.data[:, columns] @ made.layer.weights[:, columns].T
        part = part - part.mean(axis=0) if centred else part
        assert q[np.ix_(gone, gone)].sum() == pytest.approx(np.square(part).sum() / 40)


def test_thinet_is_greedy() -> None:
    q = interactions(system(7, 2, 3, rows=40, seed=13).layer)
    found = smallest_first(q)
    gone: list[int] = []
    for unit, total in zip(found.order.tolist(), np.cumsum(found.added), strict=True):
        trials = {j: q[np.ix_([*gone, j], [*gone, j])].sum() for j in range(7) if j not in gone}
        assert min(trials, key=lambda j: trials[j]) == unit
        assert total == pytest.approx(trials[unit])
        gone.append(unit)


def test_wanda_and_flap_by_their_formulas() -> None:
    made = system(4, 2, 3, rows=30, always=1, seed=14)
    norms, variances = np.sqrt(np.square(made.data).mean(axis=0)), made.data.var(axis=0)
    weights = made.layer.weights
    for unit in range(4):
        mine = made.layer.unit == unit
        assert wanda(made.layer)[unit] == pytest.approx((np.abs(weights[:, mine]).mean(axis=0) * norms[mine]).sum())
        both = (np.square(weights[:, mine]).sum(axis=0) * variances[mine]).sum()
        assert fluctuation(made.layer)[unit] == pytest.approx(both)
        assert fluctuation(made.layer, weighted=False)[unit] == pytest.approx(variances[mine].sum())


def test_constant_inputs_do_not_break_anything() -> None:
    layer = Layer(np.ones((2, 4)), np.ones((4, 4)), np.ones(4), np.arange(4), 4)
    removed = np.array([True, False, False, False])
    fit = least_squares(layer, removed)
    assert np.allclose(fit.weights[:, 1:], 1.0)
    assert np.allclose(fit.shift, 1.0)
    assert np.isfinite(eliminate([layer], [1.0]).added).all()


def test_bad_moments_are_refused() -> None:
    good = system(4, 2, 3, rows=30).layer
    with pytest.raises(UsageError, match="do not fit"):
        Layer(good.weights, good.second[:3, :3], good.mean, good.unit, 4)
    with pytest.raises(UsageError, match="NaN"):
        Layer(good.weights, np.full_like(good.second, np.nan), good.mean, good.unit, 4)
    thin = system(4, 2, 3, rows=4).layer
    with pytest.raises(UsageError, match="singular"):
        eliminate([thin], [1.0], ridge=0.0)
    with pytest.raises(UsageError, match="different numbers"):
        eliminate([Layer(good.weights, good.second, good.mean, np.array([0, 0, 0, 1, 1, 2, 2, 3]), 4)], [1.0])


@pytest.mark.parametrize("size", [1, 3])
def test_units_that_go_together_go_in_an_order_that_one_by_one_could_take(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = eliminate([system(40, size, 6, rows=400).layer], [1.0], RIDGE)
    monkeypatch.setattr(elimination, "REFRESHED", 5)  # eight at a time
    made = system(40, size, 6, rows=400)
    found = eliminate([made.layer], [1.0], RIDGE)
    assert sorted(found.order) == list(range(40))
    for gone in (1, 7, 20, 39):
        error = refit_error(made.layer, found.order[:gone].tolist())
        assert found.added[:gone].sum() == pytest.approx(error, rel=1e-6)
        assert 0.95 * one.added[:gone].sum() < error < 1.05 * one.added[:gone].sum()


def test_of_two_that_are_alike_only_one_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "REFRESHED", 2)  # half of them at a time
    stream = np.random.default_rng(0)
    half = stream.standard_normal((300, 10))
    data = np.concatenate([half, half + 1e-3 * stream.standard_normal(half.shape)], axis=1)
    layer = Layer(stream.standard_normal((8, 20)), data.T @ data / 300, np.zeros(20), np.arange(20), 20, centred=False)
    found = eliminate([layer], [1.0], 1e-5)
    assert len({unit % 10 for unit in found.order[:10]}) == 10
    assert found.added[:10].sum() < 0.01 * found.added.sum()
