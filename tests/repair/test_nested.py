"""Fits at many widths from one factorisation, in double and in single precision, against solving each by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matrices import fits, solved, system

from graphprune.repair import nested
from graphprune.repair.elimination import eliminate
from graphprune.repair.nested import Nested, missed, sketched

RIDGE = 0.01


@pytest.mark.parametrize("wide", [8, 10_000])
@pytest.mark.parametrize(("size", "always"), [(1, 0), (3, 5)])
def test_every_width(wide: int, size: int, always: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "WIDE", wide)
    layer = system(7, size, 4, rows=60, always=always, seed=3).layer
    order = np.random.default_rng(0).permutation(7)
    made = Nested(layer, order, RIDGE)
    counts = list(range(8 if always else 7))
    for gone, weights in zip(counts, fits(made, counts), strict=True):
        assert np.allclose(weights, solved(layer, order[:gone], RIDGE), atol=1e-8 if wide > 100 else 2e-3)
    for gone in counts[1:]:
        (alone,) = fits(made, [gone])
        assert np.allclose(alone, solved(layer, order[:gone], RIDGE), atol=1e-8 if wide > 100 else 2e-3)


@pytest.mark.parametrize("centred", [True, False])
def test_what_is_missed_on_other_rows(centred: bool) -> None:
    made = system(6, 2, 3, rows=50, centred=centred, seed=5)
    halves = [
        replace(made.layer, second=x.T @ x / 25, mean=x.mean(axis=0), rows=25) for x in (made.data[:25], made.data[25:])
    ]
    order = np.arange(6)
    first = Nested(halves[0], order, RIDGE)
    weights = solved(halves[0], order[:4], RIDGE)
    shift = halves[0].shift(weights) if centred else 0.0
    rest = made.data[25:] @ (made.layer.weights - weights).T - shift
    (change,) = first.changes(first.in_order(made.layer.weights), [4])
    assert missed(first.in_place(change), halves[1], halves[0].mean) == pytest.approx(np.square(rest).sum() / 25)


def test_few_combinations_of_outputs_have_their_energy() -> None:
    weights = np.random.default_rng(1).standard_normal((2000, 30)) * np.linspace(0.1, 2, 30)
    gram = np.cov(np.random.default_rng(2).standard_normal((30, 90)))
    energy = [float(np.einsum("oi,oi->", w @ gram, w)) for w in (weights, sketched(weights))]
    assert len(sketched(weights)) == nested.SKETCH
    assert energy[1] == pytest.approx(energy[0], rel=0.1)
    assert np.array_equal(sketched(weights[:5]), weights[:5])


@pytest.mark.parametrize(("units", "size", "always"), [(40, 1, 0), (24, 3, 4)])
def test_elimination_in_single_precision(units: int, size: int, always: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = system(units, size, 6, rows=300, always=always, seed=8).layer
    exact = eliminate([layer], [1.0], RIDGE)
    monkeypatch.setattr(nested, "WIDE", 8)
    rough = eliminate([layer], [1.0], RIDGE)
    assert np.cumsum(rough.added) == pytest.approx(np.cumsum(exact.added), rel=1e-4)
    careful = eliminate([layer], [1.0], 1e-4)
    monkeypatch.setattr(nested, "WIDE", 10_000)
    assert careful.added == pytest.approx(eliminate([layer], [1.0], 1e-4).added, rel=1e-9)
