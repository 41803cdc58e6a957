"""The stored tensors behind the operands of contractions, element by element, through what only moves elements.

Positions are followed as flat indices: an operand that is a transposed half of a stored tensor has an array of its own
shape that tells which element of the stored tensor each of its elements is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..families.pattern import parse, spread
from ..graph import Array, Graph, Node
from ..sites.site import Site, last_letter

OUTPUT_OF_MODEL = -1
"""Stands for the node where a stored tensor is an output of the model."""
SHAPES = frozenset({"Shape", "Size"})
COPYING = frozenset({"Identity", "Cast", "CastLike", "_to_copy", "to", "type_as"})


@dataclass(frozen=True)
class Use:
    """Input ``position`` of a node reads a stored tensor; its elements are ``index`` of it (None: all, as is)."""

    node: int
    position: int
    parameter: str
    index: Array | None


@dataclass(frozen=True)
class Operand:
    """The other operand of a contraction: input ``position`` has the letter that is summed over on ``axis``.

    ``inner`` is the letter's size, ``outer`` and ``behind`` what comes before and after it where the axis is a product.
    """

    position: int
    axis: int
    outer: int
    inner: int
    behind: int


@dataclass(frozen=True)
class Operands:
    """Who reads the stored tensors of a graph, directly or through what only moves elements."""

    graph: Graph
    _uses: dict[str, tuple[Use, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def readers(self) -> Mapping[str, list[tuple[int, int]]]:
        """The (node, position) pairs that read each tensor; what only asks for its shape or type does not."""
        found: dict[str, list[tuple[int, int]]] = {name: [(OUTPUT_OF_MODEL, 0)] for name in self.graph.outputs}
        for k, node in enumerate(self.graph.nodes):
            for place, name in enumerate(node.inputs):
                if name and node.op not in SHAPES and (node.op, place) != ("CastLike", 1):
                    found.setdefault(name, []).append((k, place))
        return found

    @cached_property
    def makers(self) -> Mapping[str, int]:
        """The node that makes each tensor."""
        return {name: k for k, node in enumerate(self.graph.nodes) for name in node.outputs}

    def parameter_behind(self, name: str) -> str | None:
        """Return the stored tensor whose elements a tensor consists of, None where something is computed."""
        while self.graph.tensors[name].kind != "parameter":
            node = self.graph.nodes[self.makers[name]] if name in self.makers else None
            if node is None or not moves(self.graph, node, 0):
                return None
            assert node.inputs[0] is not None
            name = node.inputs[0]
        return name

    def value(self, name: str) -> Array:
        """Return the value of a tensor that consists of a stored tensor's elements."""
        if self.graph.tensors[name].kind == "parameter":
            return self.graph.parameter(name)
        node = self.graph.nodes[self.makers[name]]
        assert node.inputs[0] is not None
        return moved_by(self.graph, node, self.value(node.inputs[0]))[node.outputs.index(name)]

    def constant(self, name: str) -> Array | None:
        """Return the value of a tensor that is a stored one, moved or repeated to fixed sizes; None for any other.

        Exporters write a missing bias as a zero that is repeated.
        """
        tensor = self.graph.tensors[name]
        if tensor.kind == "parameter":
            return self.graph.parameter(name)
        node = self.graph.nodes[self.makers[name]] if name in self.makers else None
        if node is None or True in tensor.dynamic or not (node.family == "expand" or moves(self.graph, node, 0)):
            return None
        value = self.constant(node.inputs[0] or "")
        if value is None or node.family != "expand":
            return value if value is None else moved_by(self.graph, node, value)[node.outputs.index(name)]
        return np.broadcast_to(value, self.graph.shape(name))

    def uses(self, parameter: str) -> tuple[Use, ...]:
        """Return every use of a stored tensor that is not a mere move of its elements."""
        if parameter not in self._uses:
            self._uses[parameter] = tuple(self._follow(parameter, parameter, None))
        return self._uses[parameter]

    def _follow(self, parameter: str, name: str, index: Array | None) -> Iterator[Use]:
        for k, place in self.readers.get(name, ()):
            node = self.graph.nodes[k] if k >= 0 else None
            if node is None or not moves(self.graph, node, place):
                yield Use(k, place, parameter, index)
                continue
            if index is None:
                size = self.graph.tensors[parameter].size
                narrow = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)
                index = narrow.reshape(self.graph.shape(parameter))
            for out, moved in zip(node.outputs, moved_by(self.graph, node, index), strict=True):
                yield from self._follow(parameter, out, moved)


def moves(graph: Graph, node: Node, place: int) -> bool:
    """Tell whether a node only moves the elements of its input ``place``, or picks some of them.

    Copies between floating types count, since they keep what elements are multiplied by.
    """
    if place != 0:
        return False
    if node.family == "elementwise":
        kinds = {graph.tensors[n].dtype for n in (node.inputs[0], *node.outputs) if n}
        return node.op.split(".")[0] in COPYING and (len(kinds) == 1 or all(map(is_floating, kinds)))
    if node.family == "select":
        return all(picked is not None for picked in node.attrs["picks"].values())
    return node.family in ("transpose", "reshape", "permutation", "split")


def is_floating(dtype: str) -> bool:
    """Tell whether a type, as ``Tensor.dtype`` names it, is one of floating numbers that weights may have."""
    return dtype in ("float16", "bfloat16", "float32", "float64")


def moved_by(graph: Graph, node: Node, array: Array) -> list[Array]:
    """Return what a node that moves elements makes of an array in the place of its first input: one array an output."""
    shapes = [graph.shape(name) for name in node.outputs]
    if node.family == "transpose":
        return [array.transpose(node.attrs["perm"])]
    if node.family == "permutation":
        return [array.take(node.attrs["index"], axis=node.attrs["axis"]).reshape(shapes[0])]
    if node.family == "split":
        axis = node.attrs["axis"]
        return np.split(array, np.cumsum([s[axis] for s in shapes])[:-1], axis=axis)
    for axis, picked in node.attrs.get("picks", {}).items():
        array = array.take(picked, axis=axis)
    return [array.reshape(shape) for shape in shapes]


def other_operands(graph: Graph, site: Site) -> tuple[Operand, ...]:
    """Return the operands of a site's contraction, other than the site's own, that have the letter summed over."""
    node = graph.nodes[site.node]
    if node.family != "contraction":
        return ()
    operands, _ = parse(node.attrs["pattern"])
    letter = last_letter(spread(operands[site.position], len(graph.shape(site.tensor)))[site.axis])
    found = []
    for place, name in enumerate(node.inputs[: len(operands)]):
        if name is None or place == site.position:
            continue
        shape = graph.shape(name)
        for axis, token in enumerate(spread(operands[place], len(shape))):
            parts = (token,) if isinstance(token, str) else token
            if letter in parts:
                found.append(_placed(node, place, axis, shape[axis], parts.index(letter), parts))
    return tuple(found)


def _placed(node: Node, place: int, axis: int, size: int, at: int, parts: tuple[str, ...]) -> Operand:
    if len(parts) == 1:
        return Operand(place, axis, 1, size, 1)
    sizes = [int(node.attrs["sizes"][p]) for p in parts]
    outer, behind = int(np.prod(sizes[:at])), int(np.prod(sizes[at + 1 :]))
    return Operand(place, axis, outer, sizes[at], behind)
