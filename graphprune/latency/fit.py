"""A function of a node's sizes from the sizes that were timed: tables along the variables, and how they multiply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..cost import FloatArray
from .profile import Steps
from .sampling import Point, line
from .tables import table_of

MOST_PAIRED = 4
"""Variables up to which every product of some of them is a term."""


@dataclass(frozen=True)
class Surface:
    """Seconds of a node: a sum of ``weight[k]`` times the product of what the gauges of variables ``terms[k]`` show.

    ``gauges[v]`` shows, at every size of variable v from 0 to all, shape (full + 1,), what part of its full charge the
    node makes: 0 at first, never falling, 1 at the end. Weights are seconds, none negative.
    """

    gauges: tuple[FloatArray, ...]
    terms: tuple[tuple[int, ...], ...]
    weight: FloatArray

    def __call__(self, point: Sequence[int]) -> float:
        """Return the seconds at these sizes."""
        shown = [gauge[size] for gauge, size in zip(self.gauges, point, strict=True)]
        parts = (w * np.prod([shown[v] for v in term]) for term, w in zip(self.terms, self.weight, strict=True))
        return float(sum(parts))

    def errors(self, points: Mapping[Point, float]) -> FloatArray:
        """Return the relative errors at sizes that were timed, shape (points,)."""
        return np.array([self(p) / s - 1 for p, s in points.items()])


def fit(full: Point, steps: Sequence[Steps], points: Mapping[Point, float]) -> Surface:
    """Fit a surface to seconds by size, by least squares of relative errors; ``points`` have the full sizes among them.

    Each gauge has the shape of the seconds along its variable while the others are full. Weights are then those of all
    products of gauges, so that widths cut on both sides of a node cost what was measured there.
    """
    from scipy.optimize import nnls

    gauges = tuple(_gauge(full, v, steps[v], points) for v in range(len(full)))
    terms = _terms(len(full))
    sizes, seconds = list(points), np.array(list(points.values()))
    shown = np.array([[gauges[v][p[v]] for v in range(len(full))] for p in sizes]).reshape(len(sizes), len(full))
    design = np.stack([shown[:, list(term)].prod(axis=1) for term in terms], axis=1)
    # The full sizes set the level in the whole model, so they have to fit.
    trust = np.where([p == tuple(full) for p in sizes], 4.0, 1.0) / seconds
    weight, _ = nnls(design * trust[:, None], seconds * trust)
    if not weight.any():
        weight[0] = points[tuple(full)]
    return Surface(gauges, terms, np.asarray(weight))


def _gauge(full: Point, v: int, steps: Steps, points: Mapping[Point, float]) -> FloatArray:
    table = table_of(full[v], steps, *line(full, v, points))
    rise = float(table[-1] - table[0])
    if rise <= 1e-3 * float(table[-1]):  # the size does not matter
        return np.asarray(np.arange(full[v] + 1) / full[v])
    return np.asarray((table - table[0]) / rise)


def _terms(count: int) -> tuple[tuple[int, ...], ...]:
    variables = tuple(range(count))
    if count > MOST_PAIRED:
        return ((), *((v,) for v in variables), variables)
    return tuple(term for n in range(count + 1) for term in combinations(variables, n))
