"""The facts families state about a node, and the algebra of axes that puts them together.

A *dimension* is a set of axes known to have the same indices one by one. Equal axes are merged as soon as a rule says
so (union-find). A dimension that a reshape splits is the row-major product of smaller ones, its factors; where two
factorisations meet they are refined to a common one, so that factors that are not products themselves, the *atoms*,
are all that has to be decided. Relations that are not whole equalities (concatenation, slices, gathers) stay index maps
and are solved later, all at once, by the coupling engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..groups import IntArray, Role

Dim = int
Dims = list[Dim]


@dataclass(frozen=True, slots=True)
class Selection:
    """Position j of ``out`` is position ``index[j]`` of ``src`` (-1: it has no source, as in padding)."""

    out: Dim
    src: Dim
    index: IntArray


@dataclass(frozen=True, slots=True)
class Remark:
    """``index`` positions (all if None) of a dimension are frozen, or inexact, for ``reason`` at node ``node``."""

    dim: Dim
    index: IntArray | None
    reason: str
    node: int


@dataclass(frozen=True, slots=True)
class SizesInput:
    """Entry i of input ``position`` (where there is none, of ``attribute``) is the size of ``dims[i]``.

    A dimension of None means an entry that pruning never changes.
    """

    position: int
    dims: tuple[Dim | None, ...]
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class SizeAttribute:
    """Attribute ``name`` is the size of ``dim``."""

    name: str
    dim: Dim


@dataclass(frozen=True, slots=True)
class Reselect:
    """The node picks ``index`` of ``src`` along its ``axis``; after pruning it must pick what is left of them."""

    axis: int
    out: Dim
    src: Dim
    index: IntArray


@dataclass(frozen=True, slots=True)
class Repad:
    """The node puts ``before`` positions in front of ``src`` along ``axis`` to make ``out``."""

    axis: int
    out: Dim
    src: Dim
    before: int


@dataclass(frozen=True, slots=True)
class Derived:
    """The node computes attribute ``name`` from the size of a pruned ``dim`` unless it is written out as ``value``."""

    name: str
    dim: Dim
    value: float


Mend = SizesInput | SizeAttribute | Reselect | Repad | Derived


@dataclass(frozen=True, slots=True)
class Contraction:
    """Node ``node`` sums over ``axis`` of input ``position``: a removed index is a term left out of the sum."""

    node: int
    position: int
    axis: int
    dim: Dim


@dataclass(frozen=True, slots=True)
class Statistic:
    """Node ``node`` takes a statistic over ``axes``, so removing indices there is not exact.

    A reduction's are axes of its first input, a normalisation's also of its first output.
    """

    node: int
    axes: tuple[int, ...]
    dims: tuple[Dim, ...]


class Facts:
    """Collects what the rules say. ``ins`` and ``outs`` are the dimensions of the current node's tensors."""

    def __init__(self, graph: Graph, *, by_factors: bool = False) -> None:
        self.graph = graph
        self.by_factors = by_factors
        self.size: list[int] = []
        self.parent: list[int] = []
        self.factors: dict[Dim, Dims] = {}
        self.of_tensor: dict[str, Dims | None] = {}
        self.of_use: dict[tuple[int, int], Dims | None] = {}
        self.selections: list[Selection] = []
        self.frozen: list[Remark] = []
        self.inexact: list[Remark] = []
        self.mends: dict[int, list[Mend]] = {}
        self.macs: dict[int, list[Dims]] = {}
        self.roles: dict[tuple[int, int, int], Role] = {}
        self.contractions: list[Contraction] = []
        self.ranges: list[Contraction] = []
        self.statistics: list[Statistic] = []
        self.heads: Dims = []
        self.depths: Dims = []
        self.index = -1

    # Dimensions -----------------------------------------------------------------------------------------------------

    def new(self, size: int) -> Dim:
        """Return a dimension of its own."""
        self.size.append(size)
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def find(self, dim: Dim) -> Dim:
        """Return the representative of a dimension."""
        parent = self.parent
        while parent[dim] != dim:
            parent[dim] = parent[parent[dim]]
            dim = parent[dim]
        return dim

    def tensor(self, name: str) -> Dims | None:
        """Return the dimensions of a tensor's axes, None where its rank is unknown."""
        if name in self.of_tensor:
            return self.of_tensor[name]
        shape = self.graph.tensors[name].shape
        self.of_tensor[name] = dims = None if shape is None else self.new_dims(shape)
        return dims

    def new_dims(self, shape: Sequence[int]) -> Dims:
        """Return a dimension of its own for every axis of a shape."""
        first = len(self.parent)
        dims = list(range(first, first + len(shape)))
        self.size.extend(shape)
        self.parent.extend(dims)
        return dims

    def atoms(self, dim: Dim) -> Dims:
        """Return the atoms whose row-major product the dimension is (itself, if it is one)."""
        root = self.find(dim)
        parts = self.factors.get(root) if self.factors else None
        return [root] if parts is None else [a for part in parts for a in self.atoms(part)]

    def roots(self, dims: Iterable[Dim]) -> tuple[Dim, ...]:
        """Return the representatives of several dimensions, once all is settled."""
        parent = self.parent
        return tuple([parent[d] for d in dims])

    def settle(self) -> None:
        """Point every dimension at its representative; no rule may speak afterwards."""
        parent = np.array(self.parent, np.int64)
        while (shorter := parent[parent]).tolist() != self.parent:
            parent, self.parent = shorter, shorter.tolist()

    # Facts ----------------------------------------------------------------------------------------------------------

    def same(self, a: Dim, b: Dim) -> None:
        """State that two axes have the same indices. An axis of one index says nothing (it broadcasts)."""
        a, b = self.find(a), self.find(b)
        if a == b or self.size[a] <= 1 or self.size[b] <= 1:
            return
        if self.size[a] != self.size[b]:
            self.freeze(a, "meets an axis of another size")
            self.freeze(b, "meets an axis of another size")
            return
        if b in self.factors and a not in self.factors:
            a, b = b, a
        self.parent[b] = a
        if b in self.factors:
            self._match(self.factors[a], self.factors.pop(b))

    def product(self, left: Iterable[Dim], right: Iterable[Dim]) -> None:
        """State that two lists of axes enumerate the same indices in row-major order, as a reshape does."""
        self._match(list(left), list(right))

    def select(self, out: Dim, src: Dim, index: NDArray[np.integer]) -> None:
        """State that position j of ``out`` is position ``index[j]`` of ``src`` (-1: no source)."""
        self.selections.append(Selection(out, src, np.asarray(index, dtype=np.int64)))

    def freeze(self, dim: Dim, reason: str, index: NDArray[np.integer] | None = None) -> None:
        """State that an axis, or some of its positions, may not be removed."""
        self.frozen.append(Remark(dim, None if index is None else np.asarray(index, np.int64), reason, self.index))

    def freeze_all(self, groups: Iterable[Dims | None], reason: str) -> None:
        """Freeze every axis of several tensors."""
        for dims in groups:
            for dim in dims or ():
                self.freeze(dim, reason)

    def statistic(self, axes: Sequence[int], dims: Sequence[Dim], reason: str) -> None:
        """State that the node takes a statistic over these axes, see ``Statistic``: removal there is not exact."""
        for dim in dims:
            self.inexact.append(Remark(dim, None, reason, self.index))
        self.statistics.append(Statistic(self.index, tuple(axes), tuple(dims)))

    def mend(self, *mends: Mend) -> None:
        """State what must change about the current node when indices are removed.

        Sizes that the node reads, but that nothing here computed, cannot be changed: what they spell is frozen.
        """
        self.mends.setdefault(self.index, []).extend(mends)
        for mend in mends:
            if isinstance(mend, SizesInput):
                self._freeze_unfollowed(self.graph.nodes[self.index], mend)

    def _freeze_unfollowed(self, node: Node, sizes: SizesInput) -> None:
        name = node.inputs[sizes.position] if sizes.position < len(node.inputs) else None
        if name is None or name in self.graph.known or self.graph.tensors[name].kind == "parameter":
            return
        for dim in sizes.dims:
            if dim is not None and self.size[dim] > 1:
                self.freeze(dim, f"{node.op} reads its size from tensor {name!r}")

    def contract(self, position: int, axis: int, dim: Dim) -> None:
        """State that the current node sums over an axis of an input."""
        self.contractions.append(Contraction(self.index, position, axis, dim))

    def attend(self, heads: Iterable[Dim], depths: Iterable[Dim]) -> None:
        """State which axes of an attention are heads, and which the depths of a head."""
        self.heads.extend(heads)
        self.depths.extend(depths)

    def hide(self, position: int, axis: int, dim: Dim) -> None:
        """State that the current node takes a range over all of an input, in which a removed index is a zero."""
        self.ranges.append(Contraction(self.index, position, axis, dim))

    def role(self, position: int, axis: int, role: Role) -> None:
        """State what an axis of an input is to the current node, for scoring."""
        self.roles[self.index, position, axis] = role

    # Refinement -----------------------------------------------------------------------------------------------------

    def _match(self, left: Sequence[Dim], right: Sequence[Dim]) -> None:
        """Refine two row-major products of the same indices until their factors are equal one by one."""
        a, b = deque(left), deque(right)
        while True:
            x, y = self._next_atom(a), self._next_atom(b)
            if x is None or y is None:
                break
            small, large = (x, y) if self.size[x] <= self.size[y] else (y, x)
            rest = self.size[large] // self.size[small]
            if rest * self.size[small] != self.size[large]:
                self._freeze_block(x, y, a, b)
            elif rest == 1:
                self.same(x, y)
            else:
                head, tail = self.new(self.size[small]), self.new(rest)
                self.factors[large] = [head, tail]
                (b if large == y else a).appendleft(tail)
                self.same(small, head)
        for left_over in (x, y, *a, *b):
            if left_over is not None and self.size[left_over] > 1:
                self.freeze(left_over, "a reshape changes the number of elements")

    def _next_atom(self, queue: deque[Dim]) -> Dim | None:
        """Take the next atom of more than one index off a queue of dimensions."""
        while queue:
            dim = self.find(queue.popleft())
            if dim in self.factors:
                queue.extendleft(reversed(self.factors[dim]))
            elif self.size[dim] > 1:
                return dim
        return None

    def _freeze_block(self, x: Dim, y: Dim, a: deque[Dim], b: deque[Dim]) -> None:
        """Freeze the shortest stretch of both sides that enumerates the same indices without common factors."""
        reason = "a reshape regroups this axis into factors that have no common refinement"
        block, left, right = [x, y], self.size[x], self.size[y]
        while left != right:
            nxt = self._next_atom(a if left < right else b)
            if nxt is None:
                break
            block.append(nxt)
            left, right = (left * self.size[nxt], right) if left < right else (left, right * self.size[nxt])
        for dim in block:
            self.freeze(dim, reason)


Rule = Callable[[Node, list[Dims | None], list[Dims], Facts], None]
