"""VIBNet: train every unit with noise of its own, and keep those that get more through than the noise.

After Dai, Zhu, Guo, Wipf, *Compressing Neural Networks using the Variational Information Bottleneck* (ICML 2018, arXiv
1802.10399).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from graphprune.gating.options import GateTraining
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.scores import Scores
from graphprune.scoring import Needs

if TYPE_CHECKING:
    from graphprune.scoring import Prepared


@dataclass(frozen=True)
class VIB(GateTraining):
    """Train a gate mu + sigma * noise for every unit together with the weights, then cut what is mostly noise.

    The objective is the mean loss + kl * sum over groups of weight * sum over units of 1/2 log(1 + alpha), alpha =
    mu^2 / sigma^2. A unit is kept where log alpha > ``threshold``, unless a budget decides: it removes the units whose
    term of the objective is smallest. The gates stand behind the activation, where units are summed over, the same for
    all places of a coupled group; their means are folded into the weights there, and batch normalisations get
    their statistics anew. The result is a trained model: fine-tune it further with ``graphprune finetune``.

    The options are those of ``graphprune.gating.options.GateTraining``.
    """

    name: ClassVar[str] = "vib"
    needs: ClassVar[Needs] = "training"
    summary: ClassVar[str] = "train noise gates with the weights; keep units that carry information (VIBNet)"
    scale_equivariant: ClassVar[bool] = False
    chooses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        self.check(self.name)

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, after training a copy. Raises what ``prepare`` raises."""
        from graphprune.coupling import couple_like

        return self.prepare(graph, groups, partial(couple_like, groups)).scores

    def prepare(self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups]) -> Prepared:
        """Return the trained model with the gates' means in its weights, and the scores.

        Raises UsageError for data and options that do not fit, and ModelError for a model that torch cannot
        differentiate or that cannot take the means, when training diverges, and when all gates close.
        """
        import graphprune.interpret  # noqa: F401  (says what to install where there is no torch)
        from graphprune.gating.prepare import Method, prepared_by_gates
        from graphprune.gating.vib import VibGate, worth

        return prepared_by_gates(self, self, Method(VibGate, worth), graph, groups, recouple)
