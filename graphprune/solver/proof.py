"""How far widths can be from the best: bounds from the cheapest up, until the gap is small or the effort spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import numpy as np

from ..cost import FloatArray
from ..errors import UsageError
from .branching import Effort, prove
from .choices import Choices
from .limits import Limits
from .relaxation import lower_bound, quick_bound
from .search import enumerate_all, few

GAP = 0.02
"""Without a time limit, a gap that is not worth more work."""
WORK = 5e7
"""Without a time limit, how many entries of tables are filled for a smaller one: about a second."""
PROVEN = 1e-3
"""With a time limit, the gap at which nothing is left to gain."""
MOST, MOST_IN_TIME = 2 * 10**7, 5 * 10**7
"""How many entries a single bound may fill, without and with a time limit."""


def effort_of(time_limit: float | None, clock: Callable[[], float]) -> Effort:
    """Return how much to do: a fixed amount of work, or as much as the seconds from now on allow.

    Raises UsageError for a time limit that is not a positive number.
    """
    if time_limit is None:
        return Effort(GAP, WORK, lambda: False, MOST)
    if not isinstance(time_limit, Real) or isinstance(time_limit, bool) or not time_limit > 0:
        words = f"{time_limit!r} is not a number of seconds"
        raise UsageError("bad-time-limit", words, where="--time-limit", hint="give a positive number, such as 10")
    end = clock() + float(time_limit)
    return Effort(PROVEN, math.inf, lambda: clock() >= end, MOST_IN_TIME)


def proved(
    limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray, effort: Effort, *, improve: bool
) -> tuple[FloatArray, float]:
    """Return widths, better ones where they are found (and ``improve``), and a lower bound on the loss of all choices.

    ``widths``, of shape (groups,), are within the limits and among the choices, and those of the search where they may
    be improved; ``price`` (rows,) is what a unit of every row is worth there.
    """
    loss = loss_of(choices, widths)
    if few(choices) and improve:
        return widths, loss  # the search has tried them all
    if few(choices):
        best = enumerate_all(limits, choices)
        least = loss_of(choices, best)
        return widths, min(least, loss)
    quick = quick_bound(limits, choices, widths, price, loss)
    if loss - quick[0] <= effort.part * abs(loss):
        return widths, quick[0]
    found = prove(limits, choices, widths, price * limits.most, effort)
    if found is None:
        return widths, lower_bound(limits, choices, widths, price, loss, quick)
    return found[0] if improve else widths, max(quick[0], found[1])


def loss_of(choices: Choices, widths: FloatArray) -> float:
    """Return the loss of widths that are among the choices."""
    return float(np.sum(choices.loss[choices.start + choices.find(widths)]))
