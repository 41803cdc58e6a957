"""Scores that look at units one by one: WANDA's and FLAP's (methods.md 6.6, 6.7)."""

from __future__ import annotations

import numpy as np

from ..scores import FloatArray
from .layer import Layer


def wanda(layer: Layer) -> FloatArray:
    """Return mean_i |W_ik| * |X_k|_2 over the outputs, summed over a unit's columns, shape (units,).

    After Sun et al. (ICLR 2024, arXiv 2306.11695), structured. |X_k|_2 is taken a sample, sqrt(E[x_k^2]): the number of
    samples does not matter.
    """
    norms = np.sqrt(layer.power)
    return _summed(layer, np.abs(layer.weights).mean(axis=0) * norms)


def fluctuation(layer: Layer, *, weighted: bool = True) -> FloatArray:
    """Return Var(x_k) |W_:k|^2 summed over a unit's columns, shape (units,); without the weights if not ``weighted``.

    After An et al., *FLAP* (AAAI 2024, arXiv 2312.11983). With the weights it is the diagonal of the exact error that
    bias compensation leaves; without a bias the variance is still the one about the mean.
    """
    return _summed(layer, layer.variance * (np.square(layer.weights).sum(axis=0) if weighted else 1.0))


def _summed(layer: Layer, values: FloatArray) -> FloatArray:
    owned = layer.unit >= 0
    return np.bincount(layer.unit[owned], values[owned], layer.units).astype(np.float64, copy=False)
