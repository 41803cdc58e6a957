"""The table from units to indices: which units make a group, and what a plan keeps of every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .cost import Terms, product
from .errors import PlanError
from .families.facts import Dim, Facts
from .groups import IntArray
from .units import NO_REASON, Units

if TYPE_CHECKING:
    from .plan import Plan


@dataclass(frozen=True)
class Carried:
    """The units along one dimension: position ``index[i]`` needs unit ``unit[i]`` of group ``group[i]``, by group."""

    index: IntArray
    group: IntArray
    unit: IntArray

    @cached_property
    def parts(self) -> list[tuple[int, IntArray, IntArray]]:
        """The groups along the dimension, each with its stretch of ``index`` and ``unit``."""
        cuts = [0, *(np.flatnonzero(np.diff(self.group)) + 1).tolist(), len(self.group)]
        return [(int(self.group[a]), self.index[a:b], self.unit[a:b]) for a, b in pairwise(cuts) if b > a]


@dataclass(frozen=True)
class Layout:
    """Units numbered in groups. ``group`` and ``unit`` give a class' group and ordinal, -1 for what is no unit."""

    facts: Facts
    units: Units
    group: IntArray
    unit: IntArray
    sizes: IntArray
    _carried: dict[Dim, Carried] = field(default_factory=dict, repr=False)
    _terms: dict[Dim, Terms] = field(default_factory=dict, repr=False)
    _has_units: dict[Dim, bool] = field(default_factory=dict, repr=False)
    _frozen: dict[Dim, tuple[IntArray, IntArray]] = field(default_factory=dict, repr=False)

    @cached_property
    def _row(self) -> IntArray:
        """Slot of every entry of the needs."""
        return np.repeat(np.arange(self.units.needs.shape[0]), np.diff(self.units.needs.indptr))

    @cached_property
    def _free_before(self) -> IntArray:
        """Number of entries before each slot, by which an atom without units is seen at once."""
        before: IntArray = self.units.needs.indptr.astype(np.int64)
        return before

    def has_units(self, dim: Dim) -> bool:
        """Tell whether any position of a dimension needs a unit."""
        root = self.facts.find(dim)
        if root not in self._has_units:
            base, size, before = self.units.slots.base, self.facts.size, self._free_before
            self._has_units[root] = any(before[base[a] + size[a]] > before[base[a]] for a in self.facts.atoms(root))
        return self._has_units[root]

    def carried(self, dim: Dim) -> Carried:
        """Return the units along a dimension; a position of a product needs what its factors need."""
        root = self.facts.find(dim)
        if root not in self._carried:
            parts = self.facts.atoms(root)
            sizes = [self.facts.size[a] for a in parts]
            found = [self._of_factor(k, parts, sizes) for k in range(len(parts))]
            index, group, unit = (np.concatenate(x) for x in zip(*found, strict=True))
            if len(group) and (group != group[0]).any():
                order = np.lexsort((index, group))
                index, group, unit = index[order], group[order], unit[order]
            self._carried[root] = Carried(index, group, unit)
        return self._carried[root]

    def _of_factor(self, k: int, parts: Sequence[Dim], sizes: Sequence[int]) -> tuple[IntArray, IntArray, IntArray]:
        """Return (position, group, unit) of what one factor of a product brings to all its positions."""
        base = self.units.slots.base[parts[k]]
        first, last = self._free_before[base], self._free_before[base + sizes[k]]
        column = self.units.needs.indices[first:last]
        row = self._row[first:last] - base
        group, unit = self.group[column], self.unit[column]
        outer, inner = int(np.prod(sizes[:k])), int(np.prod(sizes[k + 1 :]))
        if outer == inner == 1:
            return row, group, unit
        start = (np.arange(outer)[:, None] * sizes[k] + row) * inner
        position = (start[:, :, None] + np.arange(inner)).ravel()
        repeat = (np.broadcast_to(x[None, :, None], (outer, len(x), inner)).ravel() for x in (group, unit))
        return (position, *repeat)  # type: ignore[return-value]

    def terms(self, dim: Dim) -> Terms:
        """Return the size of a dimension as a polynomial in the widths."""
        root = self.facts.find(dim)
        if root not in self._terms:
            parts = self.facts.atoms(root)
            result: Terms = {(): 1}
            for part in parts:
                result = product(result, self._atom_terms[part])
            self._terms[root] = result
        return self._terms[root]

    @cached_property
    def _atom_terms(self) -> Mapping[Dim, Terms]:
        """Sizes of all atoms: frozen positions count one, a position of one unit its share of the group's width."""
        facts, slots, needs = self.facts, self.units.slots, self.units.needs
        degree = np.diff(needs.indptr)
        atoms = [d for d, base in slots.base.items() if base < slots.atom_count and d not in facts.factors]
        sizes = np.array([facts.size[a] for a in atoms], dtype=np.int64)
        atom_of_slot = np.repeat(np.arange(len(atoms)), sizes)
        constant = np.bincount(atom_of_slot[degree == 0], minlength=len(atoms))
        terms: list[Terms] = [{(): int(c)} if c else {} for c in constant]
        single = np.flatnonzero(degree == 1)
        groups = self.group[needs.indices[needs.indptr[single]]]
        count_groups = max(len(self.sizes), 1)
        keys, counts = np.unique(atom_of_slot[single] * count_groups + groups, return_counts=True)
        for atom, group, count in zip(
            *(x.tolist() for x in np.divmod(keys, count_groups)), counts.tolist(), strict=True
        ):
            terms[atom][(group,)] = count // int(self.sizes[group])
        for slot in np.flatnonzero(degree > 1).tolist():
            members = self.group[needs.indices[needs.indptr[slot] : needs.indptr[slot + 1]]]
            key = tuple(sorted(members.tolist()))
            entry = terms[atom_of_slot[slot]]
            entry[key] = entry.get(key, 0) + 1
        for entry in terms:
            for key in [k for k in entry if len(k) > 1]:
                entry[key] //= int(np.prod(self.sizes[list(key)]))
        return dict(zip(atoms, terms, strict=True))

    @cached_property
    def _frozen_before(self) -> IntArray:
        return np.concatenate([[0], np.cumsum(self.units.reason != NO_REASON)])

    def frozen(self, dim: Dim) -> tuple[IntArray, IntArray]:
        """Return the frozen positions of a dimension and, for each, the remark that gives the reason."""
        root = self.facts.find(dim)
        if root not in self._frozen:
            self._frozen[root] = self._find_frozen(root)
        return self._frozen[root]

    def _find_frozen(self, root: Dim) -> tuple[IntArray, IntArray]:
        parts = self.facts.atoms(root)
        sizes = [self.facts.size[a] for a in parts]
        bases = [self.units.slots.base[a] for a in parts]
        before = self._frozen_before
        if any(before[b] == before[b + n] for b, n in zip(bases, sizes, strict=True)):
            none = np.zeros(0, np.int64)
            return none, none
        each = self.units.reason[bases[0] : bases[0] + sizes[0]]
        for base, n in zip(bases[1:], sizes[1:], strict=True):
            other = self.units.reason[base : base + n]
            both = (each != NO_REASON)[:, None] & (other != NO_REASON)
            each = np.where(both, np.minimum(each[:, None], other), NO_REASON).ravel()
        positions = np.flatnonzero(each != NO_REASON)
        return positions, each[positions]


