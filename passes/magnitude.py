"""Magnitude: a unit is worth what its weights weigh, over all places where it lives.

After Li et al., *Pruning Filters for Efficient ConvNets* (PFEC, arXiv 1608.08710, which sums the L1
norms of producers only) and the group-coupled sums of Fang et al., *DepGraph* (arXiv 2301.12900).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from graphprune.errors import UsageError
from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.scores import FloatArray, Objective, Scores
from graphprune.scoring import Needs, Normalize, choice, collect, normalized, relative
from graphprune.weights import Power, Roles, Weights

Aggregate = Literal["sum", "mean", "max"]


@dataclass(frozen=True)
class Magnitude:
    """Score a unit by the sum of |w|**norm over its weights.

    ``roles`` counts "all" weights tied to a unit or those of its "producer" slices only (all, where a group has none).

    ``aggregate`` puts members together. "sum" counts every weight alike: the unit is one vector, the score its norm to
    the power ``norm``, and wide tensors outweigh narrow ones. The others count every member alike, whatever its size:
    each is divided by its mean over the units first, then "mean" averages the members and "max" takes the one where the
    unit is worth most.

    ``objective="sum"`` compares units of all groups with each other, which means nothing without a ``normalize`` other
    than "none": a channel of a wide layer weighs more than one of a narrow layer only because it has more weights.
    UsageError is raised for that and for a value that is not one of the choices.
    """

    norm: Power = 2
    roles: Roles = "all"
    aggregate: Aggregate = "sum"
    normalize: Normalize = "none"
    objective: Objective = "retained"

    name: ClassVar[str] = "magnitude"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "sum of |w|^norm over all weights tied to a unit"
    scale_equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "norm", self.norm, (1, 2))
        choice(self.name, "roles", self.roles, ("all", "producer"))
        choice(self.name, "aggregate", self.aggregate, ("sum", "mean", "max"))
        choice(self.name, "normalize", self.normalize, ("none", "mean", "max", "lamp"))
        choice(self.name, "objective", self.objective, ("retained", "sum"))
        if self.objective == "sum" and self.normalize == "none":
            raise UsageError(
                "bad-option",
                "magnitudes of groups with other widths do not compare, so their sum means nothing",
                where="objective",
                hint="set normalize to 'mean', 'max' or 'lamp', or leave objective at 'retained'",
            )

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, 0 where all weights are. Raises ModelError for NaN weights."""
        weights = Weights(graph, self.norm)

        def score(group: Group) -> FloatArray:
            return normalized(self._magnitude(weights.table(group, self.roles)), self.normalize)

        return collect(self, weights, groups, score, self.objective)

    def _magnitude(self, table: FloatArray) -> FloatArray:
        """Put the members' sums, shape (members, units), together: shape (units,)."""
        shares = table if self.aggregate == "sum" else relative(table)
        total: FloatArray = shares.max(axis=0, initial=0.0) if self.aggregate == "max" else shares.sum(axis=0)
        return total / max(1, len(shares)) if self.aggregate == "mean" else total


l1 = partial(Magnitude, norm=1)
l2 = partial(Magnitude, norm=2)
