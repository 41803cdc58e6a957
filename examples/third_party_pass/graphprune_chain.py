"""A scoring method in a package of its own: a unit is worth what all of its places together let through.

A channel that one layer writes strongly and the next one hardly reads is worth little. So the energies of a unit's
weights, place by place and relative to the other units', are multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, collect, relative
from graphprune.weights import Weights


@dataclass(frozen=True)
class Chain:
    """Score a unit by the geometric mean of its places' relative energies, each to the power ``sharpness``."""

    sharpness: float = 1.0

    name: ClassVar[str] = "chain"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "product of the energies of all places of a unit"
    scale_equivariant: ClassVar[bool] = True

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group."""
        weights = Weights(graph)

        def score(group: Group) -> FloatArray:
            energies = relative(weights.table(group))
            places = energies[energies.any(axis=1)]
            if not len(places):
                return np.ones(group.size)
            means: FloatArray = np.exp(np.log(places + 1e-12).mean(axis=0)) ** self.sharpness
            return means

        return collect(self, weights, groups, score)
