"""OSSCAR: optimal brain surgeon's sets, improved by exchanging units as long as the refit error falls.

After Meng et al., *OSSCAR: One-Shot Structured Pruning in Vision and Language Models with Combinatorial Optimization*
(ICML 2024, arXiv 2403.12983).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.repair.calibrated import Calibrated

if TYPE_CHECKING:
    from graphprune.repair.elimination import Removal
    from graphprune.repair.group_layers import GroupLayers


@dataclass(frozen=True)
class Osscar(Calibrated):
    """Score units by the errors of sets found by local search at ``levels`` widths, each set within the one before.

    At a width, the ``step`` cheapest units are exchanged for those that gain most, by halves, as long as the exact
    error of the group falls. Sets must be nested for scores to tell them; between levels units go in ``obs``'s order.
    The other options are those of ``obs`` and ``graphprune.repair.calibrated``.
    """

    levels: int = 8
    step: int = 16

    name: ClassVar[str] = "osscar"
    summary: ClassVar[str] = "optimal brain surgeon with a local search that exchanges units"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self._integer("levels", 1)
        self._integer("step", 1)

    def score(self, layers: GroupLayers, size: int) -> Removal:
        """Return the order in which the units of a group go, and what each adds."""
        from graphprune.repair.swapping import search

        assert layers.layers[0].units == size
        return search(layers.layers, layers.factors, self.ridge, self.levels, self.step)
