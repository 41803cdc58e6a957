"""Widths that are near enough become permitted widths within the limits."""

from __future__ import annotations

import numpy as np

from ..cost import FloatArray, IntArray
from .choices import Choices, Menu
from .limits import Limits
from .moves import Place
from .search import COLUMNS, polish


def rounded(limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray) -> FloatArray:
    """Return the permitted widths closest to those given, shape (groups,), repaired so that they are within the limits.

    While a limit is exceeded, the group is lowered that loses least for what it frees of the exceeded rows.
    What that leaves over is used up by moves at the true costs, which also correct what rounding lost.
    """
    menu = Menu.near(choices, widths, COLUMNS)
    above = np.abs(menu.width - widths[:, None]).argmin(axis=1)
    place = Place(limits, menu, _first_column(menu, above))
    column = np.arange(menu.width.shape[1])
    while not limits.holds(place.width):
        weight = np.where(place.slack < 0, 1 / limits.most, 0.0)
        freed = np.where(column < place.column[:, None], -place.weighed(weight), 0.0)
        rate = np.divide(place.gain, freed, out=np.full(freed.shape, np.inf), where=freed > 0)
        if np.isinf(rate).all():  # nothing is left in sight: below lies what must fit
            half = choices.width[choices.start + choices.find(place.width / 2)]
            return rounded(limits, choices, half, price)
        group, lower = np.unravel_index(rate.argmin(), rate.shape)
        place = place.moved(np.array([group]), np.array([lower]))
    return polish(place, price).width


def _first_column(menu: Menu, column: IntArray) -> IntArray:
    """Return the first column that holds the same width: the ends of a menu are repeated."""
    width = menu.width[np.arange(len(column)), column]
    return np.asarray((menu.width >= width[:, None]).argmax(axis=1))
