"""The weights of a model that loses units at several widths, each width within the one before, fitted at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..graph import Array, Graph
from ..groups import IntArray
from ..scores import FloatArray
from ..statistics.consumer import Consumer
from ..statistics.moments import Moments
from .apply import Cut, masked, not_fitted
from .layer import Layer
from .nested import Nested

Values = dict[str, Array]


def fitted(
    levels: Sequence[Sequence[Cut]], graph: Graph, moments_of: Callable[[Consumer], Moments], ridge: float
) -> list[Values]:
    """Return what the model stores at each level, with removed columns at zero and the others fitted to make up.

    ``levels`` are cuts of more and more columns. Fits are least squares towards the old
    weights, by the moments of inputs as they are without pruning, damped by ``ridge`` or more (``Layer.ridge_of``).
    What cannot be fitted is masked.
    """
    found: list[Values] = [{} for _ in levels]
    cut_at = [{cut.consumer.node: cut for cut in cuts} for cuts in levels]
    for node, last in cut_at[-1].items() if levels else ():
        mine = [k for k, cuts in enumerate(cut_at) if node in cuts]
        if not last.consumer.refusal:
            made = _weights([cut_at[k][node] for k in mine], moments_of(last.consumer), ridge)
            for k, values in zip(mine, made, strict=True):
                found[k].update(values)
    return [{**values, **masked(cuts, graph, values)} for cuts, values in zip(levels, found, strict=True)]


def _weights(cuts: Sequence[Cut], moments: Moments, ridge: float) -> Iterator[Values]:
    """Yield what is stored of one consumer at each level; nothing where it is not fitted."""
    consumer = cuts[0].consumer
    if not_fitted(cuts[0], moments):
        yield from ({} for _ in cuts)
        return
    order = np.arange(len(cuts))
    counts = [level + 1 for level, cut in enumerate(cuts) if not not_fitted(cut, moments)]
    layers = list(_layers(consumer, moments, first_level(cuts), len(cuts)))
    for weights in zip(*(Nested(layer, order, ridge).fits(counts) for layer in layers), strict=True):
        shifts = [_shift(layer, made) for layer, made in zip(layers, weights, strict=True)]
        yield consumer.stored_with(np.concatenate(weights), np.concatenate(shifts))
    yield from ({} for _ in range(len(cuts) - len(counts)))  # later levels leave nothing


def first_level(cuts: Sequence[Cut]) -> IntArray:
    """Return for every column the first level at which it is gone, -1 for one that stays, shape (columns,)."""
    gone = np.stack([cut.removed for cut in cuts])
    return np.where(gone.any(axis=0), gone.argmax(axis=0), -1)


def _layers(consumer: Consumer, moments: Moments, unit: IntArray, levels: int) -> Iterator[Layer]:
    """Yield the blocks of a consumer, whose columns belong to the levels at which they go."""
    for b, weights in enumerate(consumer.stacked()):
        mine = unit[b * consumer.width : (b + 1) * consumer.width]
        yield Layer.of(weights, moments.block(b), centred=consumer.bias is not None, unit=mine, units=levels)


def _shift(layer: Layer, weights: FloatArray) -> FloatArray:
    return layer.shift(weights) if layer.centred else np.zeros(len(weights))
