"""The unstructured construction: a coreset of its own for every consumer. An analysis: it removes edges, not units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..scores import FloatArray

if TYPE_CHECKING:
    from ..graph import Graph
    from ..groups import Groups


@dataclass(frozen=True)
class PerNeuron:
    """What the per-neuron coresets of a layer are. ``weights`` has the shape of the layer's, with zeros for edges gone.

    ``total`` is the total sensitivity of every consumer, shape (outputs,); ``draws`` what each was given.
    """

    weights: FloatArray
    total: FloatArray
    draws: int

    @property
    def edges(self) -> float:
        """Fraction of the edges that are left."""
        return float((self.weights != 0).mean()) if self.weights.size else 0.0

    @property
    def units(self) -> float:
        """Fraction of the units that some consumer still reads: what could be removed is the rest."""
        return float((self.weights != 0).any(axis=0).mean()) if self.weights.size else 0.0


def per_neuron(weights: NDArray[Any], envelope: FloatArray, draws: int, seed: int = 0) -> PerNeuron:
    """Draw a coreset for every consumer: positive and negative weights are two sets, as in arXiv 1907.04018.

    ``weights`` has shape (outputs, units), ``envelope`` holds phi(beta |p|), shape (units,). A set with a part a of the
    consumer's sensitivity gets about a * ``draws`` of the draws, at least one; the draws of a set are independent, m of
    them fixed, so u(p) = c(p) w(p) / (m pr(p)) is unbiased.
    """
    w = np.asarray(weights, dtype=np.float64)
    sensitivity = np.abs(w) * envelope
    stream = np.random.default_rng(seed)
    made = np.zeros_like(w)
    for side in (w > 0, w < 0):
        made += _drawn(w, np.where(side, sensitivity, 0.0), sensitivity.sum(axis=1), draws, stream)
    return PerNeuron(made, sensitivity.sum(axis=1), draws)


def _drawn(
    w: FloatArray, sensitivity: FloatArray, total: FloatArray, draws: int, stream: np.random.Generator
) -> FloatArray:
    """Draw for all consumers at once from one side's sensitivities, shape (outputs, units)."""
    mass = sensitivity.sum(axis=1)
    live = mass > 0
    part = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    m = np.where(live, np.maximum(1, np.rint(draws * part)), 0).astype(np.int64)
    probability = np.divide(sensitivity, mass[:, None], out=np.zeros_like(sensitivity), where=live[:, None])
    probability[~live, 0] = 1.0  # a consumer without this side draws nothing from anything
    probability /= probability.sum(axis=1, keepdims=True)
    counts = stream.multinomial(m, probability)
    scale = np.divide(counts, m[:, None] * probability, out=np.zeros_like(w), where=(counts > 0) & live[:, None])
    return np.asarray(w * scale)


def analyse(graph: Graph, groups: Groups, draws: int, *, beta: float = 1.0, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield, for every stored consumer of every group, what per-neuron coresets of ``draws`` draws would leave.

    Plain data: the group, the consumer's weight, the fractions of edges and units left, the largest total sensitivity
    of a consumer beside that of the structured construction, which is never smaller. The columns of a unit that owns
    several (a flattened map, a kernel) are added up by absolute value first.
    """
    from .sensitivity import sensitivities

    for name, found in sensitivities(graph, groups, beta=beta).items():
        for place in found.consumers:
            table = place.table()
            made = per_neuron(table, found.envelope[place.tensor], draws, seed)
            yield {
                "group": name, "consumer": place.parameter, "draws": draws, "edges": made.edges, "units": made.units,
                "sensitivity": float(made.total.max(initial=0.0)), "structured": float(found.values.sum()),
            }  # fmt: skip
