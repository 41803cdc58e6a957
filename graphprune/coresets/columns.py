"""Consumers as matrices: stored weights as outputs x columns, data as rows x columns, one column a kernel position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..families.pattern import letters, parse, spread
from ..folding.operands import Use
from ..gate_sites import Site, consumers
from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..scores import FloatArray
from .activations import plain
from .attributes import attributes_of
from .stored import Stored

ROWS = 1 << 24
"""Elements of a matrix of rows: 128 MB in float64."""


@dataclass(frozen=True)
class Consumer:
    """A contraction that sums units with a stored weight. ``tensor`` is its data, ``axis`` the one it sums over.

    ``place`` is the axis of the weight that is summed over, ``area`` the number of kernel positions; ``bias`` is a
    stored vector that is added to the outputs and used nowhere else. ``refusal`` says why it cannot be refit.
    """

    node: int
    tensor: str
    axis: int
    dim: int
    use: Use
    place: int
    area: int
    stored: Stored
    bias: Use | None = None
    refusal: str = ""

    @property
    def parameter(self) -> str:
        """The name of the stored weight."""
        return self.use.parameter

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.stored.array(self.use).shape

    def matrix(self) -> FloatArray:
        """Return the weights, shape (outputs, inputs * area), in float64."""
        array = np.asarray(self.stored.array(self.use), dtype=np.float64)
        if self.area == 1 and array.ndim == 2:
            return np.ascontiguousarray(np.moveaxis(array, self.place, 1))
        return array.reshape(len(array), -1)

    def cut(self, left: IntArray) -> FloatArray:
        """Return the weights with the columns of removed inputs at zero; of any consumer, in the weight's own shape."""
        array = np.array(self.stored.array(self.use), dtype=np.float64)
        moved = np.moveaxis(array, self.place, 0)
        gone = np.ones(len(moved), np.bool_)
        gone[left[left < len(gone)]] = False
        moved[gone] = 0.0
        return array

    def stored_with(self, weights: FloatArray, shift: FloatArray | None) -> dict[str, Array]:
        """Return the stored tensors that hold these weights, and the bias with ``shift`` added, in their own types."""
        shape = self._shape
        if weights.shape != shape and self.area == 1 and len(shape) == 2:
            weights = np.moveaxis(weights, 1, self.place)
        found = {self.parameter: self._put(self.use, weights.reshape(shape))}
        if self.bias is not None and shift is not None:
            old = self.stored.array(self.bias)
            found[self.bias.parameter] = self._put(self.bias, old + shift.reshape(old.shape))
        return found

    def _put(self, use: Use, values: FloatArray) -> Array:
        old = self.stored.graph.parameter(use.parameter)
        if use.index is None:
            return values.astype(old.dtype)
        made = old.copy()
        made.ravel()[use.index] = values
        return made


def consumers_of(graph: Graph, groups: Groups) -> Iterator[Consumer]:
    """Yield every contraction that sums units of a group with a stored weight, in graph order."""
    stored = Stored.of(graph, groups)
    facts = stored.layout.facts
    for site in consumers(graph, groups):
        node = graph.nodes[site.node]
        place = 1 - site.position
        use = stored.use(site.node, place) if site.position < 2 and len(node.inputs) > 1 else None
        dims = facts.of_use.get((site.node, site.position)) or facts.tensor(site.tensor)
        if use is None or dims is None or node.family != "contraction":
            continue
        yield _consumer(graph, stored, site, use, dims[site.axis])


def _consumer(graph: Graph, stored: Stored, site: Site, use: Use, dim: int) -> Consumer:
    node = graph.nodes[site.node]
    operands, results = parse(node.attrs["pattern"])
    weight = spread(operands[1 - site.position], len(stored.array(use).shape))
    data = spread(operands[site.position], len(graph.shape(site.tensor)))[site.axis]
    last = data if isinstance(data, str) else data[-1]
    axis = next(k for k, token in enumerate(weight) if last == token or (not isinstance(token, str) and last in token))
    shape = graph.shape(node.inputs[1 - site.position] or "")
    convolution = "spatial" in node.attrs
    area = int(np.prod(shape[2:])) if convolution else 1
    made = Consumer(site.node, site.tensor, site.axis, dim, use, axis, area, stored)
    refusal = _refusal(stored, made, data, weight, site)
    if not refusal and (convolution and (axis != 1 or "i o" in node.attrs["pattern"])):
        refusal = "a transposed convolution"
    return replace(made, refusal=refusal, bias=None if refusal else _bias(stored, site.node, letters(results[0])))


