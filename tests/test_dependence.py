"""Normalised HSIC against plain sums over samples."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from graphprune import dependence
from graphprune.dependence import centred, gram, nhsic


def activations(count: int = 7, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((count, 5, 3))
    return [first, first.reshape(count, -1) @ rng.standard_normal((15, 4)) + 1, rng.standard_normal((count, 6))]


def test_gram_is_the_product_of_flat_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    x = activations()[0].astype(np.float32)
    monkeypatch.setattr(dependence, "STRETCH", 4)
    flat = x.reshape(7, 15).astype(np.float64)
    np.testing.assert_allclose(gram(x), flat @ flat.T, rtol=1e-12)


def test_biased_is_linear_cka_of_centred_features() -> None:
    """Kornblith et al., section 3: ||Y'X||^2 / (||X'X|| ||Y'Y||) of features with their means taken off."""
    found = nhsic([gram(a) for a in activations()])
    flat = [a.reshape(7, -1) - a.reshape(7, -1).mean(axis=0) for a in activations()]
    for i, x in enumerate(flat):
        for j, y in enumerate(flat):
            wanted = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
            assert found[i, j] == pytest.approx(wanted, rel=1e-10)


def unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al., theorem 2, as a sum over all distinct (i, j, q, r) of the definition's three terms."""
    n = len(k)
    total = 0.0
    for i, j, q, r in permutations(range(n), 4):
        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_debiased_is_the_unbiased_estimator_over_all_quadruples() -> None:
    kernels = [gram(a) for a in activations(6)]
    for k in kernels:
        for m in kernels:
            ours = (centred(k, debiased=True) * centred(m, debiased=True)).sum() / (6 * 3)
            assert ours == pytest.approx(unbiased_hsic(k, m), rel=1e-9)


def test_debiased_is_zero_on_average_where_nothing_depends() -> None:
    values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values.append(nhsic([gram(rng.standard_normal((8, 20))) for _ in range(2)], debiased=True)[0, 1])
    biased = np.mean(
        [nhsic([gram(np.random.default_rng(s).standard_normal((8, 20))) for s in (k, k + 1)])[0, 1] for k in range(20)]
    )
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert biased > 0.5


@pytest.mark.parametrize("debiased", [False, True])
def test_scale_rotation_and_offset_do_not_matter(debiased: bool) -> None:
    x, y, _ = activations()
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    before = nhsic([gram(x), gram(y)], debiased=debiased)
    assert nhsic([gram(3 * x), gram(y @ rotation + 2)], debiased=debiased) == pytest.approx(before)


def test_constants_depend_on_nothing() -> None:
    found = nhsic([gram(np.ones((6, 3))), gram(activations(6)[0])])
    assert found[0].tolist() == [0.0, 0.0]
    assert found[1, 1] == pytest.approx(1.0)
