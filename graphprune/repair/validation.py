"""Errors of an order of removal on rows that the fits have not seen: what few rows say of many columns is not believed.

The moments of two halves of the samples are kept apart. At some widths the layers are fitted on one half and their
errors taken on the other; the order's own increments in between are scaled to that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..groups import IntArray
from ..scores import FloatArray
from . import nested
from .alike import joined
from .elimination import Removal
from .layer import Layer
from .nested import Nested, missed, sketched

LEVELS = 6
"""Widths at which errors are taken, besides none and all."""
ENOUGH = 16
"""Rows a column from which on the halves would say the same: such layers are believed at once."""


def few(layers: Sequence[Layer], parts: int = 1) -> bool:
    """Tell whether a part of the layers' rows, one of ``parts``, is too small to believe what is fitted on it."""
    return any(layer.rows < parts * ENOUGH * layer.weights.shape[1] for layer in layers)


def validated(
    removal: Removal, halves: tuple[Sequence[Layer], Sequence[Layer]], factors: Sequence[float], ridge: float
) -> Removal:
    """Return the same order with increments that add up, at ``LEVELS`` widths, to errors on the other half's rows.

    ``halves`` are the group's layers with the moments of one half of the samples and of the other. Where all layers
    have many rows the removal is returned as it is. Of layers with many outputs the errors are those of a few random
    combinations (``nested.sketched``).
    """
    if not any(few(half) for half in halves):
        return removal
    units = len(removal.order)
    counts = sorted({round(units * k / (LEVELS + 1)) for k in range(1, LEVELS + 1)} - {0, units})
    errors = np.zeros(len(counts))
    for first, second in zip(*(joined(half, factors) for half in halves), strict=True):
        errors += _crossed(removal.order, counts, first, second, ridge)
    totals = [0.0, *np.maximum.accumulate(errors).tolist()]
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


def _crossed(order: IntArray, counts: Sequence[int], first: Layer, second: Layer, ridge: float) -> FloatArray:
    """Return the energy missed on one half by a layer that is fitted on the other, at each of ``counts``.

    Both ways, and the mean of these; of wide layers (``nested.WIDE``) one way, as they have thousands of rows.
    """
    ways = [(first, second), (second, first)][: 1 if len(first.mean) > nested.WIDE else 2]
    weights = sketched(first.weights)
    found = np.zeros((len(ways), len(counts)))
    for errors, (half, judge) in zip(found, ways, strict=True):
        fitted = Nested(half, order, ridge)
        for k, change in enumerate(fitted.changes(fitted.in_order(weights), counts)):
            errors[k] = missed(fitted.in_place(change), judge, half.mean)
    return np.asarray(found.mean(axis=0))
