"""VIBNet's gate: normal noise whose mean and variance are trained, one of each a unit.

After Dai, Zhu, Guo, Wipf, *Compressing Neural Networks using the Variational Information Bottleneck* (ICML 2018, arXiv
1802.10399, section 3). A unit h becomes h * z, z ~ N(mu, sigma^2). Against the best normal prior around zero the
divergence, as far as it depends on mu and sigma, is 1/2 log(1 + alpha) with alpha = mu^2 / sigma^2.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ..scores import FloatArray
from .gate import Gate

EPSILON = 1e-8
"""Keeps the logarithm of mu^2 finite."""
SPREAD = 0.01
"""Standard deviation of what mu and logvar begin at."""
START = -9.0
"""The mean of the first logvar: noise of 1%, alpha of about 8000."""
LOGVAR = (-20.0, 10.0)


class VibGate(nn.Module):
    """A gate for ``units`` units; see ``gate.Gate``. ``mu`` and ``logvar``, shape (units,), are what is trained.

    They begin at N(1, 0.01^2) and N(-9, 0.01^2), drawn from ``seed``. In training every sample and unit has a draw of
    its own.
    """

    def __init__(self, units: int, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.randn(2, units, generator=torch.Generator().manual_seed(seed)) * SPREAD
        self.mu = nn.Parameter(1.0 + drawn[0])
        self.logvar = nn.Parameter(START + drawn[1])
        self.register_buffer("kept", torch.ones(units, dtype=torch.bool))

    def forward(self, first_input: Tensor) -> Tensor:
        """Return draws of shape (batch, units) in training; mu where kept and 0 elsewhere, shape (units,), else."""
        if not self.training:
            return self.mu * self.kept
        noise = torch.randn(len(first_input), len(self.mu), device=self.mu.device, dtype=self.mu.dtype)
        return torch.addcmul(self.mu, noise, (0.5 * self.logvar).exp())

    def kl(self) -> Tensor:
        """Return the sum over units of 1/2 log(1 + alpha), in nats: a scalar."""
        return 0.5 * F.softplus(self._log_alpha(self.mu, self.logvar)).sum()

    def expected(self) -> Tensor:
        """Return mu, shape (units,), in float64."""
        return self.mu.detach().double()

    def log_ratio(self) -> Tensor:
        """Return log alpha = log(mu^2 / sigma^2), shape (units,), in float64."""
        return self._log_alpha(self.mu.detach().double(), self.logvar.detach().double())

    def project(self) -> None:
        """Clamp logvar to [-20, 10]."""
        with torch.no_grad():
            self.logvar.clamp_(*LOGVAR)

    @staticmethod
    def _log_alpha(mu: Tensor, logvar: Tensor) -> Tensor:
        return (mu.square() + EPSILON).log() - logvar


def worth(gate: Gate) -> FloatArray:
    """Return 1/2 log(1 + alpha) of every unit, shape (units,): the nats that get through its noise."""
    carried: FloatArray = 0.5 * np.logaddexp(0.0, gate.log_ratio().cpu().numpy())
    return carried
