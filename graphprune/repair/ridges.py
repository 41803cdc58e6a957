"""How far a consumer's weights may go from the old ones: as far as holds on the other half of the samples.

The halves are the first and the last samples, not a mixture: where neighbours are alike (views of one scene, frames of
one recording), a fit must hold on other scenes to be believed. Both are of what the pruned network gives by then, so
that errors from further up count as they will.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import nested
from .fit import Problem
from .layer import Layer
from .nested import precise_enough

STEPS = (1.0, 10.0, 100.0, 1000.0)
"""The ridges tried, over the least one."""


def best_ridge(
    first: Sequence[Layer], second: Sequence[Layer], removed: Sequence[NDArray[np.bool_]], least: float
) -> float:
    """Return the ridge of ``STEPS`` times ``least`` with the smallest error on the half that was not fitted, both ways.

    ``first`` and ``second`` are the blocks of a consumer with the moments of either half, ``removed`` the columns of
    each block that are gone, shape (columns,). Ridges are tried from the least one up for as long as the error falls.
    Wide blocks (``nested.WIDE``) are fitted on the first half alone.
    """
    blocks = [(Problem(a, gone), Problem(b, gone)) for gone, a, b in zip(removed, first, second, strict=True)]
    ways = [*blocks, *((b, a) for a, b in blocks if len(a.kept) <= nested.WIDE)]
    best, lowest = least, np.inf
    for step in STEPS:
        error = sum(_crossed(fitted, judge, least * step) for fitted, judge in ways)
        if error >= lowest:
            break
        best, lowest = least * step, error
    return best


def _crossed(fitted: Problem, judge: Problem, ridge: float) -> float:
    """Return E|y - W x - b|^2 on the rows of ``judge`` for weights and a bias fitted on others, but for a constant.

    The constant is what the weights to start from miss there; it does not depend on the ridge.
    """
    change = fitted.change(ridge, rough=True)
    gram, missing = precise_enough(judge.gram), judge.missing.astype(change.dtype, copy=False)
    error = float(np.einsum("oi,oi->", change @ gram - 2 * missing, change))
    if not judge.layer.centred:
        return error
    weights = fitted.whole(fitted.start + change)
    return error + float(np.square(judge.layer.shift(weights) - fitted.layer.shift(weights)).sum())
