"""The table from units to indices: which units make a group, and what a plan keeps of every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import prod
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


Part = tuple[int, IntArray, IntArray]
"""(group, positions, units): what a dimension needs of one group."""


@dataclass(frozen=True)
class Carried:
    """The units along one dimension, group by group.

    Flat, position ``index[i]`` needs unit ``unit[i]`` of group ``group[i]``.
    """

    parts: list[Part]

    @cached_property
    def index(self) -> IntArray:
        """All positions, those of a part after those of another."""
        return _joined([index for _, index, _ in self.parts])

    @cached_property
    def group(self) -> IntArray:
        """The group of every position."""
        return np.repeat([g for g, _, _ in self.parts], [len(index) for _, index, _ in self.parts]).astype(np.int64)

    @cached_property
    def unit(self) -> IntArray:
        """The unit of every position."""
        return _joined([unit for _, _, unit in self.parts])


def _joined(arrays: Sequence[IntArray]) -> IntArray:
    return arrays[0] if len(arrays) == 1 else np.concatenate([*arrays, np.zeros(0, np.int64)])


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
    _frozen: dict[Dim, tuple[int, int]] = field(default_factory=dict, repr=False)

    @cached_property
    def atoms(self) -> tuple[list[Dim], IntArray]:
        """The atoms in the order of their slots, and the atom (by position) of every slot."""
        facts, slots = self.facts, self.units.slots
        atoms = [d for d, base in slots.base.items() if base < slots.atom_count and d not in facts.factors]
        return atoms, np.repeat(np.arange(len(atoms)), np.array([facts.size[a] for a in atoms], np.int64))

    @cached_property
    def _parts(self) -> dict[Dim, list[Part]]:
        """The parts of every atom that has units."""
        needs, (atoms, atom_of_slot) = self.units.needs, self.atoms
        key = atom_of_slot[needs.row] * max(len(self.sizes), 1) + self.group[needs.indices]
        order = np.argsort(key, kind="stable")
        key, row, unit = key[order], needs.row[order], self.unit[needs.indices[order]]
        cuts = np.flatnonzero(np.diff(key, prepend=-1))
        owner, group = np.divmod(key[cuts], max(len(self.sizes), 1))
        bounds = pairwise([*cuts.tolist(), len(key)])
        parts: dict[Dim, list[Part]] = {}
        for atom, g, (first, last) in zip(owner.tolist(), group.tolist(), bounds, strict=True):
            dim = atoms[atom]
            parts.setdefault(dim, []).append((g, row[first:last] - self.units.slots.base[dim], unit[first:last]))
        return parts

    def has_units(self, dim: Dim) -> bool:
        """Tell whether any position of a dimension needs a unit."""
        root = self.facts.find(dim)
        return root in self._parts or (
            root in self.facts.factors and any(a in self._parts for a in self.facts.atoms(root))
        )

    def carried(self, dim: Dim) -> Carried:
        """Return the units along a dimension; a position of a product needs what its factors need."""
        root = self.facts.find(dim)
        if root not in self._carried:
            product = root in self.facts.factors
            self._carried[root] = Carried(self._of_product(root) if product else self._parts.get(root, []))
        return self._carried[root]

    def _of_product(self, root: Dim) -> list[Part]:
        """Return what the factors of a product bring to all its positions."""
        atoms = self.facts.atoms(root)
        sizes = [self.facts.size[a] for a in atoms]
        found: dict[int, list[tuple[IntArray, IntArray]]] = {}
        for k, atom in enumerate(atoms):
            outer, inner = prod(sizes[:k]), prod(sizes[k + 1 :])
            for group, index, unit in self._parts.get(atom, ()):
                start = (np.arange(outer)[:, None] * sizes[k] + index) * inner
                position = (start[:, :, None] + np.arange(inner)).ravel()
                repeated = np.broadcast_to(unit[None, :, None], (outer, len(unit), inner)).ravel()
                found.setdefault(group, []).append((position, repeated))
        return [(group, *_merged(found[group])) for group in sorted(found)]

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
        needs, (atoms, atom_of_slot) = self.units.needs, self.atoms
        degree = needs.degree
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
            members = self.group[needs.of_row(slot)]
            key = tuple(sorted(members.tolist()))
            entry = terms[atom_of_slot[slot]]
            entry[key] = entry.get(key, 0) + 1
        for entry in terms:
            for key in [k for k in entry if len(k) > 1]:
                entry[key] //= int(np.prod(self.sizes[list(key)]))
        return dict(zip(atoms, terms, strict=True))

    @cached_property
    def _frozen_atoms(self) -> set[Dim]:
        """The atoms of which any position is frozen."""
        atoms, atom_of_slot = self.atoms
        count = np.bincount(atom_of_slot[self.units.reason != NO_REASON], minlength=len(atoms))
        return {atoms[k] for k in np.flatnonzero(count).tolist()}

    def frozen(self, dim: Dim) -> tuple[int, int]:
        """Return how many positions of a dimension are frozen, and the remark that gives most of them their reason."""
        root = self.facts.find(dim)
        if root not in self._frozen:
            self._frozen[root] = self._find_frozen(self.facts.atoms(root))
        return self._frozen[root]

    def _find_frozen(self, atoms: Sequence[Dim]) -> tuple[int, int]:
        if not self._frozen_atoms.issuperset(atoms):  # a position of a product is frozen where all its factors are
            return 0, -1
        each, *others = (self.units.reason[self.units.slots.of(a, self.facts.size[a])] for a in atoms)
        for other in others:
            both = (each != NO_REASON)[:, None] & (other != NO_REASON)
            each = np.where(both, np.minimum(each[:, None], other), NO_REASON).ravel()
        return _counted(each[each != NO_REASON])


def _counted(remarks: IntArray) -> tuple[int, int]:
    """Return how many remarks there are, and the commonest."""
    if not len(remarks) or (remarks == remarks[0]).all():
        return len(remarks), int(remarks[0]) if len(remarks) else -1
    distinct, counts = np.unique(remarks, return_counts=True)
    return len(remarks), int(distinct[np.argmax(counts)])


def _merged(pieces: list[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    """Put the positions and units that several factors bring in the order of the positions."""
    if len(pieces) == 1:
        return pieces[0]
    index, unit = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    order = np.argsort(index, kind="stable")
    return index[order], unit[order]


class Kept:
    """What a plan keeps of every dimension. ``None`` stands for all of it."""

    def __init__(self, layout: Layout, dead: Sequence[NDArray[np.bool_]]) -> None:
        self.layout = layout
        flat = np.zeros(len(layout.group), np.bool_)
        is_unit = layout.group >= 0
        start = np.concatenate([[0], np.cumsum(layout.sizes)])[:-1]
        everything = np.concatenate([*dead, np.zeros(0, np.bool_)])
        flat[is_unit] = everything[start[layout.group[is_unit]] + layout.unit[is_unit]]
        self._alive = ~layout.units.needs.touching(flat)
        atoms, atom_of_slot = layout.atoms
        left, whole = (np.bincount(atom_of_slot[m], minlength=len(atoms)) for m in (self._alive, slice(None)))
        self._cut = {atoms[k] for k in np.flatnonzero(left < whole).tolist()}
        self.emptied = bool(((left == 0) & (whole > 0)).any())
        """Whether nothing is left along some dimension."""
        self._memo: dict[Dim, IntArray | None] = {}

    def index(self, dim: Dim) -> IntArray | None:
        """Return the kept positions of a dimension, ascending, or None if all are kept."""
        root = self.layout.facts.find(dim)
        if root not in self._memo:
            atoms = self.layout.facts.atoms(root)
            whole = self._cut.isdisjoint(atoms)
            self._memo[root] = None if whole else _kept_of_product([self._alive_of(a) for a in atoms])
        return self._memo[root]

    def _alive_of(self, atom: Dim) -> NDArray[np.bool_]:
        base = self.layout.units.slots.base[atom]
        return self._alive[base : base + self.layout.facts.size[atom]]

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
