"""Fitting every layer of a model that loses columns under a plan, on moments of the model as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..folding.operands import is_floating
from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..layout import Kept
from ..statistics.consumers import Consumer, consumers_of
from ..statistics.moments import Moments
from .fit import Fit
from .layer import Layer
from .places import Place

NOTHING_LEFT = "nothing is left of its inputs"
Fitter = Callable[[Layer, NDArray[np.bool_]], Fit]
"""Returns new weights for a layer that loses columns: ``fit.compensated``, ``fit.least_squares``, ..."""


@dataclass(frozen=True)
class Cut:
    """A consumer that loses columns: ``removed``, shape (columns,), and the rows of its matrix that stay, ``rows``."""

    consumer: Consumer
    left: IntArray
    removed: NDArray[np.bool_]
    rows: NDArray[np.bool_]


@dataclass
class Outcome:
    """New stored values by name; for every weight the part of its output's energy missed; and the weights left alone.

    ``before`` is with the old weights, ``after`` with the new ones; ``left`` says why weights are as they were.
    """

    values: dict[str, Array] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def cuts_of(graph: Graph, groups: Groups, kept: Kept, consumers: Iterable[Consumer] | None = None) -> Iterator[Cut]:
    """Yield the consumers that lose columns, in graph order; ``consumers`` are all of them, where they are known."""
    for consumer in consumers_of(graph, groups) if consumers is None else consumers:
        left = kept.index(consumer.dim)
        if left is None:
            continue
        removed = np.ones(consumer.columns, np.bool_)
        removed[consumer.columns_at(left)] = False
        rows = np.ones(consumer.blocks * consumer.outputs, np.bool_)
        made = None if consumer.out_dim is None else kept.index(consumer.out_dim)
        if made is not None and made.max(initial=-1) < len(rows):
            rows[:] = False
            rows[made] = True
        yield Cut(consumer, left, removed, rows)


def fit_all(cuts: Iterable[Cut], moments_of: Callable[[Consumer], Moments], fitter: Fitter) -> Outcome:
    """Fit every consumer by moments of its inputs as they are without pruning."""
    outcome = Outcome()
    for cut in cuts:
        if cut.consumer.refusal:
            outcome.left[cut.consumer.parameter] = cut.consumer.refusal
            continue
        moments = moments_of(cut.consumer)
        reason = not_fitted(cut, moments)
        if reason:
            outcome.left[cut.consumer.parameter] = reason
            continue
        layers = list(layers_of(cut.consumer, moments))
        record(outcome, Place.masked(cut, whole=True), layers, fitter)
    return outcome


def not_fitted(cut: Cut, moments: Moments, blocks: int | None = None) -> str:
    """Return why a consumer keeps its weights, "" where it is fitted; ``blocks`` are its matrices (default: all)."""
    if cut.consumer.refusal:
        return cut.consumer.refusal
    if moments.blocks > (cut.consumer.blocks if blocks is None else blocks):
        return "it is too wide: how its inputs go together is not known"
    if cut.removed.all():
        return NOTHING_LEFT
    return ""


def layers_of(consumer: Consumer, moments: Moments) -> Iterator[Layer]:
    """Yield the blocks of a consumer as layers; their columns belong to no units."""
    for b, weights in enumerate(consumer.stacked()):
        yield Layer.of(weights, moments.block(b), centred=consumer.bias is not None)


def record(outcome: Outcome, place: Place, layers: list[Layer], fitter: Fitter) -> dict[str, Array]:
    """Fit the blocks of a consumer, note what that gives, and return what the network that runs is to store.

    ``layers`` have the columns that are seen there. Nothing is returned where weights are left alone.
    """
    parameter = place.cut.consumer.parameter
    fits = [fitter(layer, gone) for gone, layer in zip(place.removed, layers, strict=True)]
    energy = [layer.energy for layer in layers]
    for into, parts in ((outcome.before, [f.before for f in fits]), (outcome.after, [f.after for f in fits])):
        into[parameter] = float(np.dot(parts, energy) / max(sum(energy), 1e-300))
    if not all(np.isfinite(f.weights).all() and np.isfinite(f.shift).all() for f in fits):
        outcome.left[parameter] = "its new weights would not be finite"
        return {}
    outcome.values.update(place.repaired(fits))
    return place.running(fits)


def masked(cuts: Iterable[Cut], graph: Graph, values: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Return the stored weights of consumers with the columns of removed units at zero, in their own types.

    Those in ``values`` are taken in place of the graph's. Quantised weights are left out: a code of zero need not stand
    for zero.
    """
    found: dict[str, Array] = {}
    for cut in cuts:
        name, form = cut.consumer.parameter, cut.consumer.form
        tensor = graph.tensors[name]
        if not is_floating(tensor.dtype):
            continue
        index = cut.consumer.use.index
        places = form.stacked(np.arange(tensor.size).reshape(graph.shape(name)) if index is None else index)
        gone = cut.removed.reshape(cut.consumer.blocks, 1, cut.consumer.width)
        value = found[name] if name in found else np.array((values or {}).get(name, graph.parameter(name)))
        value.reshape(-1)[places[np.broadcast_to(gone, places.shape)].astype(np.int64)] = 0
        found[name] = value
    return found
