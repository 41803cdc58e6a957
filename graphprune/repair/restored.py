"""The spread of what a fitted layer gives: least squares shrinks it, and what follows was made for the original one.

A fit gives the mean of what is wanted for what is known, so its outputs vary less than the original's, by what it
misses; behind it activations stay away from their limits, and what is rare fades. Scaled back to the old variance,
a layer misses a little more and the next ones less. The same was found for averaged networks (Jordan et al., *REPAIR*,
ICLR 2023, arXiv 2211.08403).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .apply import Fitter
from .fit import Fit
from .layer import TINY, Layer

MOST = 4.0
"""The most by which an output is scaled, up or down."""


def restored(layer: Layer, fit: Fit) -> Fit:
    """Return a fit whose outputs vary on the layer's rows as they did before pruning, with the same means.

    A layer without a bias, or of which the old variance (``Targets.own``) is not known, stays as it is.
    """
    if not layer.centred or layer.targets is None or layer.targets.own is None:
        return fit
    given = fit.spread
    if given is None:
        given = np.einsum("oi,oi->o", fit.weights @ layer.gram, fit.weights)
    factors = np.clip(np.sqrt(layer.targets.own / np.maximum(given, TINY)), 1 / MOST, MOST)
    weights, spread = fit.weights * factors[:, None], given * np.square(factors)
    # E|y - f W x|^2 = E|y|^2 + f^2 E|W x|^2 - 2 f E[y W x], output by output: no more than is known already.
    crossed = np.einsum("oi,oi->", layer.cross, weights)
    after = max(layer.energy + float(spread.sum() - 2 * crossed), 0.0) / layer.energy
    return replace(fit, weights=weights, shift=layer.shift(weights), after=after, spread=spread)


def restoring(fitter: Fitter) -> Fitter:
    """Return a fitter that restores what another one fits."""

    def made(layer: Layer, removed: NDArray[np.bool_]) -> Fit:
        return restored(layer, fitter(layer, removed))

    return made
