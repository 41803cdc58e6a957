"""One block of a pruned network trained to give what the original gives there: gradient descent on few samples.

Least squares fits a layer to what it is fed. Weights in front of an activation can do more: let fewer units do the
work of many. A block is small and its targets are many numbers a sample, so that some hundred steps on a few hundred
samples are enough (block reconstruction: Li et al., *BRECQ*, ICLR 2021, arXiv 2102.05426, who round weights so).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto, numpy_helper

from ..errors import ModelError
from ..graph import Array
from ..interpret import from_torch, run, to_torch

Tensors = Mapping[str, Array]
WARM = 0.1
"""Part of the steps in which the rate rises."""
MOST = 1 << 21
"""Numbers at the borders of a block that a step looks at, about: large maps have many positions a sample."""
LITTLE = 1e-3
"""The part of the energy below which what a block misses is left alone."""


@dataclass(frozen=True)
class Lesson:
    """What a block is fed, and what it is to give, batch by batch."""

    feeds: Sequence[Tensors]
    targets: Sequence[Tensors]

    def energy(self) -> dict[str, float]:
        """Return the mean square of each target about its mean."""
        found = {}
        for name in self.targets[0]:
            every = [t[name].astype(np.float64) for t in self.targets]
            count = sum(x.size for x in every)
            mean = sum(float(x.sum()) for x in every) / count
            found[name] = max(sum(float(np.square(x - mean).sum()) for x in every) / count, 1e-12)
        return found


@dataclass(frozen=True)
class Trained:
    """New stored values by name, none where training did not help, and the part of the energy missed on ``held``."""

    values: dict[str, Array]
    before: float
    after: float


def train(
    model: ModelProto, names: Collection[str], seen: Lesson, held: Lesson, *, epochs: int, rate: float, seed: int
) -> Trained:
    """Train stored tensors of a block by Adam, each at ``rate`` times its own size, and see what that gives on others.

    An epoch goes through all batches, in an order that ``seed`` draws. The rate rises, and falls to zero along a
    cosine. What does not do better on ``held`` is dropped. Raises ModelError for operators that have no torch
    implementation, and where torch cannot run the block.
    """
    module = to_torch(model, weights=lambda name, is_weight: is_weight and name in names)
    weights = [p for p in module.parameters() if p.requires_grad]
    energy = seen.energy()

    def missed(feeds: Tensors, targets: Tensors) -> torch.Tensor:
        found = run(module, feeds)
        parts = [torch.mean((found[n] - torch.from_numpy(t)) ** 2) / energy[n] for n, t in targets.items()]
        return torch.stack(parts).mean()

    def judged() -> float:
        with torch.no_grad():
            return float(np.mean([float(missed(x, y)) for x, y in zip(held.feeds, held.targets, strict=True)]))

    try:
        before = judged()
    except (RuntimeError, ValueError) as error:  # a normalisation that learns, fed one number a channel, say
        words, hint = f"torch cannot run a block: {str(error).partition(chr(10))[0]}", "give --repair least-squares"
        raise ModelError("block-does-not-run", words, where=next(iter(energy)), hint=hint) from error
    if not weights or before < LITTLE:
        return Trained({}, before, before)
    groups = [{"params": [w], "lr": rate * max(float(w.detach().square().mean().sqrt()), 1e-6)} for w in weights]
    optimiser = torch.optim.Adam(groups)
    order = np.random.default_rng(seed)
    turns = np.concatenate([order.permutation(len(seen.feeds)) for _ in range(epochs)])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step, len(turns)))
    for turn in turns.tolist():
        optimiser.zero_grad()
        missed(*_some(seen.feeds[turn], seen.targets[turn], order)).backward()
        optimiser.step()
        schedule.step()
    after = judged()
    if not after < before:
        return Trained({}, before, before)
    stored = {t.name: t for t in from_torch(module, model).graph.initializer}
    return Trained({n: numpy_helper.to_array(stored[n]).copy() for n in names if n in stored}, before, after)


def _some(feeds: Tensors, targets: Tensors, draws: np.random.Generator) -> tuple[Tensors, Tensors]:
    """Return a batch, or some of its samples where it holds too many numbers and all of it goes by samples."""
    every = [*feeds.values(), *targets.values()]
    counts = {x.shape[0] if x.ndim else 0 for x in every}
    count, share = min(counts), MOST / sum(x.size for x in every)
    if len(counts) > 1 or count < 2 or share >= 1:
        return feeds, targets
    some = np.sort(draws.choice(count, max(round(count * share), 1), replace=False))
    return {n: x[some] for n, x in feeds.items()}, {n: x[some] for n, x in targets.items()}


def _share(step: int, steps: int) -> float:
    """Return the part of the full rate at a step."""
    rising = (step + 1) / max(WARM * steps, 1.0)
    return min(rising, 0.5 * (1 + math.cos(math.pi * step / max(steps, 1))))
