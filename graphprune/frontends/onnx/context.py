"""Nodes of an ONNX model, read once, and what their shape rules and their lowering to a family may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from onnx import GraphProto, NodeProto

from ...graph import Array
from .values import Attributes, attributes_and_bodies

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """What an operation is to a body laid out before it.

    ``choose`` stands for an If behind its two branches: inputs are the condition, the results of one branch and those
    of the other. ``enter`` stands for the beginning of a Loop's or Scan's body: inputs are the node's, outputs what the
    body is given. ``leave`` stands for its end: inputs are the node's and then the body's results. ``begin`` is where
    its ``enter`` is among the operations, ``states`` counts what is carried from one iteration to the next, ``choice``
    names an If, ``ranks`` are those that its branches declare for its results (-1: none).
    """

    kind: Literal["choose", "enter", "leave"]
    states: int = 0
    begin: int = -1
    choice: str = ""
    ranks: tuple[tuple[int, int], ...] = ()


class Operation(NamedTuple):
    """A node with its fields as Python values: asking a protobuf message takes its time.

    As a Context, one is made of every node, and a named tuple is made faster than a dataclass.

    ``domain`` is "" for the standard one, ``opset`` the version of the domain, ``bodies`` are graphs among the
    attributes that are not laid out beside it (those that are: ``control``).
    """

    proto: NodeProto
    op: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Attributes
    bodies: tuple[GraphProto, ...]
    control: Control | None = None

    @classmethod
    def read(cls, proto: NodeProto, opsets: Mapping[str, int]) -> Operation:
        """Read a node, given the opset of every domain."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attrs, bodies = attributes_and_bodies(proto)
        inputs, outputs = tuple(proto.input), tuple(proto.output)
        return cls(proto, proto.op_type, domain, opsets.get(domain, 1), inputs, outputs, attrs, bodies)


class Context(NamedTuple):
    """A node among the shapes and constants of a model, which are asked for by position."""

    node: Operation
    shapes: Mapping[str, Shape]
    constant: Callable[[str], Array | None]
    static: Callable[[str], bool]

    @property
    def attrs(self) -> Attributes:
        """Attributes as Python values."""
        return self.node.attrs

    @property
    def opset(self) -> int:
        """Opset of the node's domain."""
        return self.node.opset

    def has(self, position: int) -> bool:
        """Tell whether an optional input is there."""
        return len(self.node.inputs) > position and self.node.inputs[position] != ""

    def shape(self, position: int = 0) -> Shape:
        """Return the shape of an input; raises KeyError where it is not known."""
        return self.shapes[self.node.inputs[position]]

    def rank(self, position: int = 0) -> int:
        """Return the rank of an input."""
        return len(self.shape(position))

    def out_shape(self, position: int = 0) -> Shape:
        """Return the shape of an output."""
        return self.shapes[self.node.outputs[position]]

    def value(self, position: int) -> Array | None:
        """Return an input's value where it is known and holds at every input size."""
        if not self.has(position) or not self.static(self.node.inputs[position]):
            return None
        return self.constant(self.node.inputs[position])

    def integers(self, name: str, position: int) -> list[int] | None:
        """Return integers that old opsets give as an attribute and newer ones as an input; None: absent or unknown."""
        if name in self.attrs:
            return list(self.attrs[name])
        value = self.value(position)
        return None if value is None else [int(n) for n in np.ravel(value)]
