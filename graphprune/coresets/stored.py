"""The stored tensors that nodes read, as the nodes see them, and which units stand where along their axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..folding.batch_norm import foldable
from ..folding.operands import Operands, Use
from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..layout import Layout
from ..scores import FloatArray
from ..weights import is_weight


@dataclass(frozen=True)
class Along:
    """Positions ``index`` of an axis need units ``unit`` of group number ``group``; one may stand there twice."""

    group: int
    axis: int
    index: IntArray
    unit: IntArray
    size: int

    @property
    def several(self) -> bool:
        """Whether some unit has several positions."""
        return len(np.unique(self.unit)) < len(self.unit)

    def most(self, values: FloatArray) -> FloatArray:
        """Return for each unit the largest of its positions' values, shape (units,); 0 for a unit without any."""
        found = np.zeros(self.size)
        np.maximum.at(found, self.unit, values[self.index])
        return found

    def ends(self, array: Array) -> tuple[FloatArray, FloatArray]:
        """Return for each unit the smallest and largest element of its slices, shapes (units,)."""
        others = tuple(k for k in range(array.ndim) if k != self.axis)
        low, high = np.full(self.size, np.inf), np.full(self.size, -np.inf)
        np.minimum.at(low, self.unit, array.min(axis=others).astype(np.float64)[self.index])
        np.maximum.at(high, self.unit, array.max(axis=others).astype(np.float64)[self.index])
        seen = low <= high
        return np.where(seen, low, 0.0), np.where(seen, high, 0.0)


@dataclass(frozen=True)
class Stored:
    """Reads a graph's stored tensors at their uses. One for each walk over the graph."""

    graph: Graph
    groups: Groups
    operands: Operands
    _uses: dict[str, dict[tuple[int, int], Use]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, graph: Graph, groups: Groups) -> Stored:
        """Make one."""
        return cls(graph, groups, Operands(graph))

    def use(self, node: int, position: int) -> Use | None:
        """Return the stored tensor of floating-point numbers behind an input of a node, if it is one."""
        name = self.graph.nodes[node].inputs[position]
        behind = None if name is None else self.operands.parameter_behind(name)
        if behind is None or not is_weight(self.graph.tensors[behind].dtype):
            return None
        if behind not in self._uses:
            self._uses[behind] = {(use.node, use.position): use for use in self.operands.uses(behind)}
        return self._uses[behind].get((node, position))

    def array(self, use: Use) -> Array:
        """Return a stored tensor as its user sees it."""
        array = self.graph.parameter(use.parameter)
        return array if use.index is None else array.ravel()[use.index]

    def folded(self, use: Use) -> Array:
        """Return the same with the scale of the batch normalisation behind the node, where that can be folded in."""
        array, scale = self.array(use), self._scales.get((use.node, use.parameter))
        return array if scale is None or use.index is not None else array * scale

    @cached_property
    def _scales(self) -> Mapping[tuple[int, str], FloatArray]:
        return {(norm.contraction, norm.weight): norm.factor for norm in foldable(self.graph)}

    def along(self, node: int, position: int) -> Iterator[Along]:
        """Yield the groups along the axes of an input of a node."""
        facts = self.layout.facts
        name = self.graph.nodes[node].inputs[position]
        dims = facts.of_use.get((node, position)) or (None if name is None else facts.tensor(name))
        yield from self._along(dims)

    def along_tensor(self, name: str) -> Iterator[Along]:
        """Yield the groups along the axes of a tensor."""
        yield from self._along(self.layout.facts.tensor(name))

    def _along(self, dims: list[int] | None) -> Iterator[Along]:
        for axis, dim in enumerate(dims or ()):
            if self.layout.has_units(dim):
                for group, index, unit in self.layout.carried(dim).parts:
                    yield Along(group, axis, index, unit, int(self.layout.sizes[group]))

    @property
    def layout(self) -> Layout:
        """The table from units to indices."""
        layout: Layout = self.groups.layout
        return layout
