"""SBP: train every unit with multiplicative noise, and remove those that are more noise than signal.

After Neklyudov, Molchanov, Ashukha, Vetrov, *Structured Bayesian Pruning via Log-Normal Multiplicative Noise* (NIPS
2017, arXiv 1705.07283).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from graphprune.errors import UsageError
from graphprune.gating.multipliers import Multipliers, factors, multiplied
from graphprune.gating.options import GateTraining
from graphprune.gating.places import Counting
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.scores import Scores
from graphprune.scoring import Needs, choice

if TYPE_CHECKING:
    from graphprune.scoring import Prepared

PlacedAt = Literal["consumers", "paper"]


@dataclass(frozen=True)
class SBP(GateTraining):
    """Train a log-normal gate theta of (0, 1] for every unit with the weights, then cut what is mostly noise.

    The objective is the mean loss + the sum over units of KL(posterior of theta | log-uniform prior) / samples, the
    evidence lower bound. A unit is kept where log SNR, the log of theta's mean over its standard deviation, is above
    ``threshold`` (0: SNR 1, the paper's), unless a budget decides: it removes the units whose term of the objective is
    smallest. Kept units are multiplied by E[theta]; batch normalisations get their statistics anew.

    - ``placement``: "consumers" puts gates behind the activation, where units are summed over: removal is exact, and
      E[theta] goes into the consumers' weights. "paper" puts them on the filters, before bias and batch normalisation,
      which then keeps its statistics: a removed unit leaves a constant, which goes into the consumers' biases.
    - ``per_example`` draws theta for every sample; the paper, and the default, once for a batch.
    - ``gradual`` closes units for good once they are mostly noise (SNR 0.6), while the others are still trained.
    - ``multipliers`` of the divergence, by group: SBPa's are "1-2=10,3-4=5" (see ``gating.multipliers``).
    - ``positions``: how much a group of feature maps counts; the paper counts every unit once ("one").

    The other options are those of ``graphprune.gating.options.GateTraining``; the reference trains gates at ten times
    the weights' rate where these are trained already (``gate_lr``).
    """

    positions: Counting = "one"
    placement: PlacedAt = "consumers"
    per_example: bool = False
    gradual: bool = False
    multipliers: Multipliers = ""

    name: ClassVar[str] = "sbp"
    needs: ClassVar[Needs] = "training"
    summary: ClassVar[str] = "train log-normal gates with the weights; keep units of more signal than noise (SBP)"
    scale_equivariant: ClassVar[bool] = False
    chooses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        self.check(self.name)
        choice(self.name, "placement", self.placement, ("consumers", "paper"))
        factors(self.multipliers)
        if self.placement == "paper" and self.per_example:
            words = "noise on filters is the same for all samples of a batch"
            raise UsageError("bad-option", words, where="per_example", hint="leave it off, or placement at consumers")
        if self.placement == "paper" and self.batch_norm == "train":
            words = "a batch normalisation that uses the batch's statistics undoes the noise before it"
            raise UsageError("bad-option", words, where="batch_norm", hint="leave it at auto or freeze")

    def weighed(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return what the divergences count, times the multipliers."""
        return multiplied(weights, self.multipliers)

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, after training a copy. Raises what ``prepare`` raises."""
        from graphprune.coupling import couple_like

        return self.prepare(graph, groups, partial(couple_like, groups)).scores

    def prepare(self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups]) -> Prepared:
        """Return the trained model with E[theta] in its weights, and the scores.

        Raises UsageError for data and options that do not fit, and ModelError for a model that torch cannot
        differentiate or that cannot take the means, when training diverges, and when all gates close.
        """
        import graphprune.interpret  # noqa: F401  (says what to install where there is no torch)
        from graphprune.gating.prepare import prepared_by_gates
        from graphprune.gating.prepare_paper import prepared_at_weights
        from graphprune.gating.sbp import SbpGate, crowded, worth
        from graphprune.gating.training import Method

        def make(units: int, _seed: int) -> SbpGate:
            return SbpGate(units, per_example=self.per_example, gradual=self.gradual)

        by_gates = prepared_at_weights if self.placement == "paper" else prepared_by_gates
        prepared = by_gates(self, self, Method(make, worth), graph, groups, recouple)
        scores = prepared.scores
        warnings = crowded(scores.details["log_ratios"])
        return replace(prepared, scores=replace(scores, notes=(*scores.notes, *warnings)))
