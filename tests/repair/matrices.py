"""Layers with the data behind their moments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphprune.repair.layer import Layer, Targets
from graphprune.repair.nested import Nested
from graphprune.scores import FloatArray


@dataclass(frozen=True)
class System:
    """A layer, the rows its moments are of, and those before pruning."""

    layer: Layer
    data: FloatArray
    dense: FloatArray


def system(
    units: int, size: int, outputs: int, *, rows: int, always: int = 0, centred: bool = True, drift: float = 0.0,
    seed: int = 0,
) -> System:  # fmt: skip
    """Correlated data with means; columns of a unit lie anywhere, where a unit has several, or some are no unit's."""
    stream = np.random.default_rng(seed)
    columns = units * size + always
    mixing = stream.standard_normal((columns, columns)) / columns**0.5
    dense = stream.standard_normal((rows, columns)) @ mixing + stream.standard_normal(columns)
    data = dense + drift * stream.standard_normal((rows, columns)) + drift
    unit = np.concatenate([np.repeat(np.arange(units), size), np.full(always, -1)])
    if size > 1 or always:
        unit = stream.permutation(unit)
    weights = stream.standard_normal((outputs, columns))
    wanted = dense @ weights.T
    moments = wanted.T @ data / rows, wanted.mean(axis=0), np.square(wanted).mean(axis=0)
    targets = Targets(*moments) if drift else None
    layer = Layer(weights, data.T @ data / rows, data.mean(axis=0), unit, units, centred, targets)
    return System(layer, data, dense)


def elsewhere(layer: Layer, weights: FloatArray, shift: FloatArray) -> float:
    """Return E|y - W' x - shift|^2 on a layer's own rows, for weights and a shift that were fitted on others."""
    mean = np.square(layer.shift(weights) - shift).sum() if layer.centred else 0.0
    return layer.error(weights) + float(mean)


def fits(made: Nested, counts: Sequence[int]) -> Iterator[FloatArray]:
    """The layer's weights once so many units are gone, columns in their own places."""
    own = made.in_order(made.layer.weights)
    for change in made.changes(own, counts):
        yield made.in_place(own + change)


def solved(layer: Layer, gone: NDArray[np.integer], ridge: float) -> FloatArray:
    """The weights that miss least under the damped moments of all columns."""
    damped, left = layer.damped(ridge), ~np.isin(layer.unit, gone)
    made = np.zeros_like(layer.weights)
    made[:, left] = np.linalg.solve(damped[np.ix_(left, left)], (layer.weights @ damped)[:, left].T).T
    return made
