"""The weights of a group's units, and their sums of powers: what every magnitude-like score is made of.

One pass over a tensor gives the sums of all its slices along every axis, so a tensor that several groups cut is read
once. Blocks are widened to float64 in cache, so sums are as exact as float64 makes them and no tensor is copied whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from math import isfinite, prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .codes import Codes
from .errors import ModelError
from .graph import Array, Graph
from .groups import Group, Member
from .scores import FloatArray

Power = Literal[1, 2]
Roles = Literal["all", "producer"]

BLOCK = 1 << 16
"""Elements widened to float64 at a time: half a megabyte, which stays in a core's cache."""


def is_weight(dtype: str) -> bool:
    """Tell whether elements of a type (as ``Tensor.dtype`` names it) are numbers that a network multiplies by.

    Floats of any width and the integers quantised models store are. Booleans, text and complex numbers are not, nor are
    64-bit integers, which hold positions and shapes.
    """
    return dtype.startswith(("float", "bfloat", "int", "uint")) and dtype not in {"int64", "uint64"}


def slice_sums(array: Array, power: Power = 2) -> tuple[FloatArray, ...]:
    """Return sum |w|**power of every slice along every axis: one array a axis, shape (size of the axis,).

    The tensor is read once as a matrix whose rows are its leading axes: row sums serve those, column sums the others.
    """
    parts = _partial_sums(array, power)
    return tuple(_along(parts, axis) for axis in range(array.ndim))


def _partial_sums(array: Array, power: Power) -> tuple[FloatArray, ...]:
    """Return sum |w|**power over the tensor's trailing axes, and over its leading ones: the axes left are all axes."""
    shape = array.shape
    if array.size == 0:
        return tuple(np.zeros(n) for n in shape)
    if len(shape) == 1:  # there are many small ones
        with np.errstate(over="ignore"):
            return (np.abs(array.astype(np.float64)) if power == 1 else np.square(array.astype(np.float64)),)
    cut = _cut(shape)
    rows, columns = _matrix_sums(array.reshape(prod(shape[:cut]), prod(shape[cut:])), power)
    return rows.reshape(shape[:cut]), columns.reshape(shape[cut:])


@cache
def _cut(shape: tuple[int, ...]) -> int:
    """Return how many leading axes make the rows of the matrix with the fewest rows and columns."""
    return min(range(len(shape) + 1), key=lambda c: prod(shape[:c]) + prod(shape[c:]))


def _matrix_sums(matrix: Array, power: Power) -> tuple[FloatArray, FloatArray]:
    """Row sums and column sums of |matrix|**power, block of rows by block of rows."""
    height, width = matrix.shape
    step = max(1, min(height, BLOCK // width))
    block, ones = np.empty((step, width)), np.ones(width)
    rows, columns = np.empty(height), np.zeros(width)
    with np.errstate(over="ignore"):
        for start in range(0, height, step):
            part = block[: min(step, height - start)]
            part[...] = matrix[start : start + step]
            if power == 1:
                np.abs(part, out=part)
            else:
                np.multiply(part, part, out=part)
            np.matmul(part, ones, out=rows[start : start + step])  # twice as fast as a sum over the short axis
            columns += np.add.reduce(part, axis=0)
    return rows, columns


def _along(parts: tuple[FloatArray, ...], axis: int) -> FloatArray:
    """Add partial sums up along one axis of the tensor."""
    first, *others = parts
    if axis >= first.ndim:
        return _along(tuple(others), axis - first.ndim)
    return first if first.ndim == 1 else np.asarray(first.sum(axis=tuple(a for a in range(first.ndim) if a != axis)))


@dataclass(frozen=True)
class Weights:
    """The weights of a graph as units see them. Sums of powers are remembered while this lives: one call of a pass."""

    graph: Graph
    power: Power = 2
    _parts: dict[str, tuple[FloatArray, ...]] = field(default_factory=dict, repr=False)
    _sums: dict[tuple[str, int], FloatArray] = field(default_factory=dict, repr=False)
    _members: dict[tuple[str, Roles], tuple[Member, ...]] = field(default_factory=dict, repr=False)

    def members(self, group: Group, roles: Roles = "all") -> tuple[Member, ...]:
        """Return the members that hold weights, ordered by tensor and axis so that no sum depends on the group's order.

        The role "norm" is left out: beta does not grow with a unit's worth, and running statistics are no weights. So
        are the scales and zero points of quantised weights.
        With ``roles="producer"`` only producers are returned, or all where the group has none.
        """
        key = (group.id, roles)
        if key not in self._members:
            weights = [m for m in group.members if m.role != "norm" and self._holds_weights.get(m.tensor)]
            producers = [m for m in weights if m.role == "producer"] if roles == "producer" else []
            order = sorted(producers or weights, key=lambda m: (m.tensor, m.axis, m.role, m.index.tobytes()))
            self._members[key] = tuple(order)
        return self._members[key]

    def of_units(self, member: Member, size: int) -> FloatArray:
        """Return sum |w|**power over the positions each of ``size`` units owns in a member, shape (size,).

        Raises ModelError where the tensor holds infinite or NaN weights.
        """
        slices = self._slices(member.tensor, member.axis)
        return np.bincount(member.unit, slices.take(member.index), size).astype(np.float64, copy=False)

    def table(self, group: Group, roles: Roles = "all") -> FloatArray:
        """Return ``of_units`` of all members of a group, shape (members, units)."""
        rows = [self.of_units(member, group.size) for member in self.members(group, roles)]
        return np.stack(rows) if rows else np.zeros((0, group.size))

    def dead(self, group: Group) -> NDArray[np.bool_]:
        """Tell which units own weights and all of them are zero, shape (units,). Small tensors are looked at first."""
        members = self.members(group)
        first = min(members, key=lambda m: self.graph.tensors[m.tensor].size, default=None)
        idle = np.ones(group.size, dtype=np.bool_)
        owning = np.zeros(group.size, dtype=np.bool_)
        for member in () if first is None else (first, *members):
            owning[member.unit] = True
            idle &= self.of_units(member, group.size) == 0
            if not idle.any():
                break
        return idle & owning

    def values(self, name: str) -> Array:
        """Return a parameter's values; of a quantised one, the numbers that its codes stand for."""
        return self._codes.values(name)

    @cached_property
    def _codes(self) -> Codes:
        return Codes(self.graph)

    def _slices(self, name: str, axis: int) -> FloatArray:
        key = name, axis
        if key not in self._sums:
            self._sums[key] = _along(self._partial(name), axis)
        return self._sums[key]

    def _partial(self, name: str) -> tuple[FloatArray, ...]:
        if name not in self._parts:
            parts = _partial_sums(self.values(name), self.power)
            if not isfinite(parts[0].sum()):
                raise ModelError(
                    "weights-not-finite",
                    "holds infinite or NaN weights, or weights too large to add up",
                    where=name,
                    hint="repair the weights, or protect the layer with --keep",
                )
            self._parts[name] = parts
        return self._parts[name]

    @cached_property
    def _holds_weights(self) -> dict[str, bool]:
        steps = self._codes.steps
        return {t.name: is_weight(t.dtype) and t.name not in steps for t in self.graph.parameters}
