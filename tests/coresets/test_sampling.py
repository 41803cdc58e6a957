"""Sampling: unbiased by exact enumeration and by simulation, and drawn as the definition says."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.special import gammaln

from graphprune.coresets.sampling import sample
from graphprune.scores import FloatArray

P = np.array([0.2, 0.5, 0.3])
LONGEST = 250
"""Draws after which the probability that no further unit has come is far below rounding."""


def ways(pair: tuple[int, int], p: FloatArray, *, before: bool) -> tuple[FloatArray, FloatArray]:
    """Probabilities and counts (2, ...) of all draws that hold exactly two units, before a third one comes.

    With ``before=False`` they end with the draw that brings the second: the reference's stopping rule.
    """
    i, j = pair
    a, b = np.meshgrid(*[np.arange(1, LONGEST, dtype=np.float64)] * 2, indexing="ij")
    ones = (a == 1).astype(np.float64) + (b == 1)
    with np.errstate(divide="ignore"):
        arrangements = gammaln(a + b + 1) - gammaln(a + 1) - gammaln(b + 1) if before else np.log(ones)
    chance = np.exp(arrangements + a * np.log(p[i]) + b * np.log(p[j]))
    return chance * (1 - p[i] - p[j] if before else 1.0), np.stack([a, b])


def expectation(p: FloatArray, f: FloatArray, *, before: bool) -> tuple[float, float]:
    """The total probability, and the expected estimate of sum f, over all sequences of draws that keep two units."""
    total = mean = 0.0
    for pair in combinations(range(len(p)), 2):
        chance, counts = ways(pair, p, before=before)
        units = np.array(pair)
        estimate = (counts * (f[units] / p[units])[:, None, None]).sum(axis=0) / counts.sum(axis=0)
        total += float(chance.sum())
        mean += float((chance * estimate).sum())
    return total, mean


@pytest.mark.parametrize("p", [P, np.array([0.05, 0.15, 0.5, 0.3])])
def test_stopping_before_the_next_distinct_unit_is_unbiased_exactly(p: FloatArray) -> None:
    f = np.array([3.0, -1.0, 0.25, 7.0])[: len(p)]
    total, mean = expectation(p, f, before=True)
    assert total == pytest.approx(1.0, abs=1e-12)
    assert mean == pytest.approx(f.sum(), abs=1e-10)


def test_stopping_at_the_wanted_unit_is_biased() -> None:
    """What the reference code does; the enumeration can tell."""
    f = np.array([3.0, -1.0, 0.25])
    total, mean = expectation(P, f, before=False)
    assert total == pytest.approx(1.0, abs=1e-12)
    assert abs(mean - f.sum()) > 0.1


def test_counts_are_those_of_drawing_one_by_one() -> None:
    """Frequencies of which two units are kept, and how often each was drawn, against their exact probabilities."""
    runs = 4000
    seen = np.zeros((3, 3, LONGEST, LONGEST))
    for seed in range(runs):
        counts = sample(P, (seed,)).counts(2)
        i, j = np.flatnonzero(counts)
        seen[i, j, counts[i], counts[j]] += 1 / runs
    for i, j in combinations(range(3), 2):
        chance, counts = ways((i, j), P, before=True)
        often = chance > 0.01
        a, b = counts[:, often].astype(int)
        spread = np.sqrt(chance[often] / runs)
        assert len(a) >= 2
        assert (np.abs(seen[i, j, a, b] - chance[often]) < 5 * spread).all()


@pytest.mark.parametrize("kept", [3, 15, 38])
def test_a_layer_is_estimated_without_bias(kept: int) -> None:
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((40, 5)), rng.standard_normal((3, 40))
    x = rng.standard_normal((5, 2))
    values = np.maximum(rows @ x, 0)
    sensitivity = np.abs(weights).max(axis=0) * np.linalg.norm(rows, axis=1)
    estimates = np.array([(weights * sample(sensitivity, (seed,)).weights(kept)) @ values for seed in range(1000)])
    error = estimates.mean(axis=0) - weights @ values
    assert (np.abs(error) < 5 * estimates.std(axis=0) / np.sqrt(len(estimates))).all()
    assert (estimates.std(axis=0) > 0.05).all()


def test_as_many_distinct_units_as_wanted_and_nested() -> None:
    drawn = sample(np.random.default_rng(1).random(50), (3,))
    for kept in (1, 7, 49):
        weights = drawn.weights(kept)
        assert set(np.flatnonzero(weights)) == set(drawn.order[:kept])
        assert (drawn.counts(kept) > 0).sum() == kept


def test_keeping_all_that_can_be_drawn_reweighs_nothing() -> None:
    sensitivity = np.array([0.0, 2.0, 0.0, 1.0, 3.0])
    drawn = sample(sensitivity, (0,))
    assert set(drawn.order[:3]) == {1, 3, 4}
    assert (drawn.weights(3) == 1).all()
    assert (drawn.weights(4) == 1).all()
    assert (drawn.weights(2)[[0, 2]] == 0).all()


def test_a_unit_of_tiny_probability_takes_no_longer() -> None:
    drawn = sample(np.array([1.0, 1.0, 1e-16]), (0,))
    counts = drawn.counts(2)
    assert counts[2] == 0
    assert counts.min() == 0
    assert counts.sum() > 1e9
    assert drawn.weights(2)[:2] == pytest.approx([1, 1], abs=1e-3)


def test_nothing_to_draw() -> None:
    drawn = sample(np.zeros(3), (0,))
    assert drawn.drawable == 0
    assert (drawn.weights(2) == 1).all()


def test_same_seed_same_draws() -> None:
    s = np.random.default_rng(0).random(20)
    assert np.array_equal(sample(s, (1, 2)).weights(9), sample(s, (1, 2)).weights(9))
    assert not np.array_equal(sample(s, (1, 2)).weights(9), sample(s, (1, 3)).weights(9))
