"""Which widths a plan may have: smallest widths and alignments, which give way where the budget asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Literal

from ..cost import FloatArray
from ..errors import UsageError
from ..groups import Group, Groups
from .choices import Choices, auto_multiple, permitted

Multiple = int | Literal["auto"] | Mapping[str, int]
"""One alignment for all groups, one by the size of each group, or one by group id (others by size)."""
FINER = (16, 8, 4, 2, 1)
"""Largest alignments that all but a single number fall back to, one after the other."""


@dataclass(frozen=True)
class Rules:
    """Which widths a plan may have. Raises UsageError for options out of range."""

    min_width: int
    multiple: Multiple

    def __post_init__(self) -> None:
        """Check both."""
        if type(self.min_width) is not int or self.min_width < 0:
            words, hint = f"{self.min_width!r} is not a width", "give a whole number, such as 8; 0 lets branches vanish"
            raise UsageError("bad-min-width", words, where="--min-width", hint=hint)
        for value in self.multiple.values() if isinstance(self.multiple, Mapping) else [self.multiple]:
            if value != "auto" and (type(value) is not int or value < 1):
                words, hint = f"{value!r} is not a multiple", "give a whole number from 1 up, or auto"
                raise UsageError("bad-multiple", words, where="--multiple", hint=hint)

    @property
    def steps(self) -> tuple[int, ...]:
        """Largest alignments to try, the preferred one first."""
        if isinstance(self.multiple, int):
            return (self.multiple,)
        largest = max(self.multiple.values(), default=1) if isinstance(self.multiple, Mapping) else 1
        return (largest, *FINER) if largest > FINER[0] else FINER

    def alignment(self, group: Group, step: int) -> int:
        """Return what the widths of a group are multiples of, where alignments are at most ``step``.

        Lowered alignments divide the preferred one, so that widths which were permitted stay so.
        """
        if isinstance(self.multiple, int):
            return self.multiple
        wanted = self.multiple.get(group.id) if isinstance(self.multiple, Mapping) else None
        wanted = wanted or auto_multiple(group)
        return wanted if wanted <= step else gcd(wanted, step)

    def choices(self, groups: Groups, tables: list[FloatArray], step: int) -> Choices:
        """Return the permitted widths with alignments of at most ``step``."""
        return Choices.of([permitted(g, self.min_width, self.alignment(g, step)) for g in groups.groups], tables)
