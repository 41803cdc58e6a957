"""What a noise gate is: VIBNet's and SBP's are two of them, and one trainer serves both.

A gate belongs to a group. It multiplies the group's units wherever they are summed over (``graphprune.sites``), by
random values in training, by what they are on average afterwards.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Gate(Protocol):
    """An ``nn.Module`` made for a group of so many units; its parameters have shape (units,).

    ``forward`` is called once a forward pass with the model's first input, whose first axis is the batch. In training
    it draws values of shape (units,), or (batch, units) where they differ by sample, from torch's default generator; in
    evaluation it returns ``expected()`` where ``kept`` and zero elsewhere, shape (units,), in the parameters' type.
    """

    training: bool
    kept: Tensor
    """A buffer of booleans, shape (units,), all true at first: the units that evaluation does not multiply by zero."""

    def __call__(self, first_input: Tensor) -> Tensor:
        """Return what multiplies the units now: shape (units,) or (batch, units)."""
        ...

    def kl(self) -> Tensor:
        """Return the divergence from the prior, summed over units, unweighted, with its gradient: a scalar, in nats."""
        ...

    def expected(self) -> Tensor:
        """Return what multiplies kept units at test time: shape (units,), float64, detached."""
        ...

    def log_ratio(self) -> Tensor:
        """Return the log of signal over noise, shape (units,), float64, detached: it ranks units, and above 0 is kept.

        It is the log of alpha = mu^2 / sigma^2 for VIBNet, and of the mean over the standard deviation for SBP.
        """
        ...

    def project(self) -> None:
        """Clamp the parameters to their range, in place, without a gradient; called after every step."""
        ...

    def parameters(self, recurse: bool = True) -> Any:
        """Return the parameters that are trained, as ``nn.Module`` does."""
        ...
