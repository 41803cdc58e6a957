"""FLAP: a unit is worth what its consumers miss when its average is all they are given.

After An et al., *Fluctuation-based Adaptive Structured Pruning for Large Language Models* (AAAI 2024, arXiv
2312.11983).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from graphprune.repair.calibrated import Calibrated
from graphprune.scoring import choice

if TYPE_CHECKING:
    from graphprune.repair.group_layers import GroupLayers
    from graphprune.scores import FloatArray

Metric = Literal["WIFV", "IFV", "WIFN"]


@dataclass(frozen=True)
class Flap(Calibrated):
    """Score a unit by Var(X_k) * |W_:k|^2 over columns and consumers: what is missed once biases take its mean.

    ``metric`` is the paper's: "WIFV" the above, "IFV" without the weights, "WIFN" mean_i |W_ik| * |X_k|_2, squared. The
    paper compares layers by z-scores; here each consumer's scores are divided by its outputs' energy, so that with
    "WIFV" they are relative errors, of single units after compensation ("IFV" and "WIFN" by their own sums). The other
    options are those of ``graphprune.repair.calibrated``.
    """

    metric: Metric = "WIFV"

    name: ClassVar[str] = "flap"
    summary: ClassVar[str] = "how much inputs vary times the consumers' weights; biases take the average"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        choice(self.name, "metric", self.metric, ("WIFV", "IFV", "WIFN"))

    def score(self, layers: GroupLayers, size: int) -> FloatArray:
        """Return the scores of a group, shape (units,)."""
        from graphprune.repair.saliency import fluctuation, wanda

        if self.metric == "WIFV":
            parts = [f * fluctuation(layer) for layer, f in zip(layers.layers, layers.factors, strict=True)]
        elif self.metric == "IFV":
            parts = [_shares(v) for v in layers.by_consumer(partial(fluctuation, weighted=False))]
        else:
            parts = [_shares(v) for v in layers.by_consumer(lambda layer: np.square(wanda(layer)))]
        return np.asarray(sum(parts, np.zeros(size)))


def _shares(values: FloatArray) -> FloatArray:
    """Return scores over their own sum."""
    return np.asarray(values / max(float(values.sum()), 1e-300))
