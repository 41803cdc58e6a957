"""Widths by a method's own problem over kept parts, rounded to permitted widths within the limits.

A method that has an opinion on how widths follow from a budget says so by an ``Allocation`` in its scores; ``solve``
then takes the widths from here in place of its search. Everything else stays: alignment, smallest widths, several
limits, the bound, and what happens where a budget is out of reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..cost import FloatArray
from ..groups import Groups
from . import continuous, geometric
from .choices import Choices
from .continuous import Task
from .limits import Limits
from .rounding import rounded
from .search import search

Kind = Literal["continuous", "geometric"]
HALVINGS = 40
MANY = 200
"""Groups from which on SLSQP, whose steps take time with the cube of their number, is too slow."""


@dataclass(frozen=True)
class Allocation:
    """Maximise sum w_g x_g ("continuous") or sum w_g log x_g ("geometric") over the kept parts x_g of groups.

    ``weight`` is w by group id, none negative; ``floor`` the width that a group keeps, where it has one, as long as the
    budget can be reached with it. The scores must say the same: a loss that falls by w_g x_g, or w_g log x_g.
    """

    kind: Kind
    weight: Mapping[str, float]
    floor: Mapping[str, int] = field(default_factory=dict)


def allocate(
    allocation: Allocation, groups: Groups, limits: Limits, choices: Choices, unit: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Return permitted widths within the limits, shape (groups,), and the price of every row, shape (rows,).

    The smallest choices must be within the limits. ``unit`` is what losses in ``choices`` were divided by. Where the
    geometric programme is not solved (numbers out of range), widths are those of the search, which has the same
    objective.
    """
    weight = np.array([allocation.weight[name] for name in groups]) / unit
    floor = np.array([allocation.floor.get(name, 1) for name in groups], dtype=np.float64)
    task = Task(limits, weight, choices.most, _lowest(limits, choices, floor) / choices.most)
    part = geometric.maximise(task)
    if allocation.kind == "continuous":
        part = _continuous(task, part)
    if part is None:
        return search(limits, choices)
    slope = weight / part if allocation.kind == "geometric" else weight
    price = _prices(task, part, slope)
    return rounded(limits, choices, part * task.size, price), price


def _continuous(task: Task, part: FloatArray | None) -> FloatArray:
    """Return the continuous problem's parts, the geometric programme's being one start; of many groups the only one."""
    if part is not None and len(part) > MANY:
        return geometric.successive(task, part)
    return continuous.maximise(task, () if part is None else (part,))


def _lowest(limits: Limits, choices: Choices, floor: FloatArray) -> FloatArray:
    """Return the smallest widths of the continuous problem: the floors, halved until they are within the limits."""
    for k in range(HALVINGS):
        low: FloatArray = np.clip(floor / 2**k, np.maximum(choices.least, 1e-6), choices.most)
        if (limits.smooth(low) <= limits.most).all():
            break
    return low


def _prices(task: Task, part: FloatArray, slope: FloatArray) -> FloatArray:
    """Return the multipliers of the rows for which the gain by every group's part is closest to what it costs.

    Groups at a bound say little (their gain is only larger, or only smaller), and count where there are no others.
    """
    from scipy.optimize import nnls

    gradient = task.used_gradient(part)
    free = (part > task.low * (1 + 1e-6)) & (part < 1 - 1e-6)
    if not free.any():
        free[:] = True
    scale = np.abs(slope[free]).max() or 1.0
    reach = np.abs(gradient).max() or 1.0
    solution, _ = nnls(gradient[:, free].T / reach, slope[free] / scale)
    return np.asarray(solution * scale / reach / task.limits.most)
