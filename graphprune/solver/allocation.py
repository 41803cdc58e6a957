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

from ..cost import FloatArray, IntArray
from ..groups import Groups
from . import continuous, geometric
from .choices import Choices, Menu
from .continuous import Task
from .limits import Limits
from .moves import Place
from .search import COLUMNS, polish, search

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


def rounded(limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray) -> FloatArray:
    """Return the permitted widths closest to those given, shape (groups,), repaired so that they are within the limits.

    While a limit is exceeded, the group is lowered a step that loses least for what it frees of the exceeded rows.
    What that leaves over is used up by moves at the true costs, which also correct what rounding lost.
    """
    menu = Menu.near(choices, widths, COLUMNS)
    above = np.abs(menu.width - widths[:, None]).argmin(axis=1)
    place = Place(limits, menu, _first_column(menu, above))
    while not limits.holds(place.width):
        down = np.maximum(_first_column(menu, place.column) - 1, 0)
        group = np.arange(len(down))
        weight = np.where(place.slack < 0, 1 / limits.most, 0.0)
        freed = -place.weighed(weight)[group, down]
        rate = np.divide(place.gain[group, down], freed, out=np.full(len(freed), np.inf), where=freed > 0)
        if np.isinf(rate).all():  # nothing is left in sight: below lies what must fit
            return rounded(limits, choices, np.maximum(place.width / 2, choices.least), price)
        place = place.moved(np.array([rate.argmin()]), down[[rate.argmin()]])
    return polish(place, price).width


def _first_column(menu: Menu, column: IntArray) -> IntArray:
    """Return the first column that holds the same width: the ends of a menu are repeated."""
    width = menu.width[np.arange(len(column)), column]
    return np.asarray((menu.width >= width[:, None]).argmax(axis=1))


def _lowest(limits: Limits, choices: Choices, floor: FloatArray) -> FloatArray:
    """Return the smallest widths of the continuous problem: the floors, halved until they are within the limits."""
    for k in range(HALVINGS):
        low: FloatArray = np.clip(floor / 2**k, np.maximum(choices.least, 1e-6), choices.most)
        if limits.holds(low):
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
