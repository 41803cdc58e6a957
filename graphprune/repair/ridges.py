"""How far a consumer's weights may go from the old ones: as far as holds on the other half of the samples.

The halves are the first and the last samples, not a mixture: where neighbours are alike (views of one scene, frames of
one recording), a fit must hold on other scenes to be believed. Both are of what the pruned network gives by then, so
that errors from further up count as they will.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .fit import Problem
from .layer import Layer
from .validation import elsewhere

STEPS = (1.0, 10.0, 100.0, 1000.0)
"""The ridges tried, over the least one."""


def best_ridge(
    first: Sequence[Layer], second: Sequence[Layer], removed: Sequence[NDArray[np.bool_]], least: float
) -> float:
    """Return the ridge of ``STEPS`` times ``least`` with the smallest error on the half that was not fitted, both ways.

    ``first`` and ``second`` are the blocks of a consumer with the moments of either half, ``removed`` the columns of
    each block that are gone, shape (columns,).
    """
    ridges = [least * step for step in STEPS]
    errors = np.zeros(len(ridges))
    for gone, one, other in zip(removed, first, second, strict=True):
        for fitted, judge in ((one, other), (other, one)):
            problem = Problem(fitted, gone)
            for k, ridge in enumerate(ridges):
                weights = problem.at(ridge, rough=True)
                shift = fitted.shift(weights) if fitted.centred else np.zeros(len(weights))
                errors[k] += elsewhere(judge, weights, shift)
    return ridges[int(errors.argmin())]
