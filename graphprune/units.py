"""From facts to units: which smallest removable things every index of every axis needs to stay alive.

Every position of every atom is a slot. Index maps between axes make slots equal: all of them are collected as integer
arrays and solved at once as the connected components (classes) of one sparse graph. A class that is a position of a
product (a flattened head and head dimension) is alive when the positions of its factors are: it is *defined* by them.
Classes that nothing defines and nothing freezes are the units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .families.facts import Dim, Facts, Remark
from .groups import IntArray
from .relation import Relation, components

NO_REASON = np.iinfo(np.int64).max
MOST_SLOTS = 2**27
"""Positions of all axes together; solving takes some hundred bytes for each."""
IRREGULAR = "its surviving positions would not form whole rows and columns"
CYCLE = "its indices depend on each other in a circle"
MIXED = "two reshapes regroup these indices in ways that have no common refinement"


@dataclass(frozen=True)
class Slots:
    """Numbering of positions: atom or composite root → first slot. Composites get slots where index maps touch them."""

    base: dict[Dim, int]
    count: int
    atom_count: int

    def of(self, dim: Dim, size: int) -> IntArray:
        """Return the slots of a root dimension."""
        return np.arange(self.base[dim], self.base[dim] + size)


@dataclass
class Classes:
    """Slots in classes, and the classes each class needs (itself, unless it is defined by others)."""

    label: IntArray
    needs: Relation
    defined: NDArray[np.bool_]
    reason: IntArray
    inexact: IntArray


@dataclass(frozen=True)
class Units:
    """What every slot of an atom needs.

    ``needs`` relates slots to the classes that are free units, ``reason`` tells why a slot is frozen.
    Reasons are positions in ``facts.frozen``, NO_REASON where a slot is free. ``inexact`` likewise, by class, in
    ``facts.inexact``.
    """

    slots: Slots
    needs: Relation
    reason: IntArray
    inexact: IntArray
    remarks: Sequence[Remark]


def solve_units(facts: Facts, carriers: Sequence[Dim]) -> Units:
    """Solve the index maps of ``facts`` and return what every slot needs.

    ``carriers`` are the dimensions of parameters. Raises ModelError for axes that are too long altogether.
    """
    slots = _number(facts)
    if slots.count > MOST_SLOTS:
        words = f"its axes have {slots.count:,} indices in all, too many to lay out"
        raise ModelError("size-too-large", words, hint="give smaller sizes with --input-shape, if they can change")
    edges = [_edges(facts, slots)]
    composites = {d: facts.atoms(d) for d in slots.base if d in facts.factors}
    for _ in range(20):
        left, right = np.concatenate(edges, axis=1)
        label, n = components(left, right, slots.count)
        extra = _align(facts, slots, composites, label)
        if extra is None:
            break
        edges.append(extra)
    else:  # one round aligns all layers at once, so this is out of the ordinary: when in doubt, freeze
        for composite in composites:
            facts.freeze(composite, MIXED)
    _freeze_beside(facts, slots, composites, label)
    needs, defined, cyclic = _expand(facts, slots, composites, label, n)
    reason = _first_reasons(facts, slots, label, n, facts.frozen)
    facts.index = -1
    single = np.array([slots.base[d] for d in slots.base if facts.size[d] == 1], np.int64)
    reason[label[single]] = np.minimum(reason[label[single]], _remark(facts, "the only index of its axis"))
    if cyclic.any():
        reason[cyclic] = np.minimum(reason[cyclic], _remark(facts, CYCLE))
    inexact = _spread(needs, _first_reasons(facts, slots, label, n, facts.inexact))
    reason = _spread(needs, reason)
    carried = np.zeros(n, np.bool_)
    atoms = dict.fromkeys(a for d in dict.fromkeys(map(facts.find, carriers)) for a in facts.atoms(d))
    for a in atoms:
        carried[label[slots.base[a] : slots.base[a] + facts.size[a]]] = True
    idle = ~defined
    idle[needs.indices[carried[needs.row]]] = False
    reason[idle] = np.minimum(reason[idle], _remark(facts, "no parameter carries it"))
    free = ~defined & (reason == NO_REASON)
    own = _spread_up(needs, reason, defined)[label[: slots.atom_count]]
    return Units(slots, needs.take(label[: slots.atom_count]).only(free), own, inexact, facts.frozen)


def _remark(facts: Facts, reason: str) -> int:
    facts.frozen.append(Remark(-1, None, reason, -1))
    return len(facts.frozen) - 1


def _number(facts: Facts) -> Slots:
    """Give every atom its slots, then every composite that an index map touches."""
    roots = dict.fromkeys(facts.find(d) for d in range(len(facts.parent)))
    base, count = {}, 0
    for root in roots:
        if root not in facts.factors:
            base[root] = count
            count += facts.size[root]
    atom_count = count
    touched = [facts.find(d) for s in facts.selections for d in (s.out, s.src)]
    touched += [facts.find(r.dim) for r in [*facts.frozen, *facts.inexact] if r.index is not None]
    for root in dict.fromkeys(touched):
        if root not in base:
            base[root] = count
            count += facts.size[root]
    return Slots(base, count, atom_count)


def _edges(facts: Facts, slots: Slots) -> IntArray:
    """Return the equalities between slots that the selections state, shape (2, edges)."""
    if not facts.selections:
        return np.zeros((2, 0), np.int64)
    index = [s.index for s in facts.selections]
    count = [len(i) for i in index]
    src, out = (
        np.repeat([slots.base[facts.find(d)] for d in dims], count)
        for dims in ([s.src for s in facts.selections], [s.out for s in facts.selections])
    )
    flat = np.concatenate(index)
    position = np.arange(len(flat)) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([out + position, src + flat])[:, flat >= 0]


def _coordinates(facts: Facts, atoms: Sequence[Dim], index: IntArray) -> list[tuple[Dim, IntArray]]:
    """Return for each atom of a composite which of its positions the given positions have."""
    sizes = [facts.size[a] for a in atoms]
    return list(zip(atoms, (c.astype(np.int64) for c in np.unravel_index(index, sizes)), strict=True))


def _align(facts: Facts, slots: Slots, composites: dict[Dim, list[Dim]], label: IntArray) -> IntArray | None:
    """Where one class is a position of two products, equate the factors; freeze them where they do not correspond.

    Returns new edges, or None when every class has at most one definition.
    """
    if not composites:
        return None
    owner = np.concatenate([np.full(facts.size[c], c) for c in composites])
    index = np.concatenate([np.arange(facts.size[c]) for c in composites])
    classes = label[np.concatenate([slots.of(c, facts.size[c]) for c in composites])]
    order = np.argsort(classes, kind="stable")
    meets = np.flatnonzero(np.diff(classes[order]) == 0)
    left, right = order[meets], order[meets + 1]
    found: list[IntArray] = []
    pairs = np.stack([owner[left], owner[right]], axis=1)
    for a, b in np.unique(pairs, axis=0):
        chosen = (pairs[:, 0] == a) & (pairs[:, 1] == b)
        ours = _coordinates(facts, composites[a], index[left[chosen]])
        theirs = _coordinates(facts, composites[b], index[right[chosen]])
        found += _correspond(facts, slots, label, ours, theirs)
    new = [e for e in found if (label[e[0]] != label[e[1]]).any()]
    return np.concatenate(new, axis=1) if new else None


def _correspond(
    facts: Facts, slots: Slots, label: IntArray, ours: list[tuple[Dim, IntArray]], theirs: list[tuple[Dim, IntArray]]
) -> list[IntArray]:
    """Match factors whose positions map one to one; a factor that stays at one position there is frozen at it."""
    edges: list[IntArray] = []
    left = _moving(facts, slots, ours)
    right = _moving(facts, slots, theirs)
    unmatched = list(right)
    for a, p in left:
        match = next((k for k, (_, q) in enumerate(unmatched) if _one_to_one(p, q)), None)
        if match is None:
            break
        b, q = unmatched.pop(match)
        edges.append(np.unique(np.stack([slots.base[a] + p, slots.base[b] + q]), axis=1))
    else:
        if not unmatched:
            return edges
    if not _same_needs(slots, label, left, right):
        for dim, _ in [*ours, *theirs]:
            facts.freeze(dim, MIXED)
    return []


def _same_needs(
    slots: Slots, label: IntArray, ours: list[tuple[Dim, IntArray]], theirs: list[tuple[Dim, IntArray]]
) -> bool:
    """Tell whether, pair by pair, two products are made of the same classes."""
    left, right = (np.sort([label[slots.base[a] + p] for a, p in factors], axis=0) for factors in (ours, theirs))
    return left.shape == right.shape and bool((left == right).all())


def _moving(facts: Facts, slots: Slots, factors: list[tuple[Dim, IntArray]]) -> list[tuple[Dim, IntArray]]:
    """Drop the factors that stay at one position, freezing them there."""
    moving = []
    for dim, position in factors:
        if (position == position[0]).all():
            facts.freeze(dim, "a slice stays at one index of this axis", position[:1])
        else:
            moving.append((dim, position))
    return moving


def _one_to_one(p: IntArray, q: IntArray) -> bool:
    pairs = len(np.unique(np.stack([p, q]), axis=1)[0])
    return pairs == len(np.unique(p)) == len(np.unique(q))


def _is_factor(facts: Facts, slots: Slots, composite: Dim, atoms: list[Dim], label: IntArray) -> NDArray[np.bool_]:
    """Tell which positions of a product are, as a class, one of their own factors."""
    classes = label[slots.of(composite, facts.size[composite])]
    places = _coordinates(facts, atoms, np.arange(len(classes)))
    found: NDArray[np.bool_] = np.any(
        [label[slots.base[atom] + position] == classes for atom, position in places], axis=0
    )
    return found


def _freeze_beside(facts: Facts, slots: Slots, composites: dict[Dim, list[Dim]], label: IntArray) -> None:
    """Where a position of a product is one of its own factors, the other factors may not die before it: they stay."""
    for composite, atoms in composites.items():
        itself = np.flatnonzero(_is_factor(facts, slots, composite, atoms, label))
        classes = label[slots.base[composite] + itself]
        for atom, position in _coordinates(facts, atoms, itself):
            beside = np.unique(position[label[slots.base[atom] + position] != classes])
            if len(beside):
                facts.freeze(atom, "its positions take turns along another axis", beside)


def _expand(
    facts: Facts, slots: Slots, composites: dict[Dim, list[Dim]], label: IntArray, n: int
) -> tuple[Relation, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what every class finally needs, which classes are defined, and which are cyclic (to freeze)."""
    rows, columns = [], []
    defined = np.zeros(n, np.bool_)
    for composite, atoms in composites.items():
        classes = label[slots.of(composite, facts.size[composite])]
        # A class met twice has, after alignment, the same definition twice; one that is its own factor defines nothing.
        product = ~_is_factor(facts, slots, composite, atoms, label)
        fresh = ~defined[classes] & product
        defined[classes[product]] = True
        for atom, position in _coordinates(facts, atoms, np.flatnonzero(fresh)):
            rows.append(classes[fresh])
            columns.append(label[slots.base[atom] + position])
    plain = np.flatnonzero(~defined)
    needs = Relation.of(np.concatenate([*rows, plain]), np.concatenate([*columns, plain]), n, n)
    for _ in range(16):
        if not defined[needs.indices].any():
            return needs, defined, np.zeros(n, np.bool_)
        needs = needs.then(needs)
    cyclic = np.zeros(n, np.bool_)
    cyclic[needs.indices[defined[needs.indices]]] = True
    cyclic[needs.indices[needs.touching(cyclic)[needs.row]]] = True
    return needs, defined, cyclic


