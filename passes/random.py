"""Random: the baseline every other method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import numpy as np

from graphprune.errors import UsageError
from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, collect
from graphprune.weights import Weights


@dataclass(frozen=True)
class Random:
    """Score units by independent uniform numbers in (0, 1].

    Each group draws from a stream of its own, made from ``seed`` and the group's id, so that neither the order of the
    groups nor another group changes its numbers. Raises UsageError unless ``seed`` is a non-negative integer.
    """

    seed: int = 0

    name: ClassVar[str] = "random"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "uniform random numbers, the baseline to beat"
    scale_equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise UsageError(
                "bad-option", f"{self.name} has no seed {self.seed!r}", where="seed", hint="give a non-negative integer"
            )

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, in (0, 1], or 0 where a unit's weights are all zero."""
        return collect(self, Weights(graph), groups, self._draw)

    def _draw(self, group: Group) -> FloatArray:
        stream = int.from_bytes(sha256(group.id.encode()).digest()[:16], "little")
        drawn: FloatArray = 1.0 - np.random.default_rng([self.seed, stream]).random(group.size)
        return drawn