def _refusal(stored: Stored, made: Consumer, data: Any, weight: Any, site: Site) -> str:
    if len(stored.operands.uses(made.parameter)) > 1:
        return "its weight is shared with another operator"
    if not isinstance(data, str) or any(not isinstance(token, str) for token in weight):
        return "it is grouped"
    if site.position != 0 or ("spatial" not in stored.graph.nodes[made.node].attrs and len(weight) != 2):
        return "it is no matrix product with a stored matrix on the right"
    if not stored.graph.tensors[made.parameter].dtype.startswith("float"):
        return "its weight is not stored in floating point"
    return ""


def _bias(stored: Stored, k: int, made: frozenset[str]) -> Use | None:
    """Return a consumer's bias: its third operand, or a vector that the only reader of its output adds."""
    graph = stored.graph
    node = graph.nodes[k]
    use = stored.use(k, 2) if len(node.inputs) > 2 else None
    if use is None and "spatial" not in node.attrs:
        readers = stored.operands.readers.get(node.outputs[0], [])
        if len(readers) == 1 and readers[0][0] >= 0:
            reader, place = readers[0]
            adds = plain(graph.nodes[reader].op.split(".")[0]) == "add" and place < 2
            use = stored.use(reader, 1 - place) if adds else None
    if use is None or len(stored.operands.uses(use.parameter)) > 1 or stored.array(use).ndim != 1:
        return None
    outputs = graph.shape(node.outputs[0])[1 if "spatial" in node.attrs else -1]
    return use if use.index is None and len(stored.array(use)) == outputs else None


def rows_of(graph: Graph, consumer: Consumer, batches: Sequence[NDArray[Any]], columns: int, seed: int) -> FloatArray:
    """Return the rows, or windows, that a consumer sees of a tensor, given batch by batch, in float64.

    At most as many as fit ROWS elements, drawn at random without repetition: the same ones of tensors of the same
    shapes.
    """
    most = max(ROWS // max(columns * len(batches), 1), 8)
    parts = []
    for values in batches:
        if "spatial" in graph.nodes[consumer.node].attrs:
            parts.append(_windows(graph, consumer, values, most, seed))
        else:
            flat = np.moveaxis(values, consumer.axis, -1).reshape(-1, values.shape[consumer.axis])
            parts.append(flat[_chosen(len(flat), most, seed)])
    return np.concatenate(parts).astype(np.float64)


def _chosen(count: int, most: int, seed: int) -> IntArray:
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 5]).choice(count, most, replace=False))


def _windows(graph: Graph, consumer: Consumer, values: NDArray[Any], most: int, seed: int) -> NDArray[Any]:
    """Return the windows of a feature map, shape (rows, channels * kernel area)."""
    kernel = graph.shape(graph.nodes[consumer.node].inputs[1] or "")[2:]
    strides, dilations, pads = geometry(graph, consumer.node, values.shape[2:], kernel)
    padded = np.pad(values, [(0, 0), (0, 0), *pads])
    reach = tuple((n - 1) * d + 1 for n, d in zip(kernel, dilations, strict=True))
    axes = tuple(range(2, values.ndim))
    seen = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    every = [slice(None, None, step) for step in (*strides, *dilations)]
    windows = np.moveaxis(seen[(slice(None), slice(None), *every)], 1, 1 + len(kernel))
    places = windows.shape[: 1 + len(kernel)]
    chosen = np.unravel_index(_chosen(int(np.prod(places)), most, seed), places)
    picked = windows[chosen]
    return np.asarray(picked.reshape(len(picked), -1))


def geometry(
    graph: Graph, node: int, size: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    """Return a convolution's strides, dilations and pads (before, after) at a size of its data."""
    attributes, rank = attributes_of(graph, node), len(kernel)
    strides = _each(attributes.get("strides", attributes.get("stride")), rank, 1)
    dilations = _each(attributes.get("dilations", attributes.get("dilation")), rank, 1)
    auto = attributes.get("auto_pad", attributes.get("padding", b""))
    word = auto.decode() if isinstance(auto, bytes) else auto if isinstance(auto, str) else ""
    if word.upper().startswith("SAME") or word == "same":
        needed = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, s, k, d in zip(size, strides, kernel, dilations, strict=True)
        ]
        upper = word.upper() != "SAME_LOWER"
        return strides, dilations, [(p // 2, p - p // 2) if upper else (p - p // 2, p // 2) for p in needed]
    if "pads" in attributes:
        pads = list(attributes["pads"])
        return strides, dilations, list(zip(pads[:rank], pads[rank:], strict=True))
    both = _each(attributes.get("padding") if not isinstance(auto, (bytes, str)) else None, rank, 0)
    return strides, dilations, [(p, p) for p in both]


def _each(value: Any, rank: int, default: int) -> tuple[int, ...]:
    """Return a number for every axis, of one number, a list of them, or none."""
    if value is None:
        return (default,) * rank
    values = [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]
    return tuple(values * rank if len(values) == 1 else values)
