"""The truncated log-normal: the paper's test vectors, and quadrature over a wide grid to its extremes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr
from scipy.stats import kstest, truncnorm
from torch import Tensor

from graphprune.gating import log_normal

LOW, HIGH = -20.0, 0.0
VECTORS = [
    (0.0, -5.0, 7.26994, 0.994647, 246.70),
    (-1.0, math.log(0.5), 2.34820, 0.398069, 2.1703),
    (-3.0, math.log(1.5), 1.24959, 0.108508, 0.6939),
    (-10.0, math.log(5.0), 0.12705, 0.017229, 0.2110),
    (0.0, math.log(3.0), 1.17133, 0.243028, 0.9153),
    (2.0, 0.0, 2.98676, 0.722858, 3.6555),
]
"""mu, log sigma, KL, E[theta], SNR."""
MEANS = [-20.0, -19.5, -10.0, -3.0, -0.5, -1e-4, 0.0, 1e-6, 0.03, 0.5, 2.0, 5.0]
LOG_SIGMAS = [-20.0, -14.0, -9.0, -5.0, -2.5, -1.0, 0.0, 1.0, 2.0, 3.5, 5.0]
GRID = [*product(MEANS, LOG_SIGMAS), (100.0, -3.0), (-150.0, 0.5), (1000.0, 1.0), (-40.0, 4.0)]
"""All that projected parameters may be, corner to corner, and some that they may not."""


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@dataclass(frozen=True)
class Quadrature:
    """What numerical integration says: the divergence, its derivatives, log E[theta], the log of SNR."""

    kl: float
    by_mu: float
    by_log_sigma: float
    log_mean: float
    log_snr: float


@cache
def quadrature(mu: float, log_sigma: float) -> Quadrature:
    """Integrate by Gauss-Legendre panels over where the density is not negligible, in distances from its peak."""
    sigma = math.exp(log_sigma)
    peak = min(max(mu, LOW), HIGH)
    shift = (peak - mu) / sigma  # how far the peak is from the untruncated mean
    scale = 1 / max(abs(shift), 1)
    x = panels(max((LOW - peak) / sigma, -45 * scale), min((HIGH - peak) / sigma, 45 * scale))
    points, weights = x
    log_density = -points * (2 * shift + points) / 2
    weights = weights * np.exp(log_density)
    mass = weights.sum()
    share = weights / mass
    square = points * (2 * shift + points)  # of the standardised variable, less its value at the peak

    def covariance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(share @ ((a - share @ a) * (b - share @ b)))

    rise = np.expm1(sigma * points)
    average = float(share @ rise)
    deviation = math.sqrt(float(share @ (rise - average) ** 2))
    return Quadrature(
        kl=math.log(HIGH - LOW) - log_sigma - math.log(mass) + float(share @ log_density),
        by_mu=covariance(points, log_density) / sigma,
        by_log_sigma=covariance(square, log_density),
        log_mean=peak + math.log1p(average),
        log_snr=math.log1p(average) - math.log(deviation),
    )


def panels(start: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(start, end, 301)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()


@pytest.mark.parametrize(("mu", "log_sigma", "kl", "mean", "snr"), VECTORS)
def test_published_vectors(mu: float, log_sigma: float, kl: float, mean: float, snr: float) -> None:
    args = scalar(mu), scalar(log_sigma)
    assert log_normal.kl(*args).item() == pytest.approx(kl, abs=5.1e-6)
    assert log_normal.mean(*args).item() == pytest.approx(mean, abs=5.1e-7)
    assert log_normal.log_snr(*args).exp().item() == pytest.approx(snr, rel=1e-4)


def test_a_wide_one_is_the_prior() -> None:
    args = scalar(-3.0), scalar(12.0)
    assert log_normal.kl(*args).item() == pytest.approx(0, abs=1e-9)
    assert log_normal.mean(*args).item() == pytest.approx(0.05, rel=1e-7)
    assert log_normal.log_snr(*args).exp().item() == pytest.approx(1 / 3, rel=1e-3)


@pytest.mark.parametrize(("mu", "log_sigma"), GRID)
def test_closed_forms_are_the_integrals(mu: float, log_sigma: float) -> None:
    expected = quadrature(mu, log_sigma)
    mean, spread = scalar(mu).requires_grad_(), scalar(log_sigma).requires_grad_()
    kl = log_normal.kl(mean, spread)
    by_mu, by_log_sigma = torch.autograd.grad(kl, (mean, spread))
    assert kl.item() == pytest.approx(expected.kl, rel=1e-10, abs=1e-10)
    assert by_log_sigma.item() == pytest.approx(expected.by_log_sigma, rel=1e-7, abs=1e-10)
    assert by_mu.item() == pytest.approx(expected.by_mu, rel=1e-6, abs=1e-7 * math.exp(-min(log_sigma, 0)))
    with torch.no_grad():
        assert log_normal.log_moment(1, mean, spread).item() == pytest.approx(expected.log_mean, abs=1e-11)
        assert log_normal.log_snr(mean, spread).item() == pytest.approx(expected.log_snr, abs=1e-6)


def test_moments_are_the_papers_where_that_holds() -> None:
    """The paper writes them with scaled complementary error functions; it fails once exp(-B^2/2) underflows."""
    rng = np.random.default_rng(0)
    mu, log_sigma = rng.uniform(-8, 1, 200), rng.uniform(-1, 2, 200)
    sigma = np.exp(log_sigma)
    a, b = (LOW - mu) / sigma, (HIGH - mu) / sigma
    z = np.exp(log_ndtr(b)) - np.exp(log_ndtr(a))
    for n in (1, 2, 3):
        ends = [erfcx((n * sigma - x) / math.sqrt(2)) * np.exp(n * e - x**2 / 2) for x, e in ((b, HIGH), (a, LOW))]
        found = log_normal.log_moment(n, torch.from_numpy(mu), torch.from_numpy(log_sigma)).exp()
        np.testing.assert_allclose(found.numpy(), (ends[0] - ends[1]) / (2 * z), rtol=1e-10)


def test_other_intervals() -> None:
    """An interval moved along with mu changes nothing but the scale of theta."""
    mu, log_sigma = torch.linspace(-4, 3, 15), torch.full((15,), 0.3)
    moved = log_normal.kl(mu + 7, log_sigma, LOW + 7, HIGH + 7)
    torch.testing.assert_close(moved, log_normal.kl(mu, log_sigma), rtol=1e-12, atol=1e-12)
    means = log_normal.mean(mu + 7, log_sigma, LOW + 7, HIGH + 7)
    torch.testing.assert_close(means, math.exp(7) * log_normal.mean(mu, log_sigma))


def test_single_precision_parameters_are_computed_in_double() -> None:
    args = torch.tensor([5.0, 0.0]), torch.tensor([-20.0, -5.0])
    assert log_normal.kl(*args).dtype == torch.float64
    assert log_normal.kl(*args)[0].item() == pytest.approx(quadrature(5.0, -20.0).kl, rel=1e-9)


# Samples --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mu", "log_sigma"), [(-1.0, -0.7), (0.0, -5.0), (2.0, 0.0), (-3.0, 3.0), (-21.0, 0.5)])
def test_samples_have_the_distribution(mu: float, log_sigma: float) -> None:
    sigma = math.exp(log_sigma)
    draws = log_normal.sample(
        torch.rand(4000, generator=torch.Generator().manual_seed(3)), scalar(mu), scalar(log_sigma)
    )
    law = truncnorm((LOW - mu) / sigma, (HIGH - mu) / sigma, mu, sigma)
    assert kstest(draws.log().numpy(), law.cdf).pvalue > 0.01


@pytest.mark.parametrize(("mu", "log_sigma"), [g for g in GRID if quadrature(*g).log_snr < 20])
def test_samples_are_the_inverse_of_the_distribution(mu: float, log_sigma: float) -> None:
    """By quadrature up to the sample; where the noise is not lost in the rounding of log theta."""
    probabilities = torch.tensor([1e-9, 1e-3, 0.2, 0.5, 0.9, 0.9999], dtype=torch.float64)
    draws = log_normal.sample(probabilities, scalar(mu), scalar(log_sigma)).log()
    assert (draws.diff() >= 0).all()
    found = [below(mu, math.exp(log_sigma), x) for x in draws.tolist()]
    slack = 1e-15 * math.exp(quadrature(mu, log_sigma).log_snr)  # log theta is rounded, compared with its deviation
    np.testing.assert_allclose(found, probabilities.numpy(), rtol=1e-7, atol=10 * slack + 1e-12)


def below(mu: float, sigma: float, x: float) -> float:
    """Return the probability of log theta < x."""
    peak = min(max(mu, LOW), HIGH)
    shift = (peak - mu) / sigma
    reach = 45 / max(abs(shift), 1)
    start, end = max((LOW - peak) / sigma, -reach), min((HIGH - peak) / sigma, reach)
    middle = min(max((x - peak) / sigma, start), end)
    masses = []
    for stretch in ((start, middle), (middle, end)):
        points, weights = panels(*stretch)
        masses.append(float(weights @ np.exp(-points * (2 * shift + points) / 2)))
    return masses[0] / sum(masses)


@pytest.mark.parametrize(
    ("mu", "log_sigma"), [(-1.0, -0.7), (0.0, -5.0), (0.2, -4.0), (2.0, 0.0), (-3.0, 3.0), (-21.0, -2.0), (5.0, -5.0)]
)
def test_derivatives_of_samples_are_those_of_finite_differences(mu: float, log_sigma: float) -> None:
    probabilities = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    args = [scalar(mu).requires_grad_(), scalar(log_sigma).requires_grad_()]
    for k, step in ((0, 1e-4 * math.exp(log_sigma)), (1, 1e-5)):
        sides = []
        for sign in (1, -1):
            moved = [a.detach() + (sign * step if j == k else 0) for j, a in enumerate(args)]
            sides.append(log_normal.sample(probabilities, *moved).log())
        slope = (sides[0] - sides[1]) / (2 * step)
        found = [torch.autograd.grad(log_normal.sample(p, *args).log(), args)[k] for p in probabilities]
        torch.testing.assert_close(torch.stack(found), slope, rtol=1e-4, atol=1e-8)


def test_extremes_give_finite_gradients() -> None:
    corners = torch.tensor(GRID, dtype=torch.float64)
    mu, log_sigma = corners[:, 0].clone().requires_grad_(), corners[:, 1].clone().requires_grad_()
    for u in (0.0, 1e-12, 0.5, 1 - 1e-16):
        draws = log_normal.sample(torch.full((len(corners),), u, dtype=torch.float64), mu, log_sigma)
        grads = torch.autograd.grad(draws.sum() + log_normal.kl(mu, log_sigma).sum(), (mu, log_sigma))
        assert draws.isfinite().all()
        assert all(g.isfinite().all() for g in grads)
