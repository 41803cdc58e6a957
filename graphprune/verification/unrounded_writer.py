"""Nodes in floating numbers in place of quantised ones, written one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANGES = {
    TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255), TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
}  # fmt: skip
"""Types of codes, and the ends of their range."""
CONTRIB = "com.microsoft"
SMALLEST = 1e-30
"""Stands for the scale of zeros."""
Shape = tuple[int, ...]
Attributes = dict[str, onnx.AttributeProto]


@dataclass
class Writer:
    """Writes nodes; ``floating`` are the tensors of codes that have become floating numbers."""

    types: dict[str, int]
    shapes: dict[str, Shape]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    floating: set[str] = field(default_factory=set)

    def along(self, name: str, scale: str, attrs: Attributes) -> tuple[int | None, int]:
        """Return the axis a scale runs along and the rank of its tensor; None where it is one for all."""
        rank = len(self.shapes.get(name, ()))
        long = np.prod(self.shapes.get(scale, ()), dtype=int) > 1 and rank > 1
        return (attrs["axis"].i % rank if "axis" in attrs else 1) if long else None, rank

    def add(self, op: str, inputs: Sequence[str], output: str = "", domain: str = "", **attrs: Any) -> str:
        """Add a node and return the name of what it makes."""
        output = output or f"unrounded.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attrs))
        return output

    def stored(self, value: object, kind: type = np.float32) -> str:
        """Add a constant."""
        return self.add("Constant", [], value=numpy_helper.from_array(np.array(value, kind)))

    def number(self, name: str) -> str:
        """Return codes, or anything else, as floating numbers."""
        return name if name in self.floating else self.add("Cast", [name], to=TensorProto.FLOAT)

    def centred(self, codes: str, zero: str, axis: int | None = None, rank: int = 0) -> str:
        """Return codes less their zero point."""
        return self.add("Sub", [self.number(codes), self.lined_up(zero, axis, rank)]) if zero else self.number(codes)

    def lined_up(self, step: str, axis: int | None, rank: int) -> str:
        """Return a scale or zero point, shaped to run along an axis where there is one."""
        value = self.number(step)
        if axis is None:
            return value
        return self.add("Reshape", [value, self.stored([-1 if k == axis else 1 for k in range(rank)], np.int64)])

    def real(self, codes: str, scale: str, zero: str = "", axis: int | None = None, rank: int = 0) -> str:
        """Return what codes stand for."""
        return self.add("Mul", [self.centred(codes, zero, axis, rank), self.lined_up(scale, axis, rank)])

    def triple(self, names: Sequence[str], axis: int | None = None, rank: int = 0) -> str:
        """Return what (codes, scale, zero point) stand for."""
        codes, scale, *zero = names
        return self.real(codes, scale, zero[0] if zero else "", axis, rank)

    def coded(self, value: str, scale: str, zero: str, output: str, axis: int | None = None, rank: int = 0) -> None:
        """Write the codes that stand for a value, not rounded, under the name of an output."""
        low, high = RANGES[self.types.get(output, self.types.get(zero, TensorProto.UINT8))]
        codes = self.add("Div", [value, self.lined_up(scale, axis, rank)])
        codes = self.add("Add", [codes, self.lined_up(zero, axis, rank)]) if zero else codes
        self.add("Max", [self.add("Min", [codes, self.stored(high)]), self.stored(low)], output)