class Kept:
    """What a plan keeps of every dimension. ``None`` stands for all of it."""

    def __init__(self, layout: Layout, dead: Sequence[NDArray[np.bool_]]) -> None:
        self.layout = layout
        flat = np.zeros(len(layout.group), np.bool_)
        is_unit = layout.group >= 0
        start = np.concatenate([[0], np.cumsum(layout.sizes)])[:-1]
        everything = np.concatenate([*dead, np.zeros(0, np.bool_)])
        flat[is_unit] = everything[start[layout.group[is_unit]] + layout.unit[is_unit]]
        self._slot_dead = np.asarray(layout.units.needs @ flat.astype(np.int32)) > 0
        self._memo: dict[Dim, IntArray | None] = {}

    def index(self, dim: Dim) -> IntArray | None:
        """Return the kept positions of a dimension, ascending, or None if all are kept."""
        facts, slots = self.layout.facts, self.layout.units.slots
        root = facts.find(dim)
        if root not in self._memo:
            alive = [~self._slot_dead[slots.of(a, facts.size[a])] for a in facts.atoms(root)]
            whole = all(a.all() for a in alive)
            self._memo[root] = None if whole else _kept_of_product(alive)
        return self._memo[root]

    def size(self, dim: Dim) -> int:
        """Return how many positions of a dimension are kept."""
        index = self.index(dim)
        return self.layout.facts.size[self.layout.facts.find(dim)] if index is None else len(index)

    def shape(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """Return the kept sizes of several dimensions."""
        return tuple(self.size(d) for d in dims)

    def empties(self, dims: Sequence[Dim]) -> bool:
        """Tell whether nothing is left along one of these dimensions."""
        return any((index := self.index(d)) is not None and not len(index) for d in dims)

    def changes(self, dims: Sequence[Dim]) -> bool:
        """Tell whether anything is cut along these dimensions."""
        return any(self.index(d) is not None for d in dims)


def _kept_of_product(alive: Sequence[NDArray[np.bool_]]) -> IntArray:
    mask = alive[0]
    for other in alive[1:]:
        mask = (mask[:, None] & other).ravel()
    return np.flatnonzero(mask).astype(np.int64)


def kept_by(groups: Any, plan: Plan) -> Kept:
    """Apply a plan to the groups it was made for.

    Raises PlanError when the plan names other groups, other sizes, or units that do not exist.
    """
    dead = []
    if plan.fingerprint != groups.fingerprint:
        raise PlanError(
            "plan-mismatch", "the plan was made for another model, or for other --keep or --allow-inexact options",
            hint="make the plan again for this model with the same options",
        )  # fmt: skip
    for group in groups.groups:
        units = np.asarray(plan.keep.get(group.id, range(group.size)), dtype=np.int64)
        if len(units) and (units.min() < 0 or units.max() >= group.size):
            raise PlanError(
                "plan-mismatch", f"group {group.id!r} has no unit {units.max()}", hint="make the plan again"
            )
        mask = np.ones(group.size, np.bool_)
        mask[units] = False
        dead.append(mask)
    return Kept(groups.layout, dead)
