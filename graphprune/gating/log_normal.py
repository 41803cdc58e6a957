"""The log-normal truncated to an interval: divergence, moments, signal over noise and samples, differentiable.

log theta ~ N(mu, sigma^2), conditioned on [low, high]; the prior is uniform there. After Neklyudov et al., *Structured
Bayesian Pruning via Log-Normal Multiplicative Noise* (arXiv 1705.07283, section 3 and appendices), whose closed forms
these are, arranged so that they hold where the direct ones fail: means far outside of the interval, tiny deviations.

All of it is said of the standard normal on [t, t + w], w = (high - low) / sigma. By symmetry t is the end nearest the
mean: negative where the mean lies inside, positive where it lies outside, and then the mass near t is that of a tail.
What it takes is M(t), the mass beyond t over the density there (Mills' ratio, a scaled erfc), and r(t) = 1/M(t) - t,
the excess of the hazard over t. Above ``FAR`` both come from the asymptotic series of r, where a difference
of large numbers would lose them.

Everything is computed in float64, whatever the arguments are. Meant for intervals of length 1 and more, mu from -1e3 to
1e3 and sigma from 1e-9 to 200; what the gates allow is well within.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LOW, HIGH = -20.0, 0.0
"""The interval of log theta that the paper takes: theta from 2e-9 to 1."""
FAR = 30.0
"""From here on the series is as exact as float64, and below the difference still is (30^2 roundings)."""
TAIL = 5.0
"""Beyond this many deviations samples are found in the logarithm, where the mass itself underflows in time."""
SERIES = (1.0, -2.0, 10.0, -74.0, 706.0, -8162.0, 110410.0)
"""r(t) = sum of these over t^(2k + 1): the asymptotic series of the normal's hazard, less t."""
BEYOND = 1e6
"""The far end is moved here if it is further away: there is nothing behind, and torch's log_ndtr has no gradient at
-1e8 and below.
"""
SAME = 1e-6
"""Below this the difference that makes the variance loses half its digits; its second derivative takes its place."""
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class _Ends:
    """[t, t + w] and what it was made of: the ends a < b before any reflection, all in float64."""

    a: Tensor
    b: Tensor
    near: Tensor
    width: Tensor


_Formula = Callable[[_Ends], Tensor]


