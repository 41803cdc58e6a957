"""What a plan may choose from: the permitted widths of every group and what each of them loses.

Keeping w units of a group means keeping the w with the highest scores, so that a group's choice is a single number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from ..cost import FloatArray, IntArray
from ..groups import Group
from ..scores import Objective

AUTO = ((64, 16), (32, 8), (16, 4))
"""From this size on, widths are multiples of that: onnxruntime's blocked kernels pay in steps of 16, less so of 4."""
HEAD_DIM = ((32, 8), (16, 4))


def ranking(scores: FloatArray) -> IntArray:
    """Order units by falling score, shape (units,); ties go to the lower ordinal."""
    return np.argsort(-scores, kind="stable")


def losses(ranked: FloatArray, objective: Objective, *, may_vanish: bool = False) -> FloatArray:
    """Loss of keeping the best 0, 1, ... all units, shape (units + 1,), given the scores from the best to the worst.

    As Scores describes; for "retained" negative scores count as zero, and a group without any mass loses nothing at
    any width. There, keeping nothing is a loss without bound, and so no choice, unless groups ``may_vanish``: nothing
    then counts as half of the best unit.
    """
    if objective == "sum":
        return np.append(np.cumsum(ranked[::-1])[::-1], 0.0)
    mass, table = np.maximum(ranked, 0.0), np.zeros(len(ranked) + 1)
    if mass.any():
        kept = np.cumsum(mass / mass[0])
        kept = np.append(0.5 if may_vanish else 0.0, kept)
        with np.errstate(divide="ignore"):
            table = 0.0 - np.sqrt(len(mass)) * np.log(kept / kept[-1])
    return table


def auto_multiple(group: Group) -> int:
    """Return the alignment that runs fast: a power of two that falls with the size of the group."""
    if group.kind == "head":
        return 1
    steps = HEAD_DIM if group.kind == "head-dim" else AUTO
    smallest = 2 if group.kind == "head-dim" and group.size % 2 == 0 else 1
    return next((multiple for size, multiple in steps if group.size >= size), smallest)


def permitted(group: Group, min_width: int, multiple: int) -> list[int]:
    """Widths a group may take, ascending: multiples from the minimum up, the full size, and 0 where it may vanish."""
    least = min(max(min_width, 1), group.size)
    zero = [0] if group.can_vanish and min_width == 0 else []
    return [*zero, *range(-(-least // multiple) * multiple, group.size, multiple), group.size]


@dataclass(frozen=True)
class Choices:
    """All permitted widths of all groups with their losses, flat; those of group g start at ``start[g]``."""

    width: FloatArray
    loss: FloatArray
    start: IntArray

    @classmethod
    def of(cls, widths: Sequence[Sequence[int]], tables: Sequence[FloatArray]) -> Choices:
        """Gather the widths of every group and look up their losses; a width of infinite loss is no choice."""
        count = np.array([len(w) for w in widths], np.int64)
        owner = np.arange(len(widths)).repeat(count)
        width = np.array(list(chain.from_iterable(widths)), np.int64)
        first = np.array([0, *accumulate(map(len, tables))][:-1], np.int64)
        loss = np.concatenate(tables)[first[owner] + width]
        finite = np.isfinite(loss)
        if not finite.all():
            count = np.bincount(owner[finite], minlength=len(widths))
            width, loss = width[finite], loss[finite]
        return cls(width.astype(np.float64), loss, count.cumsum() - count)

    @cached_property
    def count(self) -> IntArray:
        """Number of widths of every group."""
        ends = np.append(self.start[1:], len(self.width))
        return np.asarray(ends - self.start)

    @cached_property
    def owner(self) -> IntArray:
        """The group of every choice."""
        return np.arange(len(self.start)).repeat(self.count)

    @cached_property
    def least(self) -> FloatArray:
        """The smallest widths, shape (groups,)."""
        return np.asarray(self.width[self.start])

    @cached_property
    def most(self) -> FloatArray:
        """The full sizes, shape (groups,)."""
        return np.asarray(self.width[self.start + self.count - 1])

    def only(self, kept: NDArray[np.bool_]) -> Choices:
        """Return the choices that are marked, of every group at least one."""
        count = np.bincount(self.owner[kept], minlength=len(self.start))
        return Choices(self.width[kept], self.loss[kept], np.cumsum(count) - count)

    def hold(self, widths: FloatArray) -> bool:
        """Tell whether these widths, shape (groups,), are among the choices."""
        return bool((self.width[self.start + self.find(widths)] == widths).all())

    def find(self, widths: FloatArray) -> IntArray:
        """Position, within its group, of the permitted width at or below each of these, shape (groups,)."""
        below = np.add.reduceat(self.width <= widths[self.owner], self.start, dtype=np.int64)
        return np.asarray(np.maximum(below - 1, 0))


@dataclass(frozen=True)
class Menu:
    """Some of the choices of every group as a table, shape (groups, columns), ascending, the last one repeated."""

    width: FloatArray
    loss: FloatArray

    @classmethod
    def spread(cls, choices: Choices, columns: int) -> Menu:
        """Take at most ``columns`` choices of every group, evenly from the smallest to the full width."""
        columns = min(columns, int(choices.count.max()))
        last = (choices.count - 1)[:, None]
        rank = np.arange(columns)
        even = np.rint(rank / max(columns - 1, 1) * last).astype(np.int64)
        return cls._at(choices, np.where(last < columns, np.minimum(rank, last), even))

    @classmethod
    def near(cls, choices: Choices, widths: FloatArray, columns: int) -> Menu:
        """Take every choice close to the given widths, fewer and fewer further away."""
        rank = np.maximum(choices.find(widths)[:, None] + _offsets(columns), 0)
        return cls._at(choices, np.minimum(rank, (choices.count - 1)[:, None]))

    @classmethod
    def _at(cls, choices: Choices, rank: IntArray) -> Menu:
        place = choices.start[:, None] + rank
        return cls(choices.width[place], choices.loss[place])

    def find(self, widths: FloatArray) -> IntArray:
        """Column of the largest width at or below each of these, shape (groups,)."""
        return np.asarray(np.maximum((self.width <= widths[:, None]).sum(axis=1) - 1, 0))


@cache
def _offsets(columns: int) -> IntArray:
    """Return how far from its middle a menu of so many columns looks."""
    half = max((columns - 1) // 2, 1)
    step = np.arange(1, half + 1)
    reach = np.maximum(step, np.rint(1.15**step)).astype(np.int64)
    return np.concatenate([-reach[::-1], [0], reach])
