"""How much layers depend on each other: normalised HSIC between activations, from their Gram matrices.

Activations of n samples, flattened to X of shape (n, features), enter through their linear kernel X X^T alone, which is
added up over stretches of features. HSIC is the inner product of two centred kernels (Gretton et al. 2005; the unbiased
estimator is of Song et al., *Feature Selection via Dependence Maximization*, JMLR 2012, section 2.3). Normalised, it
is linear CKA (Kornblith et al., arXiv 1905.00414, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scores import FloatArray

STRETCH = 1 << 22
"""Values that are widened to float64 at a time: 32 MB."""


def gram(features: NDArray[Any]) -> FloatArray:
    """Return the linear kernel of activations of shape (samples, ...), shape (samples, samples), in float64."""
    flat = features.reshape(len(features), -1)
    total = np.zeros((len(flat), len(flat)))
    step = max(STRETCH // max(len(flat), 1), 1)
    for start in range(0, flat.shape[1], step):
        part = flat[:, start : start + step].astype(np.float64)
        total += part @ part.T
    return total


def centred(kernel: FloatArray, *, debiased: bool) -> FloatArray:
    """Return a kernel of shape (samples, samples) centred: the inner product of two of them is HSIC, but for a factor.

    Biased: H K H with H = I - 11^T / n. Debiased: the diagonal is left out, and means are taken over what is left
    (U-centring), which needs four samples at least.
    """
    n = len(kernel)
    if not debiased:
        rows = kernel.mean(axis=1, keepdims=True)
        return np.asarray(kernel - rows - rows.T + kernel.mean())
    assert n > 3
    bare = kernel - np.diag(np.diag(kernel))
    rows = bare.sum(axis=1, keepdims=True) / (n - 2)
    result: FloatArray = bare - rows - rows.T + bare.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(result, 0.0)
    return result


def nhsic(kernels: Sequence[FloatArray], *, debiased: bool = False) -> FloatArray:
    """Return the normalised HSIC of all pairs of kernels, shape (kernels, kernels).

    A kernel that does not vary depends on nothing. Biased values are in [0, 1]; debiased ones may be slightly negative.
    """
    flat = np.stack([centred(k, debiased=debiased).ravel() for k in kernels])
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    scale = np.linalg.norm(np.stack([k.ravel() for k in kernels]), axis=1, keepdims=True)
    varies = norm > 1e-12 * scale  # what centring leaves of a constant is rounding
    unit = np.divide(flat, norm, out=np.zeros_like(flat), where=varies)
    return np.asarray(unit @ unit.T)
