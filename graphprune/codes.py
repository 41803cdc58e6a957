"""What the integers of a quantised model stand for: (code - zero point) times scale.

A weight stored as codes is worth what it stands for; its scales and zero points are no weights themselves. Where codes
pass through reshapes, transposes or lookups before a node says what they mean, and where they meet their scale only
after the product, the graph is followed to there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .families.coding import Coding
from .graph import Array, Graph, Node

MOVING = {"concat", "lookup", "permutation", "quantized concat", "reshape", "select", "split", "transpose"}
"""Families that move codes without changing them."""
STEPS_AFTER = 3
"""How many nodes may lie between a product of codes and its scale: a cast, a product of scales, the scaling."""
Found = tuple[Node, Coding]


@dataclass(frozen=True)
class Codes:
    """The codes of a graph. ``read`` tells for a parameter what the first node that reads it as codes makes of it."""

    graph: Graph

    @cached_property
    def _users(self) -> Mapping[str, list[tuple[Node, int]]]:
        users: dict[str, list[tuple[Node, int]]] = {}
        for node in self.graph.nodes:
            for place, name in enumerate(node.inputs):
                if name is not None:
                    users.setdefault(name, []).append((node, place))
        return users

    @cached_property
    def _makers(self) -> Mapping[str, Node]:
        return {name: node for node in self.graph.nodes for name in node.outputs}

    @cached_property
    def any(self) -> bool:
        """Tell whether the graph has codes at all."""
        return any("codes" in node.attrs for node in self.graph.nodes)

    @cached_property
    def steps(self) -> frozenset[str]:
        """Scales and zero points: parameters that are no weights."""
        found: set[str | None] = set()
        for node in self.graph.nodes:
            for coding in node.attrs.get("codes", {}).values():
                found.update(node.inputs[place] for place in (*coding.scales, coding.zero) if place is not None)
                found.update(() if coding.scales else self._scales_after(node))
            if node.family == "quantize":
                found.update(node.inputs[1:])
        return frozenset(name for name in found if name is not None and self._is_stored(name))

    def _is_stored(self, name: str) -> bool:
        return self.graph.tensors[name].kind == "parameter"

    def read(self, name: str) -> Found | None:
        """Return the node that says what a parameter's codes mean, and how; None where it holds no codes."""
        return self._read(name)

    def _read(self, name: str, *, moved: bool = False) -> Found | None:
        for node, place in self._users.get(name, ()):
            coding: Coding | None = node.attrs.get("codes", {}).get(place)
            if coding is not None:
                return (node, coding) if not moved or not self._has_axis(node, coding) else None
            if node.family in MOVING and place == 0:
                found = self._read(node.outputs[0], moved=True)
                if found is not None:
                    return found
        return None

    def _has_axis(self, node: Node, coding: Coding) -> bool:
        """Tell whether any step runs along an axis, which a moved tensor has elsewhere."""
        steps = [node.inputs[p] for p in (*coding.scales, coding.zero) if p is not None]
        return coding.packed or any(name and self.graph.tensors[name].size > 1 for name in steps)

    def values(self, name: str) -> Array:
        """Return a parameter's values as numbers: what its codes stand for, or what is stored.

        Codes of a scale that is known only as the model runs (dynamic quantisation) are centred and not scaled.
        """
        array = self.graph.parameter(name)
        found = self.read(name) if self.any else None
        if found is None:
            return array
        node, coding = found
        if coding.packed:
            return self._unpacked(node, coding, array)
        result = array.astype(np.float32)
        zero = self._stored(node, coding.zero)
        if zero is not None:
            result = result - _spread(zero.astype(np.float32), result, coding)
        for scale in self._scales(node, coding):
            result = result * _spread(scale.astype(np.float32), result, coding)
        return result

    def _stored(self, node: Node, place: int | None) -> Array | None:
        name = None if place is None else node.inputs[place]
        return self.graph.parameter(name) if name is not None and self._is_stored(name) else None

    def _scales(self, node: Node, coding: Coding) -> Iterator[Array]:
        if coding.scales:
            found = (self._stored(node, place) for place in coding.scales)
            yield from (scale for scale in found if scale is not None)
        else:
            yield from map(self.graph.parameter, self._scales_after(node))

    def _scales_after(self, node: Node) -> Iterator[str]:
        """Yield the stored factors that a product of codes meets: itself, or within the scale it is multiplied by."""
        name = node.outputs[0]
        for _ in range(STEPS_AFTER):
            users = self._users.get(name, [])
            if len(users) != 1 or users[0][0].op not in ("Cast", "Mul"):
                return
            after, place = users[0]
            if after.op == "Mul":
                other = after.inputs[1 - place]
                yield from self._factors(other) if other is not None else ()
                return
            name = after.outputs[0]

    def _factors(self, name: str) -> Iterator[str]:
        made = self._makers.get(name)
        names = [name] if made is None else [n for n in made.inputs if n] if made.op == "Mul" else []
        yield from (n for n in names if self._is_stored(n))

    def _unpacked(self, node: Node, coding: Coding, array: Array) -> Array:
        """Return packed codes as numbers, one block a row: shape (outputs, blocks, block)."""
        codes = _bits(array, coding.bits)
        zero, middle = self._stored(node, coding.zero), 1 << (coding.bits - 1)
        count = codes.shape[:2]
        if zero is None:
            centre: Array = np.full((*count, 1), middle, np.float32)
        elif zero.dtype == np.uint8:
            centre = _bits(zero.reshape(count[0], -1), coding.bits)[:, : count[1], None]
        else:
            centre = zero.reshape(*count, 1).astype(np.float32)
        scale = self._stored(node, coding.scales[0])
        result: Array = codes.astype(np.float32) - centre
        return result if scale is None else result * scale.reshape(*count, 1).astype(np.float32)


def _bits(array: Array, bits: int) -> Array:
    """Take the codes out of bytes, the first in the lowest bits, along the last axis."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((array[..., None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(*array.shape[:-1], -1)


def _spread(step: Array, codes: Array, coding: Coding) -> Array:
    """Line a scale or zero point up with its codes: one for all, along an axis, or in blocks of it."""
    if step.size == 1:
        return step.reshape(())
    if step.ndim > 1 and not coding.block:  # along the first axis and the last
        return step.reshape(step.shape[0], *[1] * (codes.ndim - 2), -1)
    if coding.block:
        return np.repeat(step, coding.block, axis=coding.axis).take(range(codes.shape[coding.axis]), axis=coding.axis)
    return step.reshape([-1 if k == coding.axis else 1 for k in range(codes.ndim)])
