"""Scores: what every unit is worth, as a pass returns it and the solver reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .solver.allocation import Allocation

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Objective = Literal["retained", "sum"]


@dataclass(frozen=True)
class Scores(Mapping[str, FloatArray]):
    """One float64 array a group, shape (units,), by group id; the units with the smallest are removed first.

    ``objective`` says how the solver adds groups up. "sum": scores are losses comparable across groups, and the loss
    of a plan is the sum of the removed. "retained": scores mean something within their group only, and the loss of a
    group is ``-sqrt(size) * log(kept / all)``, which no scale of the scores changes and which grows fast as a group
    empties; where it may lose all its units, nothing counts as half of the best one. ``notes`` says what a user should
    know about how the scores were made, ``details`` what else belongs into the report, as plain data. ``chosen`` marks
    the units that the method itself would keep, shape (units,) a group, where it has an opinion: without a budget,
    those are kept.
    """

    arrays: Mapping[str, FloatArray]
    method: str
    objective: Objective = "retained"
    options: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, BoolArray] | None = None
    allocation: Allocation | None = None

    def __getitem__(self, key: str) -> FloatArray:
        """Return the scores of a group."""
        return self.arrays[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over group ids."""
        return iter(self.arrays)

    def __len__(self) -> int:
        """Return the number of scored groups."""
        return len(self.arrays)
