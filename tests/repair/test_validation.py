"""Few rows: ridges by generalised cross-validation, and errors on rows that fits have not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matrices import System, elsewhere, system
from numpy.typing import NDArray

from graphprune.repair import nested
from graphprune.repair.elimination import eliminate
from graphprune.repair.fit import least_squares, validated_ridge
from graphprune.repair.layer import Layer, Targets
from graphprune.repair.ridges import STEPS, best_ridge
from graphprune.repair.validation import LEVELS, validated
from graphprune.scores import FloatArray


def of_rows(layer: Layer, data: FloatArray) -> Layer:
    """The same layer with the moments of some rows."""
    n = len(data)
    return replace(layer, second=data.T @ data / n, mean=data.mean(axis=0), rows=n)


def halves(made: System) -> tuple[Layer, Layer]:
    middle = len(made.data) // 2
    return of_rows(made.layer, made.data[:middle]), of_rows(made.layer, made.data[middle:])


@pytest.mark.parametrize("rows", [30, 90])
def test_the_ridge_has_the_least_score_of_those_tried(rows: int) -> None:
    """Against explicit ridge regressions, of which residuals and the trace of the hat matrix are taken."""
    made = system(20, 1, 4, rows=rows, seed=1)
    x = made.data - made.data.mean(axis=0)
    y = x @ made.layer.weights.T + np.random.default_rng(2).standard_normal((rows, 4))
    gram = x.T @ x / rows
    values, vectors = np.linalg.eigh(gram)
    explained = np.square(y.T @ x / rows @ vectors).sum(axis=0)
    found = validated_ridge(np.maximum(values, 0), explained, float(np.square(y).sum() / rows), rows, 1e-3)
    best, scores = None, {}
    for ridge in 1e-3 * np.geomspace(1.0, 1e6, 37):
        hat = x @ np.linalg.solve(gram + ridge * np.eye(20), x.T) / rows
        free = 1 - 1.4 * (1 + np.trace(hat)) / rows
        scores[ridge] = np.square(y - hat @ y).sum() / rows / free**2 if free > 0 else np.inf
    best = min(scores, key=lambda r: scores[r])
    assert found == pytest.approx(best)


def test_few_rows_get_a_ridge_that_holds_on_others() -> None:
    """Fewer rows than columns: the given ridge fits them all but exactly; the one chosen misses less of other rows."""
    made = system(80, 1, 6, rows=4000, seed=3)
    noisy = made.data + 0.7 * np.random.default_rng(4).standard_normal(made.data.shape)
    few, many = of_rows(made.layer, noisy[:50]), of_rows(made.layer, noisy[50:])
    removed = np.arange(80) % 2 == 0
    chosen = least_squares(few, removed, 1e-4)
    given = least_squares(replace(few, rows=0), removed, 1e-4)
    assert given.after < chosen.after
    assert elsewhere(many, chosen.weights, chosen.shift) < 0.8 * elsewhere(many, given.weights, given.shift)


def test_errors_elsewhere_are_those_of_explicit_rows() -> None:
    made = system(10, 2, 4, rows=60, seed=5)
    first, second = halves(made)
    fit = least_squares(first, np.isin(first.unit, [1, 2]))
    other = made.data[30:]
    missed = other @ made.layer.weights.T - other @ fit.weights.T - fit.shift
    assert elsewhere(second, fit.weights, fit.shift) == pytest.approx(np.square(missed).sum() / 30)


def damped_fit(layer: Layer, gone: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """The weights and shift that miss least under the damped moments of all columns, by solving for them."""
    damped, left = layer.damped(0.01), ~gone
    made = np.zeros_like(layer.weights)
    made[:, left] = np.linalg.solve(damped[np.ix_(left, left)], (layer.weights @ damped)[:, left].T).T
    return made, layer.shift(made) if layer.centred else np.zeros(len(made))


def test_increments_add_up_to_errors_on_the_other_half() -> None:
    made = system(14, 1, 5, rows=40, seed=6)
    first, second = halves(made)
    plain = eliminate([of_rows(made.layer, made.data)], [2.0])
    found = validated(plain, ([first], [second]), [2.0], 0.01)
    assert found.order.tolist() == plain.order.tolist()
    least = 0.0
    for k in range(1, LEVELS + 1):
        count = 2 * k
        gone = np.isin(first.unit, plain.order[:count])
        crossed = [elsewhere(b, *damped_fit(a, gone)) for a, b in ((first, second), (second, first))]
        least = max(least, sum(crossed))
        assert found.added[:count].sum() == pytest.approx(least)
    assert (found.added >= 0).all()


def test_wide_layers_are_fitted_on_the_first_half_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = system(14, 1, 5, rows=40, seed=6)
    first, second = halves(made)
    monkeypatch.setattr(nested, "WIDE", 8)
    plain = eliminate([of_rows(made.layer, made.data)], [1.0])
    found = validated(plain, ([first], [second]), [1.0], 0.01)
    least = 0.0
    for count in range(2, 14, 2):
        weights, shift = damped_fit(first, np.isin(first.unit, plain.order[:count]))
        least = max(least, elsewhere(second, weights, shift))
        assert found.added[:count].sum() == pytest.approx(least, rel=1e-4)


@pytest.mark.parametrize("wide", [8, 10_000])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.6, 2.0, 6.0])
def test_the_ridge_is_the_first_that_the_next_does_not_beat(
    noise: float, centred: bool, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of explicit fits on the other half's rows, both ways, of a wide layer one way."""
    monkeypatch.setattr(nested, "WIDE", wide)
    made = system(12, 1, 4, rows=60, centred=centred, drift=0.4, seed=2)
    wanted = made.dense @ made.layer.weights.T + noise * np.random.default_rng(1).standard_normal((60, 4))
    gone = np.arange(12) < 3
    parts = [with_targets(made.layer, x, y) for x, y in ((made.data[k], wanted[k]) for k in (slice(30), slice(30, 60)))]
    errors = []
    for step in STEPS:
        fits = [least_squares(part, gone, 0.01 * step, validate=False) for part in parts]
        ways = [elsewhere(judge, f.weights, f.shift) for judge, f in zip(parts[::-1], fits, strict=True)]
        errors.append(sum(ways[: 1 if wide == 8 else 2]))
    rising = [k for k in range(len(STEPS) - 1) if errors[k + 1] >= errors[k]]
    wanted_step = STEPS[rising[0] if rising else -1]
    assert best_ridge([parts[0]], [parts[1]], [gone], 0.01) == 0.01 * wanted_step


def with_targets(layer: Layer, x: FloatArray, y: FloatArray) -> Layer:
    targets = Targets(y.T @ x / len(x), y.mean(axis=0), np.square(y).mean(axis=0))
    return replace(of_rows(layer, x), targets=targets)


def test_many_rows_are_believed() -> None:
    made = system(6, 1, 3, rows=400, seed=7)
    plain = eliminate([of_rows(made.layer, made.data)], [1.0])
    first, second = halves(made)
    assert validated(plain, ([first], [second]), [1.0], 0.01) is plain
