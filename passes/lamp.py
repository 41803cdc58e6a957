"""LAMP: a unit's share of the energy of all units of its group that are no weaker than it, comparable across groups.

After Lee et al., *Layer-adaptive Sparsity for the Magnitude-based Pruning* (arXiv 2010.07611, section
3), with a unit's weights in place of a single weight and a group in place of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, choice, collect, energy_share
from graphprune.weights import Roles, Weights


@dataclass(frozen=True)
class LAMP:
    """Score a unit by a_k / sum of all a_j >= a_k of its group, a_k being the sum of its squared weights.

    A group's strongest unit scores 1 whatever its width, so scores rank across groups (objective "sum"). ``roles``
    counts "all" weights tied to a unit or those of its "producer" slices only (all, where a group has none).
    """

    roles: Roles = "all"

    name: ClassVar[str] = "lamp"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "share of the group's energy among units no weaker; ranks all groups together"
    scale_equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "roles", self.roles, ("all", "producer"))

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores in [0, 1] of shape (units,) a group. Raises ModelError for NaN weights."""
        weights = Weights(graph)

        def score(group: Group) -> FloatArray:
            return energy_share(weights.table(group, self.roles).sum(axis=0))

        return collect(self, weights, groups, score, "sum")
