"""SBP's gate: multiplicative noise from a truncated log-normal, whose two parameters a unit are trained.

After Neklyudov, Molchanov, Ashukha, Vetrov, *Structured Bayesian Pruning via Log-Normal Multiplicative Noise* (NIPS
2017, arXiv 1705.07283, section 3). A unit h becomes h * theta, log theta from a normal truncated to [-20, 0]; the prior
of log theta is uniform there. Units whose theta is more noise than signal are removed, the others scaled by E[theta].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..scores import FloatArray
from . import log_normal
from .gate import Gate

START = -5.0
"""The first log sigma: noise of 0.7%, a signal over noise of about 250."""
RANGE = (-20.0, 5.0)
"""What mu and log sigma are kept in. The reference clips inside of its graph, which stops gradients beyond."""

CROWD = 0.25
"""The part of a group's units near the threshold that is worth a warning."""
CLOSED, EVERY = -0.5, 50
"""A gradual gate closes units of this log SNR and less (SNR 0.6; the prior has 0.33), looking every so many steps."""


class SbpGate(nn.Module):
    """A gate for ``units`` units; see ``gate.Gate``. ``mu`` and ``log_sigma``, shape (units,), are what is trained.

    They begin at 0 and -5. In training the units draw one theta a forward pass, as in the reference, or with
    ``per_example`` one for every sample, which is less noisy and costs (batch, units) draws. With ``gradual`` units
    that have become mostly noise are closed for good while the others are still trained, though never the last one:
    the net then gets used to their absence, instead of losing them all at the end.
    """

    def __init__(self, units: int, *, per_example: bool = False, gradual: bool = False) -> None:
        super().__init__()
        self.per_example, self.gradual = per_example, gradual
        self.mu = nn.Parameter(torch.zeros(units))
        self.log_sigma = nn.Parameter(torch.full((units,), START))
        self.register_buffer("kept", torch.ones(units, dtype=torch.bool))
        if gradual:  # a buffer, so that a run that is taken up looks when it would have
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, first_input: Tensor) -> Tensor:
        """Return draws of shape (units,) or (batch, units) in training; E[theta] where kept and 0 elsewhere, else."""
        if not self.training:
            return (self.expected() * self.kept).to(self.mu.dtype)
        shape = (len(first_input), len(self.mu)) if self.per_example else self.mu.shape
        uniform = torch.rand(shape, device=self.mu.device, dtype=torch.float64)
        drawn = log_normal.sample(uniform, self.mu, self.log_sigma).to(self.mu.dtype)
        return drawn * self.kept if self.gradual else drawn

    def kl(self) -> Tensor:
        """Return the sum over units of the divergence from the log-uniform prior, in nats: a scalar."""
        return log_normal.kl(self.mu, self.log_sigma).sum().to(self.mu.dtype)

    def expected(self) -> Tensor:
        """Return E[theta], shape (units,), in float64, detached."""
        return log_normal.mean(self.mu.detach(), self.log_sigma.detach())

    def log_ratio(self) -> Tensor:
        """Return log SNR, shape (units,), in float64, detached: above 0 a unit is more signal than noise."""
        return log_normal.log_snr(self.mu.detach(), self.log_sigma.detach())

    def project(self) -> None:
        """Clamp mu and log sigma to [-20, 5]; where gradual, close units of much noise every 50 calls."""
        with torch.no_grad():
            self.mu.clamp_(*RANGE)
            self.log_sigma.clamp_(*RANGE)
        if not self.gradual:
            return
        self.steps += 1
        if int(self.steps) % EVERY == 0:
            ratios = self.log_ratio().where(self.kept, -torch.inf)
            self.kept &= (ratios > CLOSED) | (ratios == ratios.max())


def crowded(ratios: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a warning where many units have an SNR near 1: by group id, what ``watch.spread`` says of log SNR.

    Units that have drifted there together cross the threshold together, and the model breaks down all at once.
    """
    found = [name for name, told in ratios.items() if told["near"] > CROWD * sum(told["counts"])]
    if not found:
        return ()
    words = f"the SNR of many units of {', '.join(found)} is near 1, where they may all be cut or kept by chance"
    return (f"{words}: train longer, or with gradual, or give a budget",)


def worth(gate: Gate) -> FloatArray:
    """Return the divergence of every unit from the prior, shape (units,), in nats: what its noise lets through."""
    assert isinstance(gate, SbpGate)
    with torch.no_grad():
        values: FloatArray = log_normal.kl(gate.mu, gate.log_sigma).cpu().numpy()
    return np.maximum(values, 0.0)
