"""What gradient scores differentiate: one number a sample, the loss itself or a probe of its curvature.

With labels (or a loss of the user's own) it is the loss. Without, the loss is the divergence from the model's own
outputs, and at the model's own weights that is at its minimum, zero: **its gradient vanishes, whatever the unit.** What
removing a unit costs begins with the second order, and there the Hessian is exactly J' H J, where J is the derivative
of the outputs and H the divergence's curvature in them (the other term carries the divergence's slope, which is zero).
So a random probe is differentiated instead, v'(outputs) with E[v v'] = H: the square of its derivative in a gate has
the mean that the second-order term asks for, without bias and with one backward pass.

- Kullback-Leibler, H = diag(p) - pp': v'(outputs) is the log-probability of a label drawn from the model's own
  distribution, which makes the mean square the true Fisher information (Kunstner et al., arXiv 1905.12558).
- Mean squared difference of n entries, H = 2/n: v are signs at random, times the root of 2/n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..losses import Loss, Outputs, log_probabilities, resolve
from ..outputs import OutputSpec, describe_outputs


@dataclass(frozen=True)
class Objective:
    """A number to differentiate for each sample, and what is to be made of its derivatives.

    ``order`` is 1 where it is the loss, 2 where it is a probe. ``words`` tells a user what it is.
    """

    loss: Loss
    specs: tuple[OutputSpec, ...]
    order: int
    classes: tuple[bool, ...]

    @property
    def words(self) -> str:
        """Say what is differentiated."""
        if self.order == 1:
            return f"first order of {self.loss.words}"
        return (
            "scores are of the second order (Fisher information of the outputs): the divergence from the model's own "
            f"outputs has no slope at its own weights ({self.loss.words})"
        )

    def __call__(self, outputs: Outputs, labels: Tensor | None, noise: Sequence[Tensor], samples: int) -> Tensor:
        """Return the mean over ``samples`` samples, which the outputs' first axes hold, as a scalar."""
        if self.order == 1:
            return self.loss(outputs, tuple(o.detach() for o in outputs), labels, batch=samples).mean()
        parts = [self._probe(k, out, noise[k], samples) for k, out in enumerate(outputs) if noise[k].numel()]
        return torch.stack(parts).sum() / samples**0.5

    def _probe(self, k: int, output: Tensor, noise: Tensor, samples: int) -> Tensor:
        """Return v'(output), v drawn with the curvature of the output's loss as its covariance."""
        noise = noise.reshape(output.shape)
        if not self.classes[k]:
            return (torch.sign(noise - 0.5) * output).sum() * (2 * samples / output.numel()) ** 0.5
        logs = log_probabilities(output, self.specs[k])
        axis = self.specs[k].axis
        drawn = (logs.detach() - (-noise.log()).log()).argmax(axis, keepdim=True)  # Gumbel: one label a position
        chosen = logs.gather(axis, drawn)
        return chosen.sum() * (samples / chosen.numel()) ** 0.5

    def noise(self, shapes: Sequence[torch.Size], block: int, seed: int, samples: Sequence[int]) -> list[Any]:
        """Return what probes are drawn from, by output: uniform, shape (samples, ...); a sample's is its own always.

        ``shapes`` are those of the outputs for ``block`` samples.
        """
        if self.order == 1:
            return [np.zeros((len(samples), 0), np.float32) for _ in shapes]
        floating = [spec.kind != "not floating" for spec in self.specs]
        each = [math.prod(shape) // block if f else 0 for shape, f in zip(shapes, floating, strict=True)]
        made: list[list[Any]] = [[] for _ in shapes]
        for sample in samples:
            rng = np.random.default_rng([seed, sample])
            for rows, size in zip(made, each, strict=True):
                rows.append(rng.uniform(1e-7, 1 - 1e-7, size).astype(np.float32))
        return [np.stack(rows) for rows in made]


def objective_of(
    loss: str | Callable[..., Tensor], outputs: Sequence[Tensor], names: Sequence[str], *, has_labels: bool
) -> Objective:
    """Return what to differentiate for outputs that a forward pass gave with gradients enabled.

    ``loss`` is as ``losses.resolve`` takes it. Raises what that raises.
    """
    specs = describe_outputs(outputs, names)
    resolved = resolve(loss, specs, has_labels)
    classes = tuple(s.rank > 1 if loss == "kl" else s.classes and loss == "auto" for s in specs)
    return Objective(resolved, specs, 2 if resolved.needs_targets else 1, classes)
