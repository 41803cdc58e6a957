"""OBSPA: weights scored one by one as by optimal brain surgeon, summed over a unit, consumers updated column by column.

After Wang et al., *Structurally Prune Anything: Any Architecture, Any Framework, Any Time* (arXiv 2403.18955).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphprune.repair.calibrated import Calibrated

if TYPE_CHECKING:
    from graphprune.repair.fit import Fit
    from graphprune.repair.group_layers import GroupLayers
    from graphprune.repair.layer import Layer
    from graphprune.scores import FloatArray


@dataclass(frozen=True)
class Obspa(Calibrated):
    """Score a unit by the sum of w^2 / [H^-1]_ww over its consumers' weights, each consumer over its outputs' energy.

    H are the second moments of the consumer's inputs (about the mean where it has a bias). ``update="least-squares"``
    gives consumers the paper's weights: columns are gone through once, and each removed one is made up for by those
    behind it. The paper sums over all weights of a unit; those that make it have no error of their own here, since what
    they do is summed by the consumers. The other options are those of ``graphprune.repair.calibrated``.
    """

    name: ClassVar[str] = "obspa"
    summary: ClassVar[str] = "optimal brain surgeon weight by weight, summed; consumers updated column by column"

    def score(self, layers: GroupLayers, size: int) -> FloatArray:
        """Return the scores of a group, shape (units,)."""
        from graphprune.repair.columnwise import saliencies

        parts = (f * saliencies(layer, self.ridge) for layer, f in zip(layers.layers, layers.factors, strict=True))
        return np.asarray(sum(parts, np.zeros(size)))

    def fit(self, layer: Layer, removed: Any) -> Fit:
        """Return the weights of a layer once ``removed`` columns are gone."""
        from graphprune.repair.columnwise import updated
        from graphprune.repair.fit import fit_of

        if self.update == "bias":
            return super().fit(layer, removed)
        return fit_of(layer, removed, updated(layer, removed, self.ridge))
