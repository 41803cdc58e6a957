"""What a plan makes of the widths that configurations state: heads, key-value heads, dimensions of heads, neurons.

A configuration says "12 heads" once for all layers. Here every group of units is a witness: how many layers it speaks
for (by the weights that read it), how wide it was and how wide it is now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ..groups import Group, Groups, IntArray, Kind

Keep = Mapping[str, Sequence[int]]
Part = tuple[str, str, IntArray]
"""A group's part in an axis: its id, role and indices."""


@dataclass(frozen=True)
class Width:
    """A width before and after, and the stored tensors that read what has it: one for each layer."""

    before: int
    after: int
    readers: frozenset[str]
    groups: tuple[str, ...]

    @property
    def cut(self) -> bool:
        """Whether it is another one now."""
        return self.after != self.before


def widths_of_kind(groups: Groups, keep: Keep, kind: Kind) -> tuple[Width, ...]:
    """Return the width of every group of a kind."""
    return tuple(
        Width(g.size, len(keep.get(g.id, range(g.size))), _readers(g), (g.id,)) for g in groups.groups if g.kind == kind
    )


def query_sides(groups: Groups, matrices: Collection[str]) -> int | None:
    """Return in how many layers the dimensions of queries and keys are units; None where that is not clear.

    Values have weights that read them, queries and keys have not. Queries and keys are made by a weight each, or both
    by the one that makes the values.
    """
    dims = [g for g in groups.groups if g.kind == "head-dim"]
    made: dict[bool, set[str]] = {True: set(), False: set()}
    for group in dims:
        made[bool(_readers(group))] |= {
            m.tensor for m in group.members if m.role == "producer" and m.tensor in matrices
        }
    values, queries = made[True], made[False]
    if queries <= values:
        return len(queries)
    return None if queries & values or len(queries) % 2 else len(queries) // 2


def head_counts(groups: Groups, keep: Keep) -> tuple[Width, ...]:
    """Return how many heads there are and were, for every set of groups that counts heads together.

    With grouped queries, queries are counted by two groups (of key-value heads, and of queries that share one), keys
    and values by the first alone. An axis tells: its indices depend on one group, or on both.
    """
    heads = [g for g in groups.groups if g.kind == "head"]
    by_id = {g.id: g for g in heads}
    readers: dict[frozenset[str], set[str]] = {}
    for (tensor, _), members in _axes(heads).items():
        size = 1 + max(int(index.max(initial=0)) for _, _, index in members)
        names = np.full((size, len(members)), "", dtype=object)
        for k, (name, _, index) in enumerate(members):
            names[index, k] = name
        role = {role for _, role, _ in members}
        for combination in {frozenset(filter(None, row)) for row in names.tolist()} - {frozenset()}:
            found = readers.setdefault(combination, set())
            if "consumer" in role:
                found.add(tensor)
    return tuple(_counted(names, readers, by_id, keep) for names in readers)


def _counted(
    names: frozenset[str], readers: Mapping[frozenset[str], set[str]], by_id: Mapping[str, Group], keep: Keep
) -> Width:
    """Return what a set of groups counts; who reads a set with more groups reads what this one counts as well."""
    read = frozenset().union(*(tensors for others, tensors in readers.items() if names <= others))
    after = prod(len(keep.get(n, range(by_id[n].size))) for n in names)
    return Width(prod(by_id[n].size for n in names), after, read, tuple(sorted(names)))


def _axes(heads: Sequence[Group]) -> dict[tuple[str, int], list[Part]]:
    """Return by axis the groups that have members there: (group, role, indices)."""
    found: dict[tuple[str, int], list[Part]] = {}
    for group in heads:
        for m in group.members:
            found.setdefault((m.tensor, m.axis), []).append((group.id, m.role, m.index))
    return found


def _readers(group: Group) -> frozenset[str]:
    return frozenset(m.tensor for m in group.members if m.role == "consumer")
