"""WANDA, structured: a unit is worth its consumers' weights times the size of what they are fed.

After Sun et al., *A Simple and Effective Pruning Approach for Large Language Models* (ICLR 2024, arXiv 2306.11695),
with the sum over a unit's weights that structured versions take (methods: FLAP's baselines).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphprune.repair.calibrated import Calibrated, Update
from graphprune.scoring import relative

if TYPE_CHECKING:
    from graphprune.repair.group_layers import GroupLayers
    from graphprune.scores import FloatArray, Objective


@dataclass(frozen=True)
class Wanda(Calibrated):
    """Score a unit by mean_i |W_ik| * |X_k|_2, summed over columns and consumers, each over the consumer's mean.

    The other options are those of ``graphprune.repair.calibrated``; ``between`` does not matter, since groups are
    compared by the part of the sum that they keep. Weights are not changed unless ``update`` asks for it.
    """

    update: Update = "none"

    name: ClassVar[str] = "wanda"
    summary: ClassVar[str] = "weights of consumers times the size of their inputs"
    objective: ClassVar[Objective] = "retained"

    def score(self, layers: GroupLayers, size: int) -> FloatArray:
        """Return the scores of a group, shape (units,)."""
        from graphprune.repair.saliency import wanda

        return np.asarray(sum(map(relative, layers.by_consumer(wanda)), np.zeros(size)))
