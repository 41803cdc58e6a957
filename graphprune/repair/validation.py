"""Errors of an order of removal on rows that the fits have not seen: what few rows say of many columns is not believed.

The moments of two halves of the samples are kept apart. At some widths the layers are fitted on one half and their
errors taken on the other, both ways; the order's own increments in between are scaled to that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..scores import FloatArray
from .elimination import Removal
from .fit import least_squares
from .layer import Layer

LEVELS = 6
"""Widths at which errors are taken, besides none and all."""
ENOUGH = 16
"""Rows a column from which on the halves would say the same: such layers are believed at once."""


def validated(
    removal: Removal, halves: tuple[Sequence[Layer], Sequence[Layer]], factors: Sequence[float], ridge: float
) -> Removal:
    """Return the same order with increments that add up, at ``LEVELS`` widths, to errors on the other half's rows.

    ``halves`` are the group's layers with the moments of one half of the samples and of the other. Where all layers
    have many rows the removal is returned as it is.
    """
    if all(layer.rows >= ENOUGH * layer.weights.shape[1] for half in halves for layer in half):
        return removal
    units = len(removal.order)
    counts = sorted({round(units * k / (LEVELS + 1)) for k in range(1, LEVELS + 1)} - {0, units})
    first, second = halves
    totals = [0.0]
    for count in counts:
        gone = removal.order[:count]
        pairs = zip(factors, first, second, strict=True)
        errors = [factor * 0.5 * (_crossed(a, b, gone, ridge) + _crossed(b, a, gone, ridge)) for factor, a, b in pairs]
        totals.append(max(float(np.sum(errors)), totals[-1]))
    own = np.concatenate([[0.0], np.cumsum(removal.added)])
    return Removal(removal.order, _scaled(removal.added, own, [0, *counts], totals))


def _scaled(added: FloatArray, own: FloatArray, counts: Sequence[int], totals: Sequence[float]) -> FloatArray:
    """Return increments scaled, stretch by stretch, so that they add up to ``totals`` at ``counts``."""
    result = added.copy()
    for k in range(1, len(counts)):
        low, high = counts[k - 1], counts[k]
        grown, was = totals[k] - totals[k - 1], own[high] - own[low]
        result[low:high] = added[low:high] * (grown / was) if was > 0 else grown / (high - low)
    last = counts[-1]
    rest = own[last]
    if totals[-1] > rest > 0:  # what remains cannot cost less than it did, nor than the stretch before
        result[last:] = added[last:] * (totals[-1] / rest)
    return result


def _crossed(fitted: Layer, other: Layer, gone: NDArray[np.int64], ridge: float) -> float:
    """Return the energy missed on the other rows by a layer that is fitted on its own."""
    fit = least_squares(fitted, np.isin(fitted.unit, gone), ridge)
    return elsewhere(other, fit.weights, fit.shift)


def elsewhere(layer: Layer, weights: FloatArray, shift: FloatArray) -> float:
    """Return E|y - W' x - shift|^2 on a layer's own rows, for weights and a shift that were fitted on others."""
    mean = np.square(layer.shift(weights) - shift).sum() if layer.centred else 0.0
    return layer.error(weights) + float(mean)
