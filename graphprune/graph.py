"""The neutral dependency graph: tensors with axes, nodes with an operator family.

A front end makes it from a model, every later step reads it, nobody changes it. It knows neither ONNX nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TensorKind = Literal["input", "parameter", "activation"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the model at the traced sizes.

    ``shape`` holds concrete sizes; ``None`` means that even the rank depends on the data. ``dynamic`` tells axis by
    axis whether the size follows the caller's input (a fixed multiple of a batch of one does not count: what it is a
    multiple of may be pruned). A ``parameter`` is a constant stored in the model.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    kind: TensorKind
    dynamic: tuple[bool, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements at the traced sizes (0 if unknown)."""
        return 0 if self.shape is None else prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes an element takes in memory."""
        return ITEM_BYTES.get(self.dtype, 1)

    @property
    def bits(self) -> int:
        """Bits an element takes where it is stored: small ones share bytes."""
        return ITEM_BITS.get(self.dtype, 8 * self.itemsize)

    @property
    def stored_bytes(self) -> int:
        """Bytes that all elements take where they are stored."""
        return (self.size * self.bits + 7) // 8


ITEM_BYTES = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
ITEM_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4_e2m1fn": 4}
"""Types that share bytes."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operator application. ``op`` is the model's own word for it, ``family`` the rule that couples it.

    ``attrs`` are in the family's terms, not the model's. An absent optional input is ``None``.
    """

    name: str
    op: str
    family: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """A small value the tracer computed (a shape, an index list): where ``static``, it holds for every input size."""

    value: Array
    static: NDArray[np.bool_]


@dataclass(frozen=True)
class Bodies:
    """What the bodies of control flow and the model's own functions mean for the nodes laid out from them.

    Nodes are given by position. ``inner`` names tensors inside bodies, which nobody outside can read; ``enclosed`` are
    nodes inside bodies or functions. ``held`` gives parameters, ``held_nodes`` nodes whose axes are all frozen, with
    the reason. ``seen`` are small values that decide on a branch. ``repeats`` tells how often a node runs, ``choices``
    the branches it lies in, outermost first: (name of the choice, which of its branches). ``failing`` are branches with
    layers in them that do not run at the traced sizes.
    """

    inner: frozenset[str] = frozenset()
    enclosed: frozenset[int] = frozenset()
    held: Mapping[str, str] = field(default_factory=dict)
    held_nodes: Mapping[int, str] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    repeats: Mapping[int, int] = field(default_factory=dict)
    choices: Mapping[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    failing: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True)
class Graph:
    """A model as tensors and nodes in topological order.

    ``known`` holds the small values computed while tracing. ``parameter`` returns a parameter's array by name.
    ``source`` is what the back end of the same world needs to write the model back; nobody else looks at it.
    """

    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    known: Mapping[str, Known]
    parameter: Callable[[str], Array]
    source: Any = field(repr=False, default=None)
    notes: tuple[str, ...] = ()
    ties_vectors: bool = False
    """Whether a vector that several nodes use is one for all; ONNX exporters merge equal ones, and those may part."""
    mixed_sizes: tuple[tuple[str, int], ...] = ()
    """(tensor, axis) whose size is read and added to sizes that follow the input: what comes out cannot be mended."""
    bodies: Bodies = field(default_factory=Bodies)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the traced shape of a tensor whose shape is known."""
        shape = self.tensors[name].shape
        assert shape is not None, name
        return shape

    @cached_property
    def parameters(self) -> tuple[Tensor, ...]:
        """Every constant stored in the model."""
        return tuple(t for t in self.tensors.values() if t.kind == "parameter")
