"""Taylor: a unit is worth what the loss would change, to first order, if its gate closed.

After Molchanov et al., *Importance Estimation for Neural Network Pruning* (arXiv 1906.10771, sections 3.1 and 3.2),
with one gate for all places of a coupled group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, choice, collect
from graphprune.weights import Weights

Form = Literal["gate", "weight"]
At = Literal["consumers", "producers"]


@dataclass(frozen=True)
class Taylor:
    """Score a unit by the mean over batches of the squared derivative of the loss in its gate, E_batch[(dL/dg)^2].

    ``form="gate"`` differentiates a gate that multiplies the unit at all its places. ``at="consumers"`` puts it where
    the unit is summed over, so that closing it is removal exactly, whatever lies between; ``at="producers"`` where the
    unit is made, which is the paper's definition; see ``graphprune.sites``. They agree as long as what
    lies between is positively homogeneous (ReLU, pooling, not sigmoid).

    ``form="weight"`` takes E_batch[(sum of w * dL/dw)^2] over the weights that make the unit, bias included, and never
    those that consume it, which would count it twice. Where a batch normalisation follows they are its gamma and beta:
    the sum over the weights before it says nothing of the shift it makes, and under the statistics of the batch itself,
    in training, it is zero, since such a norm undoes any scale. To rounding it equals the gate at the producers.

    ``data`` is what ``graphprune.data.open_samples`` opens, with ``preprocess`` for images, the
    labels in it perhaps ``labels`` by name; ``loss`` is "auto", "kl", "mse", "ce", "module:function" or a function (see
    ``graphprune.losses``). Without labels the loss is the divergence from the model's own outputs. **That has no
    gradient at the model's own weights**, so the score is the second-order term instead, half the mean over samples of
    the squared derivative of a random probe of the outputs (see ``graphprune.gradients.objectives``), which is what
    ``fisher`` gives; ``Scores.notes`` says so. ``seed`` draws the probes. The first ``samples`` samples count, all
    by default, ``batch_size`` at a time.

    Batch normalisations use their stored statistics, and weights are not changed. Sums are in float64, gradients in
    ``dtype``, on ``device`` ("auto": a GPU if there is one).
    """

    form: Form = "gate"
    at: At = "consumers"
    data: Any = field(default=None, compare=False, repr=False)
    labels: str | None = None
    preprocess: Any = None
    loss: str | Callable[..., Any] = "auto"
    batch_size: int = 32
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"

    name: ClassVar[str] = "taylor"
    needs: ClassVar[Needs] = "data"
    summary: ClassVar[str] = "squared first-order change of the loss as a unit's gate closes; labels if there are any"
    scale_equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "form", self.form, ("gate", "weight"))
        choice(self.name, "at", self.at, ("consumers", "producers"))
        choice(self.name, "dtype", self.dtype, ("float32", "float64"))

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, losses that compare across groups.

        Raises UsageError for data that is missing or does not fit, and for a loss without a gradient; ModelError for a
        model that torch cannot differentiate, and for NaN weights.
        """
        from graphprune.gradients import units
        from graphprune.gradients.per_sample import task_of

        task = task_of(graph, self, self.name)
        first = task.objective.order == 1
        weights = self.form == "weight"
        rows = units.weight_rows(task, graph, groups) if weights else units.gate_rows(task, graph, groups, self.at)
        values = units.mean_of_squares(rows, of_means=first)
        units.check_not_flat(task, values)

        def score(group: Group) -> FloatArray:
            return values.get(group.id, np.zeros(group.size)) * (1.0 if first else 0.5)

        return replace(collect(self, Weights(graph), groups, score, "sum"), notes=task.notes)


taylor_weight = partial(Taylor, form="weight")
