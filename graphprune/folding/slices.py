"""A stored weight as an array with the units on an axis of their own, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ..families.pattern import Token
from ..graph import Array
from ..groups import IntArray
from ..scores import FloatArray
from ..sites.site import Factor
from .operands import Use


@dataclass(frozen=True)
class Slices:
    """How a stored tensor, or the part of it that an operand consists of, is an array of (outputs, units, columns).

    ``shape`` is the operand's, ``index`` tells which elements of the tensor it consists of (None: all, as they are).
    ``split`` is the shape with products of letters taken apart, ``order`` the order of its axes: those of the outputs,
    then those that the units are on, then the others; ``counts`` says how many of each. ``positions`` are the units'
    places on their flattened axes, shape (units, places of each).
    """

    shape: tuple[int, ...]
    index: Array | None
    split: tuple[int, ...]
    order: tuple[int, ...]
    counts: tuple[int, int, int]
    positions: IntArray

    def read(self, stored: Array) -> FloatArray:
        """Return the weights as float64, shape (outputs, units, columns); a unit's places come first in its columns."""
        cut = self._whole(stored)[:, self.positions.ravel()]
        units = len(self.positions)
        result: FloatArray = cut.reshape(cut.shape[0], units, -1).astype(np.float64)
        return result

    def write(self, stored: Array, weights: FloatArray) -> FloatArray:
        """Return the tensor with other weights of shape (outputs, units, columns) in it, as float64."""
        whole = self._whole(stored).astype(np.float64)
        whole[:, self.positions.ravel()] = weights.reshape(whole.shape[0], self.positions.size, whole.shape[2])
        part = whole.reshape([self.split[k] for k in self.order]).transpose(np.argsort(self.order)).reshape(self.shape)
        if self.index is None:
            return part
        result = stored.astype(np.float64)
        result.reshape(-1)[self.index] = part
        return result

    def _whole(self, stored: Array) -> Array:
        """Return the operand as (outputs, places of units, others)."""
        operand = stored if self.index is None else stored.reshape(-1)[self.index]
        moved = operand.reshape(self.split).transpose(self.order)
        outputs, places, _ = self.counts
        sizes = moved.shape
        first, last = sizes[:outputs], sizes[outputs + places :]
        return moved.reshape(prod(first), prod(sizes[outputs : outputs + places]), prod(last))


def slices_of(
    use: Use, shape: tuple[int, ...], tokens: Sequence[Token], sizes: Mapping[str, int], on: Sequence[str],
    outputs: frozenset[str], positions: IntArray,
) -> Slices:  # fmt: skip
    """Return how an operand of a contraction is cut: ``on`` are the letters the units are on, ``outputs`` the first."""
    letters, split = letters_of(tokens, shape, sizes)
    axes = range(len(letters))
    first = [k for k in axes if letters[k] in outputs and letters[k] not in on]
    middle = [letters.index(name) for name in on]
    last = [k for k in axes if k not in first and k not in middle]
    counts = len(first), len(middle), len(last)
    return Slices(shape, use.index, tuple(split), (*first, *middle, *last), counts, positions)


def letters_of(tokens: Sequence[Token], shape: Sequence[int], sizes: Mapping[str, int]) -> tuple[list[str], list[int]]:
    """Return the letters of an operand and their sizes, products taken apart."""
    letters: list[str] = []
    split: list[int] = []
    for token, size in zip(tokens, shape, strict=True):
        parts = (token,) if isinstance(token, str) else token
        letters += parts
        split += [size] if len(parts) == 1 else [sizes[p] for p in parts]
    return letters, split


def places(factors: Sequence[Factor], group: str, units: int, size: int) -> IntArray | str:
    """Return the places of each unit on an axis of ``size`` positions, shape (units, places of each), or why not.

    The axis may be the last letter of a longer one, on which factors then repeat.
    """
    mine = [f.index[:size] for f in factors if f.group == group]
    if len(mine) != 1:
        return "an index of it needs several of its units"
    if (mine[0] != factors_repeated(factors, group, size)).any():
        return "its units differ between the blocks of a grouped operator"
    order = np.argsort(mine[0], kind="stable")
    counts = np.bincount(mine[0], minlength=units + 1)[:units]
    if not counts.size or not counts.min() or counts.min() != counts.max():
        return "its units own different numbers of weights"
    return order[: counts.sum()].reshape(units, int(counts[0]))


def factors_repeated(factors: Sequence[Factor], group: str, size: int) -> IntArray:
    """Return a group's factor cut into stretches of ``size``, shape (stretches, size)."""
    (found,) = (f.index for f in factors if f.group == group)
    return found.reshape(-1, size)