def kl(mu: Tensor, log_sigma: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Return the divergence from the uniform prior on [low, high] in nats, element by element, float64.

    It is log(high - low) less the entropy, 0 where sigma goes to infinity. Shapes are those of the arguments.
    """
    mu, log_sigma = mu.double(), log_sigma.double()
    ends = _ends(mu, log_sigma, low, high)
    return math.log(high - low) - log_sigma - 0.5 - _where_far(ends, _entropy_beyond, _entropy)


def log_moment(n: float, mu: Tensor, log_sigma: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Return log E[theta^n] for n >= 0, element by element, float64."""
    mu, log_sigma = mu.double(), log_sigma.double()
    sigma, ends = log_sigma.exp(), _ends(mu, log_sigma, low, high)
    shifted = _shifted(ends, n * sigma)
    zero = torch.clamp(torch.zeros_like(mu), ends.a, ends.b)
    peak = torch.clamp(n * sigma, ends.a, ends.b)
    drift = n * (mu + sigma * peak) + 0.5 * (zero - peak) * (zero + peak)
    return drift + _where_far(shifted, _log_mass_beyond, _log_mass) - _where_far(ends, _log_mass_beyond, _log_mass)


def mean(mu: Tensor, log_sigma: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Return E[theta], element by element, float64: between exp(low) and exp(high)."""
    return log_moment(1.0, mu, log_sigma, low, high).exp()


def log_snr(mu: Tensor, log_sigma: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Return the log of mean over standard deviation, element by element, float64.

    The ratio is 1/sigma for a narrow distribution inside of the interval; at sigma to infinity it is the prior's, for
    the paper's interval 1/3.
    """
    mu, log_sigma = mu.double(), log_sigma.double()
    first = log_moment(1.0, mu, log_sigma, low, high)
    gap = log_moment(2.0, mu, log_sigma, low, high) - 2 * first  # log(1 + 1/SNR^2)
    narrow = gap < SAME
    # The gap is the second difference, by sigma, of log E[theta^n] in n; its curvature is that of log M, at the middle.
    sigma = log_sigma.exp()
    ends = _ends(mu, log_sigma, low, high)
    middle = torch.maximum(ends.a - sigma, sigma - ends.b)
    tiny = 2 * log_sigma + torch.log(_curvature(middle))
    safe = torch.where(narrow, torch.ones_like(gap), gap)
    return -0.5 * torch.where(narrow, tiny, torch.log(torch.expm1(safe)))


def sample(uniform: Tensor, mu: Tensor, log_sigma: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Return theta, float64, at cumulative probabilities of [0, 1): the draw, differentiable in mu and log_sigma.

    ``uniform`` has the shape of the parameters, perhaps with more axes in front (a draw for each example).
    """
    mu, log_sigma = mu.double(), log_sigma.double()
    ends = _ends(mu, log_sigma, low, high)
    upward = ends.a >= -ends.b
    share = torch.where(upward, uniform.double(), 1 - uniform.double()).clamp(max=1 - 2.0**-53)
    distance = _choose(
        ends.near > TAIL, ends, lambda e: _distance_beyond(e, share), lambda e: _distance(e, share), TAIL
    )
    steps = torch.clamp(log_sigma.exp() * torch.clamp(distance, min=0), max=high - low)
    return torch.where(upward, low + steps, high - steps).exp()


# The interval ---------------------------------------------------------------------------------------------------------


def _ends(mu: Tensor, log_sigma: Tensor, low: float, high: float) -> _Ends:
    sigma = log_sigma.exp()
    a, b = (low - mu) / sigma, (high - mu) / sigma
    return _Ends(a, b, torch.maximum(a, -b), (high - low) / sigma)


def _shifted(ends: _Ends, by: Tensor) -> _Ends:
    a, b = ends.a - by, ends.b - by
    return _Ends(a, b, torch.maximum(a, -b), ends.width)


def _where_far(ends: _Ends, beyond: _Formula, within: _Formula) -> Tensor:
    return _choose(ends.near > FAR, ends, beyond, within, FAR)


def _choose(far: Tensor, ends: _Ends, beyond: _Formula, within: _Formula, limit: float) -> Tensor:
    """Return one formula where ``far``, another elsewhere; neither sees, nor has a gradient at, what it is not for.

    Far ends are rare: without any, their formula is not computed.
    """
    if not bool(far.any()):
        return within(ends)
    near = ends.near
    outer = beyond(_Ends(ends.a, ends.b, torch.where(far, near, limit), ends.width))
    inner = within(_Ends(ends.a, ends.b, torch.where(far, limit, near), ends.width))
    return torch.where(far, outer, inner)


# Within reach: logarithms of the mass ---------------------------------------------------------------------------------


def _log_masses(ends: _Ends) -> tuple[Tensor, Tensor]:
    """Return the logs of the mass beyond t, and of that between t and t + w."""
    beyond = torch.special.log_ndtr(-ends.near)
    drop = beyond - torch.special.log_ndtr(-_far_end(ends))
    return beyond, beyond + torch.log(-torch.expm1(-drop))


def _far_end(ends: _Ends) -> Tensor:
    return torch.clamp(ends.near + ends.width, max=BEYOND)


def _log_mass(ends: _Ends) -> Tensor:
    """Return the log of the mass over the density's maximum on the interval, less half a log tau."""
    outside = torch.clamp(ends.near, min=0)
    return _log_masses(ends)[1] + 0.5 * outside * outside


def _entropy(ends: _Ends) -> Tensor:
    """Return the entropy of the standard normal on [t, t + w], less 1/2."""
    near, far = ends.near, _far_end(ends)
    mass = _log_masses(ends)[1]
    at_near, at_far = (torch.exp(-0.5 * x * x - HALF_LOG_TAU - mass) for x in (near, far))
    return mass + HALF_LOG_TAU + 0.5 * (near * at_near - far * at_far)


# Far out: what is left after the tail's own scale is divided out -----------------------------------------------------


def _excess(t: Tensor, series: tuple[float, ...] = SERIES) -> Tensor:
    """Return r(t) = 1/M(t) - t for t of at least FAR."""
    inverse = 1 / (t * t)
    total = torch.full_like(t, series[-1])
    for coefficient in series[-2::-1]:
        total = coefficient + inverse * total
    return total / t


def _ratio(ends: _Ends) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hazard at t, the density at t + w over that at t, and the same of the masses beyond."""
    far = ends.near + ends.width
    hazard = ends.near + _excess(ends.near)
    density = torch.exp(-ends.width * (ends.near + 0.5 * ends.width))
    return hazard, density, density * hazard / (far + _excess(far))


def _log_mass_beyond(ends: _Ends) -> Tensor:
    hazard, _, masses = _ratio(ends)
    return torch.log1p(-masses) - torch.log(hazard) - HALF_LOG_TAU


def _entropy_beyond(ends: _Ends) -> Tensor:
    hazard, density, masses = _ratio(ends)
    near, far = ends.near, ends.near + ends.width
    bend = near * (_excess(near) + near * masses) - far * hazard * density
    return torch.log1p(-masses) - torch.log(hazard) + 0.5 * bend / (1 - masses)


def _curvature(t: Tensor) -> Tensor:
    """Return the second derivative of log M(t), which is -r'(t) = 1 - hazard * r: 1 inside, 1/t^2 far out."""
    far = t > FAR
    inside = torch.where(far, FAR, t)
    hazard = torch.exp(-0.5 * inside * inside - HALF_LOG_TAU - torch.special.log_ndtr(-inside))
    outside = torch.where(far, t, FAR)
    slopes = tuple((2 * k + 1) * coefficient for k, coefficient in enumerate(SERIES))
    return torch.where(far, _excess(outside, slopes) / outside, 1 - hazard * (hazard - inside))


# Samples: how far from the near end -----------------------------------------------------------------------------------


def _distance(ends: _Ends, share: Tensor) -> Tensor:
    """Return x - t where the mass between t and x is ``share`` of the whole, by the inverse of the normal's tail."""
    beyond, mass = _log_masses(ends)
    left = beyond.exp() - share * mass.exp()
    smallest = torch.finfo(torch.float64).tiny
    return -torch.special.ndtri(torch.clamp(left, smallest, 1 - 1e-16)) - ends.near


def _distance_beyond(ends: _Ends, share: Tensor) -> Tensor:
    """Return the same where the mass may underflow: the root s of log M(t) - log M(t + s) + s (t + s/2) = -log(left).

    Newton's method converges from the root of s (t + s/2), since M changes little. The last step carries the gradient.
    """
    near, width = ends.near, ends.width
    target = -torch.log1p(share * torch.expm1(-_drop(near, width)))
    with torch.no_grad():
        root = 2 * target / (near + torch.sqrt(near * near + 2 * target))
        for _ in range(2):
            root = root - (_drop(near, root) - target) / _hazard(near + root)
    return root - (_drop(near, root) - target) / _hazard(near + root).detach()


def _drop(t: Tensor, s: Tensor) -> Tensor:
    """Return the log of the mass beyond t over that beyond t + s, for t of at least TAIL."""
    return torch.log(_hazard(t + s) / _hazard(t)) + s * (t + 0.5 * s)


def _hazard(t: Tensor) -> Tensor:
    """Return 1/M(t) for t of at least TAIL."""
    scaled = torch.special.erfcx(torch.clamp(t, max=FAR) / math.sqrt(2))
    return torch.where(
        t > FAR, torch.clamp(t, min=FAR) + _excess(torch.clamp(t, min=FAR)), math.sqrt(2 / math.pi) / scaled
    )
