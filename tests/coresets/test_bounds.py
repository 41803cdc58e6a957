"""Bounds: the published formula, and our own against simulation."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from graphprune.coresets import bounds
from graphprune.scores import FloatArray


def layer(seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sensitivities of 200 ReLU neurons for inputs of norm up to one, their values at some inputs, their weights."""
    rng = np.random.default_rng(seed)
    rows, weights = rng.standard_normal((200, 6)), rng.standard_normal((4, 200))
    x = rng.standard_normal((6, 5))
    values = np.maximum(rows @ (x / np.linalg.norm(x, axis=0)), 0)
    return np.abs(weights).max(axis=0) * np.linalg.norm(rows, axis=1), values, weights


def test_sensitivities_bound_every_contribution() -> None:
    s, values, weights = layer()
    assert (np.abs(weights[:, :, None] * values) <= s[:, None] + 1e-12).all()


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 0.05), (0.2, 0.3)])
def test_so_many_draws_keep_the_error_with_the_probability_promised(epsilon: float, delta: float) -> None:
    s, values, weights = layer()
    total, cells = s.sum(), weights.shape[0] * values.shape[1]
    m = int(bounds.pointwise_sample_size(total, cells, epsilon * total, delta))
    counts = np.random.default_rng(1).multinomial(m, s / total, size=2000)
    scale = counts / (m * s / total)
    errors = np.abs((scale[:, None, :] * weights) @ values - weights @ values).max(axis=(1, 2))
    assert (errors > epsilon * total).mean() <= delta
    # A bound for an eighth of the draws would not hold: the test can fail.
    few = np.random.default_rng(1).multinomial(3, s / total, size=2000) / (3 * s / total)
    assert (
        np.abs((few[:, None, :] * weights) @ values - weights @ values).max(axis=(1, 2)) > 0.05 * total
    ).mean() > 0.3


def test_error_is_the_inverse_of_the_number_of_draws() -> None:
    m = bounds.pointwise_sample_size(12.0, 10, 0.7, 0.05)
    assert bounds.error_after(m, 12.0, 10, 0.05) == pytest.approx(0.7, rel=1e-3)
    assert bounds.error_after(0, 12.0, 10, 0.05) == np.inf


def test_the_published_size() -> None:
    assert bounds.paper_sample_size(20.0, 785, 0.5, 0.1) == np.ceil(20 / 0.25 * (785 * log(20) + log(10)))
    assert bounds.paper_sample_size(20.0, 785, 0.5, 0.1, constant=3) == np.ceil(60 / 0.25 * (785 * log(20) + log(10)))
    # log s does not fall below one
    assert bounds.paper_sample_size(0.1, 4, 1.0, 0.1) == np.ceil(0.1 * (4 + log(10)))
    assert bounds.paper_sample_size(np.inf, 4, 1.0, 0.1) == np.inf


def test_expected_distinct_units() -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(30))
    drawn = np.random.default_rng(3).multinomial(25, p, size=20_000)
    assert bounds.expected_distinct(p, 25) == pytest.approx((drawn > 0).sum(axis=1).mean(), abs=0.05)
    assert bounds.expected_distinct(np.full(10, 0.1), 7) == pytest.approx(10 * (1 - 0.9**7))
    assert bounds.expected_distinct(np.array([0.4, 0.6, 0.0]), np.inf) == 2


@pytest.mark.parametrize("p", [np.full(40, 1 / 40), np.random.default_rng(4).dirichlet(np.full(40, 0.3))])
def test_draws_for_distinct_inverts_it(p: FloatArray) -> None:
    draws = bounds.draws_for_distinct(p)
    assert draws[0] == 0
    assert draws[-1] == np.inf
    assert (np.diff(draws[:-1]) > 0).all()
    for k in range(2, 40):
        assert bounds.expected_distinct(p, draws[k]) == pytest.approx(k, rel=5e-3)


def test_share_of_the_signal_is_the_kept_part_for_equal_units() -> None:
    """m draws of n equal units: the noise is n/m of the signal; the concave majorant of m/(m + n) is the diagonal."""
    assert bounds.kept_share(np.full(64, 1 / 64)) == pytest.approx(np.arange(65) / 64, abs=2e-3)


def test_share_of_the_signal_rises_ever_less_and_unequal_units_need_fewer() -> None:
    p = np.random.default_rng(5).dirichlet(np.full(64, 0.2))
    p[:6] = 0
    share = bounds.kept_share(p / p.sum())
    assert share[0] == 0
    assert (share[58:] == 1).all()
    assert (np.diff(share) >= 0).all()
    assert (np.diff(share, 2) <= 1e-9).all()
    assert share[20] > 20 / 58


def test_concave_majorant_is_the_largest_chord() -> None:
    y = np.random.default_rng(6).random(25)
    wanted = [
        max(
            [y[k]]
            + [(y[i] * (j - k) + y[j] * (k - i)) / (j - i) for i in range(k) for j in range(k + 1, 25)]
        )
        for k in range(25)
    ]  # fmt: skip
    assert bounds.concave_majorant(y) == pytest.approx(wanted, abs=1e-9)
