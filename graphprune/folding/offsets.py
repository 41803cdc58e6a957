"""What constants add to the output of a contraction: one number a channel, or a map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import ModelError
from ..graph import Array, Graph

Borders = Literal["exact", "interior"]
EQUAL = 1e-5
"""Differences along an axis, over the largest value, that are rounding of sums in float32."""


@dataclass(frozen=True)
class Constant:
    """What is always added to the data at input ``position`` of node ``node``.

    ``value`` broadcasts to the input's shape; it must have one entry along axes whose size follows the model's input,
    and along the batch.
    """

    node: int
    position: int
    value: Array


@dataclass(frozen=True)
class Offset:
    """What is added to the output of node ``node``; ``value`` broadcasts to it, with one entry on axes it ignores."""

    node: int
    value: Array

    def plus(self, other: Offset) -> Offset:
        """Return the sum of two offsets of the same node."""
        return Offset(self.node, self.value + other.value)

    def as_bias(self) -> Array | None:
        """Return the offset as a vector, shape (channels,), if it only differs along the second axis."""
        others = [n for k, n in enumerate(self.value.shape) if k != 1]
        return self.value.ravel() if self.value.ndim > 1 and all(n == 1 for n in others) else None


def offsets_of(
    graph: Graph, constants: Iterable[Constant], borders: Borders, contribution: Callable[[Constant], Array]
) -> list[Offset]:
    """Return what constants add to the outputs of their nodes, one offset a node; those that add nothing are left out.

    ``contribution`` gives what a constant adds to its node's output at the traced sizes. Raises ModelError where that
    differs along an axis whose size follows the model's input.
    """
    found: dict[int, Offset] = {}
    for constant in constants:
        offset = Offset(constant.node, _shortest(graph, constant.node, contribution(constant), borders))
        before = found.get(constant.node)
        found[constant.node] = offset if before is None else before.plus(offset)
    return [offset for offset in found.values() if offset.value.any()]


def _shortest(graph: Graph, at: int, value: Array, borders: Borders) -> Array:
    """Return a contribution with one entry along every axis on which it does not change, or whose borders are left."""
    node = graph.nodes[at]
    for axis in range(value.ndim):
        is_spatial = "spatial" in node.attrs and axis > 1
        middle = value.shape[axis] // 2
        one = value.take([middle], axis=axis)
        inside = value.take(range(max(middle - 1, 0), min(middle + 2, value.shape[axis])), axis=axis)
        if _equal(value, one) or (borders == "interior" and is_spatial and _equal(inside, one)):
            value = one
        elif graph.tensors[node.outputs[0]].dynamic[axis]:
            why = "what it leaves differs along an axis whose size follows the model's input"
            raise not_foldable(graph, at, why, 'borders="interior" takes what holds away from the borders')
    return value


def _equal(value: Array, one: Array) -> bool:
    return bool(np.abs(value - one).max(initial=0.0) <= EQUAL * np.abs(value).max(initial=0.0))


def not_foldable(graph: Graph, node: int, why: str, hint: str = "") -> ModelError:
    """Return the error for constants that cannot go into a node."""
    name = graph.nodes[node].name
    words = f"the constants that removed units leave cannot be kept in {graph.nodes[node].op}: {why}"
    return ModelError(
        "constant-not-foldable", words, where=name, hint=hint or f"leave these units in (--keep '{name}')"
    )
