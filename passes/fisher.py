"""Fisher: a unit is worth what the loss would change, to second order, if it were removed.

The Fisher information stands for the Hessian, as in optimal brain damage (LeCun, Denker, Solla 1990), whose diagonal
form is here for the weights of a unit; the form for gates, with the derivatives of all coupled places added before they
are squared, is after Liu et al., *Group Fisher Pruning* (arXiv 2108.00708, section 3.2).
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

Form = Literal["group", "diagonal"]


@dataclass(frozen=True)
class Fisher:
    """Score a unit by the second-order change of the loss, from the gradients of single samples.

    ``form="group"``: 1/(2N) sum over samples n of (sum over places of dL_n/dm)^2, m the mask that multiplies the unit
    wherever it is summed over (see ``graphprune.sites``). What the places do to each other is counted.

    ``form="diagonal"``: 1/2 sum over all weights w tied to the unit of F_w w^2, with F_w the mean of (dL_n/dw)^2: what
    weights do to each other is not counted. Running statistics are no weights.

    The gradients are those of single samples: a batch's gradient averages them, and its square would be smaller by
    about the size of the batch. Where a model fixes its batch at more than one, a batch stands for a sample.

    With labels, L is the loss with them (the empirical Fisher). Without, it is the divergence from the model's own
    outputs, whose Hessian is the Fisher information of the outputs exactly; samples of it come from random probes
    drawn with ``seed`` (see ``graphprune.gradients.objectives``). The other options are those of ``Taylor``, and sums
    are in float64.
    """

    form: Form = "group"
    data: Any = field(default=None, compare=False, repr=False)
    labels: str | None = None
    preprocess: Any = None
    loss: str | Callable[..., Any] = "auto"
    batch_size: int = 32
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"

    name: ClassVar[str] = "fisher"
    needs: ClassVar[Needs] = "data"
    summary: ClassVar[str] = "second-order change of the loss without a unit, from single samples' gradients"
    scale_equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "form", self.form, ("group", "diagonal"))
        choice(self.name, "dtype", self.dtype, ("float32", "float64"))

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, losses that compare across groups.

        Raises UsageError for data that is missing or does not fit, and for a loss without a gradient; ModelError for a
        model that torch cannot differentiate, and for NaN weights.
        """
        from graphprune.gradients import units
        from graphprune.gradients.per_sample import task_of

        task = task_of(graph, self, self.name)
        if self.form == "diagonal":
            values = units.mean_of(units.square_rows(task, groups))
        else:
            values = units.mean_of_squares(units.gate_rows(task, graph, groups), of_means=False)
        units.check_not_flat(task, values)

        def score(group: Group) -> FloatArray:
            return values.get(group.id, np.zeros(group.size)) / 2

        return replace(collect(self, Weights(graph), groups, score, "sum"), notes=task.notes)


obd = partial(Fisher, form="diagonal")
