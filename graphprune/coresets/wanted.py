"""What a wanted error takes: draws, as the report shows them, and units, as they are kept where there is no budget."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from ..scores import BoolArray, FloatArray
from . import bounds
from .sensitivity import Sensitivity

TILT = 1e-9
"""By what part scores of equal steps are told apart, so that units go in the order in which they were drawn."""


def steps_of(probability: FloatArray) -> FloatArray:
    """Return what each further drawn unit adds to the signal's share, strictly falling, shape (units,).

    See ``bounds.kept_share``. Zero for as many units as cannot be drawn.
    """
    size = len(probability)
    steps = np.minimum.accumulate(np.maximum(np.diff(bounds.kept_share(probability)), 0.0))
    rank = np.arange(size)
    return np.where(rank < (probability > 0).sum(), (steps + TILT / size) * (1 + TILT * (size - rank)), 0.0)


def enough(found: Sensitivity, scores: FloatArray, epsilon: float, delta: float, *, drawn: bool) -> BoolArray:
    """Mark the units that keep the error of every output within ``epsilon`` times the total sensitivity.

    For ``drawn`` units with probability 1 - ``delta`` for any one input, by as many distinct ones as the draws that
    this needs give in expectation; else surely, by what the removed ones can contribute. All are marked where no bound
    is known. ``scores``, shape (units,), give the order.
    """
    ranking = np.argsort(-scores, kind="stable")
    mask = np.ones(len(scores), np.bool_)
    if found.guarantee == "none" or found.total == 0:
        return mask
    if drawn:
        m = bounds.pointwise_sample_size(found.total, found.outputs, epsilon * found.total, delta)
        count = max(1, round(bounds.expected_distinct(found.values / found.total, m)))
    else:
        kept = np.cumsum(found.values[ranking]) / found.total
        count = int(np.searchsorted(kept, 1 - epsilon - 1e-12) + 1)
    mask[ranking[count:]] = False
    return mask


def described(found: Sensitivity, epsilon: float, delta: float) -> dict[str, Any]:
    """Return what a report says of a group: the guarantee, the draws for the wanted error, the error at half the units.

    Plain data. ``error`` is the pointwise bound of sampling, ``removed`` that of keeping the largest half as it is.
    """
    said: dict[str, Any] = {
        "guarantee": found.guarantee, "reasons": list(found.reasons), "activation": found.activation,
        "beta": list(found.radius), "total_sensitivity": found.total, "dimension": found.dimension,
        "outputs": found.outputs, "consumers": [t.parameter for t in found.consumers],
    }  # fmt: skip
    if found.guarantee == "none" or found.total == 0:
        return said
    probability, error = found.values / found.total, epsilon * found.total
    m = bounds.pointwise_sample_size(found.total, found.outputs, error, delta)
    theorem = bounds.paper_sample_size(found.total, found.dimension, error, delta)
    said["wanted"] = {
        "epsilon": error, "delta": delta, "draws": m, "distinct": bounds.expected_distinct(probability, m),
        "theorem_draws": theorem if found.guarantee == "theorem" and isfinite(theorem) else None,
    }  # fmt: skip
    said["half"] = _at_half(found, probability, delta)
    return said


def _at_half(found: Sensitivity, probability: FloatArray, delta: float) -> dict[str, Any]:
    live = int((probability > 0).sum())
    units = max(live // 2, 1)
    draws = float(bounds.draws_for_distinct(probability)[units]) if units < live else None
    smallest = np.sort(found.values)[: len(found.values) - units]
    error = bounds.error_after(draws, found.total, found.outputs, delta) if draws is not None else 0.0
    return {"units": units, "draws": draws, "error": error, "removed": float(smallest.sum())}
