"""The weights of a model that loses units, fitted at once by the moments of what consumers read without pruning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph import Array, Graph
from ..scores import BoolArray, FloatArray
from ..statistics.consumer import Consumer
from ..statistics.moments import Moments
from .apply import Cut, layers_of, masked, not_fitted
from .fit import solved
from .layer import Layer
from .nested import precise_enough


def fitted(
    cuts: Sequence[Cut], graph: Graph, moments_of: Callable[[Consumer], Moments], ridge: float
) -> dict[str, Array]:
    """Return what the model stores, with removed columns at zero and the others fitted to make up for them.

    Fits are least squares towards the old weights, by the moments of inputs as they are without pruning, damped by
    ``ridge`` or more (``Layer.ridge_of``). What cannot be fitted is masked.
    """
    found: dict[str, Array] = {}
    for cut in cuts:
        moments = None if cut.consumer.refusal else moments_of(cut.consumer)
        if moments is None or not_fitted(cut, moments):
            continue
        layers = list(layers_of(cut.consumer, moments))
        gone = cut.removed.reshape(len(layers), -1)
        weights = [_without(layer, own, ridge) for layer, own in zip(layers, gone, strict=True)]
        shifts = [_shift(layer, made) for layer, made in zip(layers, weights, strict=True)]
        found.update(cut.consumer.stored_with(np.concatenate(weights), np.concatenate(shifts)))
    return {**found, **masked(cuts, graph, found)}


def _without(layer: Layer, gone: BoolArray, ridge: float) -> FloatArray:
    """Return the weights of a layer, the removed columns R zero, the others K plus W_R H_RK H_KK^-1, with damped H.

    That is methods.md 6.8. In float32 where there are many columns: the ridge bounds the condition.
    """
    left, removed = np.flatnonzero(~gone), np.flatnonzero(gone)
    made = np.where(gone, 0.0, layer.weights)
    if not len(left) or not len(removed):
        return made
    gram = precise_enough(layer.gram)
    damped = gram[np.ix_(left, left)]
    damped.flat[:: len(damped) + 1] += layer.damping(ridge)
    lost = layer.weights[:, removed].astype(gram.dtype, copy=False) @ gram[np.ix_(removed, left)]
    made[:, left] += solved(damped, lost)
    return made


def _shift(layer: Layer, weights: FloatArray) -> FloatArray:
    return layer.shift(weights) if layer.centred else np.zeros(len(weights))
