"""Structured optimal brain surgeon: units go one by one, by the exact error that is left once all weights adapt.

After Hassibi and Stork 1993 in the structured form and the order of Kurtic et al., *ZipLM* (NeurIPS 2023,
arXiv 2302.04089): the cheapest unit goes, the rest is updated, costs are taken anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.repair.calibrated import Calibrated

if TYPE_CHECKING:
    from graphprune.repair.elimination import Removal
    from graphprune.repair.group_layers import GroupLayers


@dataclass(frozen=True)
class Obs(Calibrated):
    """Score units in the order in which they go by what each adds to the group's exact error, all weights refit.

    The error of a group is that of its consumers, each over the energy of its outputs; it is exact for the moments
    seen, damped by ``ridge``. Sums of the scores are errors where these increments rise, and else as close from below
    as a convex function comes (``graphprune.repair.monotone``). Where few rows make errors be taken on the other half
    of the samples, units of wide convolutions are ordered by few directions of their columns
    (``graphprune.repair.narrowed``). By ``update="least-squares"`` the consumers get the surgeon's weights, which are
    the least squares fit towards the old ones. The other options are those of ``graphprune.repair.calibrated``.
    """

    name: ClassVar[str] = "obs"
    summary: ClassVar[str] = "optimal brain surgeon, unit by unit, with the rest refit (ZipLM's order)"
    narrows: ClassVar[bool] = True

    def score(self, layers: GroupLayers, size: int) -> Removal:
        """Return the order in which the units of a group go, and what each adds."""
        from graphprune.repair.elimination import eliminate

        assert layers.layers[0].units == size
        return eliminate(layers.layers, layers.factors, self.ridge)
