"""A share of a user's data: what a method chooses by, or what is kept from it to tell honestly what pruning cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import UsageError
from .preprocess import Preprocess
from .samples import Samples

MOST_HELD = 512
FEWEST = 5
"""Samples of which one is held out; of fewer, none is."""


@dataclass(frozen=True)
class Share:
    """One of two parts of ``data``, disjoint and the same whenever it is opened; ``open_samples`` takes it for data.

    ``holdout`` is how much is held out: a fraction, or None for a fifth, at most 512 samples, and none of fewer than 5.
    ``labels`` and ``preprocess`` are what ``data`` is opened with.
    """

    data: Any
    part: Literal["seen", "held-out"]
    holdout: float | None = None
    labels: str | None = None
    preprocess: str | Path | Preprocess | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError for a holdout that is no fraction."""
        if self.holdout is not None and not 0 <= self.holdout < 1:
            hint = "give a fraction of at least 0 and below 1, such as 0.2"
            raise UsageError("bad-holdout", f"{self.holdout!r} is no fraction", where="--holdout", hint=hint)

    @property
    def other(self) -> Share:
        """The other part."""
        return replace(self, part="held-out" if self.part == "seen" else "seen")

    def of(self, samples: Samples) -> Samples:
        """Return this part of all samples; raises UsageError where a fraction leaves nothing on one side."""
        fraction = self._fraction(samples)
        if fraction == 0:
            return samples if self.part == "seen" else samples.first(0)
        seen, held = samples.split(fraction, self.seed)
        return seen if self.part == "seen" else held

    def _fraction(self, samples: Samples) -> float:
        if self.holdout is not None:
            return self.holdout
        units = len(samples) // (samples.fixed_batch or 1)
        return min(0.2, MOST_HELD / len(samples)) if units >= FEWEST else 0.0
