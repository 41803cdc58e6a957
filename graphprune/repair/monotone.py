"""Orders of removal as scores: what the units removed first add to the error, never falling."""

from __future__ import annotations

import numpy as np

from ..scores import FloatArray
from .elimination import Removal

STEP = 1e-9
"""By what part of itself a score is above the one before at least, over all units together."""


def as_scores(removal: Removal) -> FloatArray:
    """Return scores, shape (units,), that rise in the order of removal and add up to the error.

    What removals add need not rise. The error as a function of the number removed is replaced by the largest convex
    function that is nowhere above it: increments that fall are averaged with those before (pool adjacent violators), so
    that the sums agree with the error at the ends of every such stretch, and lie below it within. Equal scores are then
    told apart by a billionth, so that sorting by score gives back the order. Zeros stay zero.
    """
    values = convex(removal.added)
    count = max(len(values), 1)
    scores = np.zeros(len(values))
    scores[removal.order] = np.maximum(values, 0.0) * (1 + STEP * np.arange(len(values)) / count)
    return scores


def convex(added: FloatArray) -> FloatArray:
    """Return the increments closest to those given, in the sense of least squares, among those that never fall."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(added).x) if len(added) else added
