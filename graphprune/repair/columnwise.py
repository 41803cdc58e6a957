"""OBSPA: weights scored by w^2 / [H^-1]_ww, and consumers updated column by column (methods.md 6.11).

After Wang et al., *Structurally Prune Anything* (arXiv 2403.18955); the update is SparseGPT's (Frantar and Alistarh
2023, arXiv 2301.00774): columns are gone through once, left to right, and what a removed column did is made up for by
the columns on its right alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..scores import FloatArray
from .layer import Blocks, Layer, inverse

BLOCK = 128
"""Columns after which the columns on the right are updated."""


def saliencies(layer: Layer, ridge: float = 1e-2) -> FloatArray:
    """Return sum of w^2 / [H^-1]_ww over the columns and outputs of every unit, shape (units,), H damped."""
    blocks = Blocks.of(layer.unit)
    values = np.square(layer.weights).sum(axis=0) / np.diag(inverse(layer.damped(ridge)))
    return blocks.spread(values[blocks.columns].sum(axis=1), layer.units)


def updated(layer: Layer, removed: NDArray[np.bool_], ridge: float = 1e-2) -> FloatArray:
    """Return the weights, zero at removed columns, after one pass over the columns from left to right.

    With the upper Cholesky factor U of H^-1, U'U = H^-1, row j of U over U_jj is what the columns right of j must
    change by for a unit error at j, after the columns left of it are done with. ``removed`` has shape (columns,).
    """
    upper = linalg.cholesky(inverse(layer.damped(ridge)), lower=False, check_finite=False)
    weights = layer.weights.copy()
    for start in range(0, len(removed), BLOCK):
        stop = min(start + BLOCK, len(removed))
        errors = np.zeros((len(weights), stop - start))
        for j in (start + np.flatnonzero(removed[start:stop])).tolist():
            errors[:, j - start] = weights[:, j] / upper[j, j]
            weights[:, j:stop] -= np.outer(errors[:, j - start], upper[j, j:stop])
        weights[:, stop:] -= errors @ upper[start:stop, stop:]
    weights[:, removed] = 0.0
    return np.asarray(weights)
