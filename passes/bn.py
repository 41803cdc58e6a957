"""Batch-norm scale: a channel is worth the gamma that its normalisation multiplies it by.

After Liu et al., *Learning Efficient Convolutional Networks through Network Slimming* (arXiv
1708.06519). It means most on a network trained with an L1 penalty on gamma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphprune.graph import Graph
from graphprune.groups import Group, Groups, Member
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, collect, relative
from graphprune.weights import Weights


@dataclass(frozen=True)
class BatchNormScale:
    """Score a unit by the sum of |gamma| over the normalisations that scale it (members of role "scale").

    Units that no normalisation scales are scored by their L2 magnitude divided by its mean over the group instead,
    never by zero. Where a group has both kinds of units, both kinds are divided by their own mean so that they compare.
    """

    name: ClassVar[str] = "bn"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "sum of |gamma| over a unit's normalisations, L2 magnitude where it has none"
    scale_equivariant: ClassVar[bool] = True

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group. Raises ModelError for NaN weights."""
        gammas, weights = Weights(graph, power=1), Weights(graph, power=2)

        def score(group: Group) -> FloatArray:
            scales = [m for m in gammas.members(group) if m.role == "scale"]
            return _score(group, scales, gammas, weights)

        return collect(self, weights, groups, score)


def _score(group: Group, scales: Sequence[Member], gammas: Weights, weights: Weights) -> FloatArray:
    gamma, scaled = np.zeros(group.size), np.zeros(group.size, dtype=np.bool_)
    for member in scales:
        gamma += gammas.of_units(member, group.size)
        scaled[member.unit] = True
    if scaled.all():
        return gamma
    magnitude: FloatArray = weights.table(group).sum(axis=0)
    magnitude[~scaled] = relative(magnitude[~scaled])
    if scaled.any():
        magnitude[scaled] = relative(gamma[scaled])
    return magnitude
