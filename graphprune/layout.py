"""The table from units to indices: which units make a group, and what a plan keeps of every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .cost import Terms, product
from .errors import PlanError
from .families.facts import Dim, Facts
from .groups import IntArray
from .units import NO_REASON, Units

if TYPE_CHECKING:
    from .plan import Plan


@dataclass(frozen=True)
class Carried:
    """The units along one dimension: position ``index[i]`` needs unit ``unit[i]`` of group ``group[i]``; sorted by group."""

    index: IntArray
    group: IntArray
    unit: IntArray


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

    def needs(self, dim: Dim) -> Any:
        """Return the (positions, classes) matrix of a dimension; a product's rows need what the rows of its factors need."""
        parts = self.facts.atoms(dim)
        sizes = [self.facts.size[a] for a in parts]
        rows = [self.units.needs[self.units.slots.of(a, n)] for a, n in zip(parts, sizes, strict=True)]
        if len(parts) == 1:
            return rows[0]
        coordinates = np.unravel_index(np.arange(int(np.prod(sizes))), sizes)
        return sum(r[c] for r, c in zip(rows, coordinates, strict=True))

    def carried(self, dim: Dim) -> Carried:
        """Return the units along a dimension."""
        root = self.facts.find(dim)
        if root not in self._carried:
            coo = sparse.coo_array(self.needs(root))
            group, unit = self.group[coo.col], self.unit[coo.col]
            order = np.lexsort((coo.row, group))
            self._carried[root] = Carried(coo.row[order].astype(np.int64), group[order], unit[order])
        return self._carried[root]

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
        keys, counts = np.unique(np.stack([atom_of_slot[single], groups]), axis=1, return_counts=True)
        for atom, group, count in zip(*keys.tolist(), counts.tolist(), strict=True):
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

    def frozen(self, dim: Dim) -> tuple[IntArray, IntArray]:
        """Return the frozen positions of a dimension and, for each, the remark that gives the reason."""
        root = self.facts.find(dim)
        parts = self.facts.atoms(root)
        sizes = [self.facts.size[a] for a in parts]
        total = int(np.prod(sizes))
        reasons = [self.units.reason[self.units.slots.of(a, n)] for a, n in zip(parts, sizes, strict=True)]
        coordinates = np.unravel_index(np.arange(total), sizes)
        each = np.stack([r[c] for r, c in zip(reasons, coordinates, strict=True)])
        positions = np.flatnonzero((each != NO_REASON).all(axis=0))
        return positions, each[:, positions].min(axis=0) if len(positions) else positions


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
            raise PlanError("plan-mismatch", f"group {group.id!r} has no unit {units.max()}", hint="make the plan again")
        mask = np.ones(group.size, np.bool_)
        mask[units] = False
        dead.append(mask)
    return Kept(groups.layout, dead)
