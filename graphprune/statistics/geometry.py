"""Where the kernel of a convolution reads: for every output position and tap the input position, axis by axis.

A transposed convolution is one as well, over its data with zeros put between: output q gets, through tap k, the input
at (q + pad - k dilation) / stride where that is a whole number, so windows and refits of it are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..coresets.attributes import attributes_of
from ..graph import Graph
from ..groups import IntArray

OUTSIDE = -1
"""Stands for a tap that reads no input but a zero."""


@dataclass(frozen=True)
class Geometry:
    """Strides, dilations and padding of a convolution, one number an axis.

    ``same`` is "upper", "lower" or "": padding that follows the size, as ONNX' auto_pad says; ``pads`` are (before,
    after). ``growth`` is a transposed convolution's output padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    same: str = ""
    transposed: bool = False
    growth: tuple[int, ...] = ()

    def paddings(self, size: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return (before, after) of every axis for data of these sizes."""
        if not self.same or self.transposed:
            return self.pads
        needed = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, s, k, d in zip(size, self.strides, self.kernel, self.dilations, strict=True)
        ]
        return tuple((p // 2, p - p // 2) if self.same == "upper" else (p - p // 2, p // 2) for p in needed)

    def tables(self, size: Sequence[int], out: Sequence[int]) -> list[IntArray]:
        """Return for every axis the input position of (output position, tap), or OUTSIDE: shape (out, taps) each."""
        return _tables(self, tuple(size), tuple(out))

    def _table(self, axis: int, size: int, out: int, before: int) -> IntArray:
        step, reach = self.strides[axis], self.dilations[axis]
        taps = np.arange(self.kernel[axis]) * reach
        if self.transposed:
            at, rest = np.divmod(np.arange(out)[:, None] + before - taps, step)
            return np.where((rest == 0) & (at >= 0) & (at < size), at, OUTSIDE)
        at = np.arange(out)[:, None] * step - before + taps
        return np.where((at >= 0) & (at < size), at, OUTSIDE)

    def output(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the sizes that come out of data of these sizes; those of a transposed one are ``growth``'s."""
        found = []
        for axis, (n, (before, after)) in enumerate(zip(size, self.paddings(size), strict=True)):
            step, span = self.strides[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
            if self.transposed:
                found.append((n - 1) * step + span - before - after + self.growth[axis])
            else:
                found.append((n + before + after - span) // step + 1)
        return tuple(found)

    @property
    def is_plain(self) -> bool:
        """Whether every output reads the one input at its own place."""
        ones = (1,) * len(self.kernel)
        return self.kernel == ones == self.strides and not any(map(any, self.pads)) and not any(self.growth)


@lru_cache(maxsize=256)
def _tables(geometry: Geometry, size: tuple[int, ...], out: tuple[int, ...]) -> list[IntArray]:
    """Return ``Geometry.tables``: the same for every batch, and not to be changed."""
    befores = [before for before, _ in geometry.paddings(size)]
    return [geometry._table(axis, size[axis], out[axis], before) for axis, before in enumerate(befores)]


def geometry_of(graph: Graph, node: int, kernel: tuple[int, ...], *, transposed: bool = False) -> Geometry:
    """Read a convolution's geometry from its attributes, in ONNX' or torch's words."""
    attributes, rank = attributes_of(graph, node), len(kernel)
    strides = _each(attributes.get("strides", attributes.get("stride")), rank, 1)
    dilations = _each(attributes.get("dilations", attributes.get("dilation")), rank, 1)
    auto = attributes.get("auto_pad", attributes.get("padding", b""))
    word = (auto.decode() if isinstance(auto, bytes) else auto if isinstance(auto, str) else "").upper()
    same = {"SAME_LOWER": "lower", "SAME": "upper", "SAME_UPPER": "upper"}.get(word, "")
    if "pads" in attributes and not same:
        listed = list(attributes["pads"])
        pads = list(zip(listed[:rank], listed[rank:], strict=True))
    else:
        both = _each(attributes.get("padding") if not isinstance(auto, (bytes, str)) else None, rank, 0)
        pads = [(p, p) for p in both]
    growth: tuple[int, ...] = ()
    if transposed:
        pads, growth = _transposed(graph, node, Geometry(kernel, strides, dilations, tuple(pads)), same, attributes)
    return Geometry(kernel, strides, dilations, tuple(pads), same, transposed, growth)


def _transposed(
    graph: Graph, node: int, plain: Geometry, same: str, attributes: Any
) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """Return a transposed convolution's pads and output padding: SAME, or a wanted shape, decides the pads."""
    rank = len(plain.kernel)
    growth = _each(attributes.get("output_padding"), rank, 0)
    if not same and "output_shape" not in attributes:
        return list(plain.pads), growth
    size, out = (
        graph.shape(graph.nodes[node].inputs[0] or "")[-rank:],
        graph.shape(graph.nodes[node].outputs[0])[-rank:],
    )
    pads = []
    for axis in range(rank):
        span = (plain.kernel[axis] - 1) * plain.dilations[axis] + 1
        total = plain.strides[axis] * (size[axis] - 1) + growth[axis] + span - out[axis]
        # ONNX: SAME_UPPER puts the larger half behind, everything else before.
        before = total // 2 if same == "upper" else total - total // 2
        pads.append((before, total - before))
    return pads, growth


def _each(value: Any, rank: int, default: int) -> tuple[int, ...]:
    """Return a number for every axis, of one number, a list of them, or none."""
    if value is None:
        return (default,) * rank
    values = [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]
    return tuple(values * rank if len(values) == 1 else values)
