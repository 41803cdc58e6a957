"""ThiNet: the units go whose contributions to their consumers are smallest together.

After Luo et al., *ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression* (ICCV 2017,
arXiv 1707.06342), with least squares for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphprune.repair.calibrated import Calibrated

if TYPE_CHECKING:
    from graphprune.repair.group_layers import GroupLayers
    from graphprune.scores import FloatArray


@dataclass(frozen=True)
class Thinet(Calibrated):
    """Score units in the order in which they go by what each adds to the energy of all that is gone.

    Greedily the unit goes that makes |sum over S of X_k W_k'|^2 smallest, about the mean where a consumer has a bias to
    take it, each consumer over its outputs' energy. Where a removal makes up for others the increments fall, and scores
    are averages (``graphprune.repair.monotone``). The paper rescales what is left by least squares, one factor a
    channel; ``update="least-squares"`` fits all of it. The other options are those of ``graphprune.repair.calibrated``.
    """

    name: ClassVar[str] = "thinet"
    summary: ClassVar[str] = "units whose contributions to the next layer are smallest together"

    def score(self, layers: GroupLayers, size: int) -> FloatArray:
        """Return the scores of a group, shape (units,)."""
        from graphprune.repair.greedy import interactions, smallest_first
        from graphprune.repair.monotone import as_scores

        parts = (factor * interactions(layer) for layer, factor in zip(layers.layers, layers.factors, strict=True))
        return as_scores(smallest_first(np.asarray(sum(parts, np.zeros((size, size))))))