def _first_reasons(facts: Facts, slots: Slots, label: IntArray, n: int, remarks: Sequence[Remark]) -> IntArray:
    """Return for every class the first remark about it (NO_REASON: none)."""
    reason = np.full(n, NO_REASON)
    whole: dict[
        object, int
    ] = {}  # the first remark on all of a dimension; later ones on the same would say nothing more
    for k, remark in enumerate(remarks):
        if remark.dim >= 0:
            whole.setdefault(facts.find(remark.dim) if remark.index is None else (k,), k)
    for k in reversed(whole.values()):
        remark = remarks[k]
        root = facts.find(remark.dim)
        if remark.index is None:
            for atom in facts.atoms(root):
                reason[label[slots.base[atom] : slots.base[atom] + facts.size[atom]]] = k
        elif root in slots.base:
            reason[label[slots.base[root] + remark.index]] = k
        else:
            for atom, position in _coordinates(facts, facts.atoms(root), remark.index):
                reason[label[slots.base[atom] + position]] = k
    return reason


def _spread(needs: Relation, reason: IntArray) -> IntArray:
    """Give what a class needs the reason the class has (a frozen product freezes its factors)."""
    result = reason.copy()
    marked = reason[needs.row] != NO_REASON
    np.minimum.at(result, needs.indices[marked], reason[needs.row[marked]])
    return result


def _spread_up(needs: Relation, reason: IntArray, defined: NDArray[np.bool_]) -> IntArray:
    """Give a defined class a reason only if everything it needs is frozen."""
    result = reason.copy()
    worst = np.full(len(reason), -1, np.int64)
    np.maximum.at(worst, needs.row, reason[needs.indices])
    result[defined] = worst[defined]
    return result
