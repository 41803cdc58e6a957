"""Layers that read the same, queries, keys and values say: one layer of all their outputs, with one matrix of moments.

A sum of errors f_i tr(W_i M W_i') with one M is the error of the matrices sqrt(f_i) W_i below each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .layer import Layer


def joined(layers: Sequence[Layer], factors: Sequence[float]) -> list[Layer]:
    """Return layers whose errors, not weighed any more, add up to those of ``layers`` times ``factors``.

    Layers that hold the very same moments become one.
    """
    found: dict[tuple[int, bool, bytes], list[int]] = {}
    for k, layer in enumerate(layers):
        found.setdefault((id(layer.second), layer.centred, layer.unit.tobytes()), []).append(k)
    return [
        replace(layers[same[0]], weights=np.concatenate([factors[k] ** 0.5 * layers[k].weights for k in same]))
        for same in found.values()
    ]
