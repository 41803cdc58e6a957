"""The radius beta of what a layer is fed: given, from interval bounds, or from data.

A layer's bound holds for inputs x with |[x; 1]| <= beta, x a row of its data or a window of a feature map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..graph import Graph, Node
from ..groups import Groups
from ..scores import FloatArray
from .activations import number
from .attributes import attributes_of
from .envelopes import Walk
from .reach import LARGEST, Reach

PERCENTILE = 99.9
"""Of the norms that data shows, so that one outlier does not decide (the reference of arXiv 1907.04018 uses 1)."""


class WholeWalk(Walk):
    """Bounds whole tensors instead of units: every tensor has the reach of its smallest and largest element."""

    def step(self, k: int) -> None:
        """Find the reach of a node's outputs, and the radius of what it is fed where it is a contraction."""
        node = self.graph.nodes[k]
        data = [self.at.get(name or "", {}).get(0) for name in node.inputs]
        self._note_softmax(node)
        reach = self._reach(k, node, 0, data)
        for name in node.outputs if reach is not None else ():
            self.at[name] = {0: reach}  # type: ignore[dict-item]

    def _contraction(self, k: int, node: Node, group: int, data: list[Reach | None]) -> Reach | None:
        found = [(place, x) for place, x in enumerate(data) if x is not None]
        if not found:
            return None
        place, reach = found[0]
        use = self.stored.use(k, 1 - place) if place < 2 and len(node.inputs) > 1 else None
        if use is None:
            return self._of_data(node, found)
        array = np.abs(np.asarray(self.stored.array(use), dtype=np.float64))
        roles = self.stored.layout.facts.roles
        inner = tuple(a for a in range(array.ndim) if roles.get((k, 1 - place, a)) != "producer")
        most = float(array.sum(axis=inner).max(initial=0.0)) * reach.envelope
        bias = self.of_units(k, 2, group, 0.0)
        return reach.between(np.minimum(bias[0], 0) - most, np.maximum(bias[1], 0) + most)

    def _of_data(self, node: Node, found: list[tuple[int, Reach]]) -> Reach:
        """Bound a product of two computed operands: rows of a softmax average, others add up."""
        if len(found) < 2 or any(name in self.softmax for name in node.inputs):
            return found[-1][1]
        summed = self.graph.shape(node.inputs[0] or "")[-1]
        product = found[0][1].times(found[1][1])
        return product.between(product.low * summed, product.high * summed)

    def norm(self, k: int, node: Node, group: int, reach: Reach) -> Reach:
        """Return what a normalisation makes of all elements: its channels scale and shift by numbers of their own."""
        uses = [self.stored.use(k, place) for place in range(1, min(len(node.inputs), 5))]
        if node.attrs.get("statistics") or len(uses) < 4 or None in uses:
            return super().norm(k, node, group, reach)
        epsilon = number(attributes_of(self.graph, k), 1e-5, "epsilon", "eps")
        gamma, beta, mean, var = (np.asarray(self.stored.array(u), np.float64).ravel() for u in uses if u is not None)
        factor = gamma / np.sqrt(np.maximum(var, 0.0) + epsilon)
        ends = np.stack([reach.low * factor, reach.high * factor]) + (beta - factor * mean)
        return reach.between(np.full(1, ends.min()), np.full(1, ends.max()))

    def _lookup(self, k: int, group: int) -> Reach | None:
        ends = self.of_units(k, 0, group, np.inf)
        return Reach(*ends) if np.isfinite(ends[0]).all() else None

    def of_units(self, k: int, place: int, group: int, absent: float) -> tuple[FloatArray, FloatArray]:
        """Return the ends of all that a stored input holds."""
        name = self.graph.nodes[k].inputs[place] if place < len(self.graph.nodes[k].inputs) else None
        use = None if name is None else self.stored.use(k, place)
        known = self.graph.known.get(name or "")
        array = self.stored.array(use) if use is not None else np.full(1, absent) if known is None else known.value
        values = np.asarray(array, dtype=np.float64)
        return np.full(1, values.min(initial=np.inf)), np.full(1, values.max(initial=-np.inf))


def interval_radii(graph: Graph, groups: Groups, largest: float) -> dict[int, float]:
    """Return a radius for every contraction, by node, from interval bounds of all tensors.

    Elements of the model's inputs are taken to lie within +-``largest``. Bounds are sound but loose: they grow with the
    sum of absolute weights from layer to layer, until an activation or a normalisation bounds them again.
    """
    walk = WholeWalk(graph, groups, lambda _node: 1.0)
    walk.at.update({name: {0: Reach(np.full(1, -largest), np.full(1, largest))} for name in graph.inputs})
    found: dict[int, float] = {}
    for k, node in enumerate(graph.nodes):
        walk.step(k)
        if node.family == "contraction":
            reach = next((x for n in node.inputs if n and (x := walk.at.get(n, {}).get(0)) is not None), None)
            most = float(reach.envelope.max()) if reach is not None else 1.0
            found[k] = float(np.sqrt(1.0 + row_size(walk, k) * min(most, LARGEST**0.5) ** 2))
    return found


def row_size(walk: Walk, k: int) -> int:
    """Return how many inputs a row of a contraction's stored weight has; 1 where none is stored."""
    roles = walk.stored.layout.facts.roles
    for place in range(min(2, len(walk.graph.nodes[k].inputs))):
        if walk.stored.use(k, place) is not None:
            shape = walk.graph.shape(walk.graph.nodes[k].inputs[place] or "")
            return int(np.prod([n for a, n in enumerate(shape) if roles.get((k, place, a)) != "producer"]))
    return 1


def fed(graph: Graph, nodes: Iterable[int]) -> dict[int, str]:
    """Return the data that contractions are fed, by node: their first input that is no stored tensor."""
    found = {}
    for k in nodes:
        name = next((n for n in graph.nodes[k].inputs[:2] if n and graph.tensors[n].kind != "parameter"), None)
        if name is not None and graph.nodes[k].family == "contraction":
            found[k] = name
    return found


def data_radii(graph: Graph, nodes: Iterable[int], values: Mapping[str, Sequence[NDArray[Any]]]) -> dict[int, float]:
    """Return the 99.9th percentile of |[x; 1]| over the data that each contraction is fed, by node.

    ``values`` are the tensors of ``fed`` on samples, batch by batch. For a convolution x is a window, taken at
    every position, the border's too.
    """
    found = {}
    for k, name in fed(graph, nodes).items():
        if name in values:
            squares = np.concatenate([_squares(graph, k, part).ravel() for part in values[name]])
            found[k] = float(np.sqrt(1.0 + np.percentile(squares, PERCENTILE)))
    return found


def _squares(graph: Graph, k: int, values: NDArray[Any]) -> FloatArray:
    """Return the squared norms of all rows or windows."""
    node = graph.nodes[k]
    squares = np.square(np.asarray(values, dtype=np.float64))
    if "spatial" not in node.attrs:
        return np.asarray(squares.sum(axis=-1))
    kernel = graph.shape(node.inputs[1] or "")[2:]
    channels = squares.sum(axis=1) if squares.ndim == len(kernel) + 2 else squares
    window = np.ones((1,) * (channels.ndim - len(kernel)) + tuple(kernel))
    return np.asarray(ndimage.convolve(channels, window, mode="constant"))
