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
        record(outcome, cut, layers, fitter)
    return outcome


def not_fitted(cut: Cut, moments: Moments) -> str:
    """Return why a consumer keeps its weights, "" where it is fitted."""
    if cut.consumer.refusal:
        return cut.consumer.refusal
    if moments.blocks > cut.consumer.blocks:
        return "it is too wide: how its inputs go together is not known"
    if cut.removed.all():
        return "nothing is left of its inputs"
    return ""


def layers_of(consumer: Consumer, moments: Moments) -> Iterator[Layer]:
    """Yield the blocks of a consumer as layers; their columns belong to no units."""
    for b, weights in enumerate(consumer.stacked()):
        block = moments.block(b)
        none = np.full(weights.shape[1], -1, np.int64)
        yield Layer(weights, block.second[0], block.mean, none, 0, consumer.bias is not None, rows=moments.rows)


def record(outcome: Outcome, cut: Cut, layers: list[Layer], fitter: Fitter) -> dict[str, Array]:
    """Fit the blocks of a consumer, note what that gives, and return what the pruned network is to store.

    ``layers`` have all columns, or those that are left. In the values noted, columns of removed units are as they were;
    in those returned they are zero. Nothing is returned where weights are left alone.
    """
    consumer = cut.consumer
    removed = cut.removed.reshape(consumer.blocks, consumer.width)
    fits = []
    for gone, layer in zip(removed, layers, strict=True):
        narrow = layer.weights.shape[1] < consumer.width
        fits.append(fitter(layer, np.zeros(layer.weights.shape[1], np.bool_) if narrow else gone))
    energy = [layer.energy for layer in layers]
    for into, parts in ((outcome.before, [f.before for f in fits]), (outcome.after, [f.after for f in fits])):
        into[consumer.parameter] = float(np.dot(parts, energy) / max(sum(energy), 1e-300))
    shift = np.concatenate([f.shift for f in fits])
    if not all(np.isfinite(f.weights).all() for f in fits) or not np.isfinite(shift).all():
        outcome.left[consumer.parameter] = "its new weights would not be finite"
        return {}
    whole, cut_out = consumer.stacked(), np.zeros((consumer.blocks, consumer.outputs, consumer.width))
    for b, (gone, fit) in enumerate(zip(removed, fits, strict=True)):
        new = fit.weights[:, ~gone] if fit.weights.shape[1] == consumer.width else fit.weights
        whole[b][:, ~gone] = cut_out[b][:, ~gone] = new
    outcome.values.update(consumer.stored_with(whole.reshape(-1, consumer.width), shift))
    return consumer.stored_with(cut_out.reshape(-1, consumer.width), shift)


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
