"""What a unit may be worth at a tensor: an interval a unit, and what is known of how it came about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..scores import FloatArray

LARGEST = 1e60
"""Where intervals stop growing: no network computes this, and products of two stay finite."""
Map = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Linear:
    """A stored row and offset that nothing has been done to but scaling: p = [w; b], |p x| <= radius |p|."""

    radius: float
    squares: FloatArray
    offset: FloatArray

    @property
    def norm(self) -> FloatArray:
        """|[w; b]|, shape (units,)."""
        return np.sqrt(self.squares + np.square(self.offset))

    def changed(self, scale: FloatArray, shift: FloatArray) -> Linear:
        """Fold a scale and a shift into the row: what a batch normalisation behind it does."""
        return Linear(self.radius, self.squares * np.square(scale), self.offset * scale + shift)


@dataclass(frozen=True)
class Reach:
    """The values of units lie between ``low`` and ``high``, each of shape (units,).

    ``linear`` is set as long as the value is a stored row's product with the data. ``monotone`` tells whether it is
    still a non-decreasing function of one; ``sources`` are the nodes whose rows came together; ``path`` names the
    activations on the way and ``unknown`` the operators that nothing is known of.
    """

    low: FloatArray
    high: FloatArray
    linear: Linear | None = None
    monotone: bool = True
    sources: frozenset[int] = frozenset()
    path: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()

    @classmethod
    def of_rows(cls, linear: Linear, source: int) -> Reach:
        """Return the reach of a stored row's product with any x with |[x; 1]| <= the radius."""
        reach = linear.radius * linear.norm
        return cls(-reach, reach, linear, sources=frozenset([source]))

    @property
    def envelope(self) -> FloatArray:
        """The largest absolute value, shape (units,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def non_negative(self) -> bool:
        """Whether no unit gets below zero."""
        return bool((self.low >= 0).all())

    def between(self, low: FloatArray, high: FloatArray, *, monotone: bool = False, name: str = "") -> Reach:
        """Return other bounds, with everything else kept but the stored row."""
        path = (*self.path, name) if name and name not in self.path[-1:] else self.path
        low, high = np.clip(low, -LARGEST, LARGEST), np.clip(high, -LARGEST, LARGEST)
        return replace(self, low=low, high=high, linear=None, monotone=self.monotone and monotone, path=path)

    def rising(self, function: Map, name: str) -> Reach:
        """Apply a non-decreasing function."""
        with np.errstate(over="ignore"):
            return self.between(function(self.low), function(self.high), monotone=True, name=name)

    def scaled(self, scale: FloatArray, shift: FloatArray | float = 0.0) -> Reach:
        """Multiply by stored numbers and add others, shape (units,)."""
        shifts = np.broadcast_to(np.asarray(shift, dtype=np.float64), self.low.shape)
        if self.linear is not None:
            changed = self.linear.changed(np.broadcast_to(scale, self.low.shape), shifts)
            fresh = Reach.of_rows(changed, 0)
            return replace(fresh, sources=self.sources, path=self.path, unknown=self.unknown)
        a, b = self.low * scale + shifts, self.high * scale + shifts
        return self.between(np.minimum(a, b), np.maximum(a, b), monotone=bool((np.asarray(scale) >= 0).all()))

    def shifted(self, low: FloatArray, high: FloatArray) -> Reach:
        """Add stored numbers between two bounds."""
        if self.linear is not None and np.array_equal(low, high):
            return self.scaled(np.ones_like(self.low), low)
        return self.between(self.low + low, self.high + high, monotone=True)

    def plus(self, other: Reach) -> Reach:
        """Add the same unit's value from elsewhere: a residual connection."""
        return self._with(other).between(self.low + other.low, self.high + other.high)

    def times(self, other: Reach) -> Reach:
        """Multiply by the same unit's value from elsewhere: a gate."""
        corners = np.stack([a * b for a in (self.low, self.high) for b in (other.low, other.high)])
        return self._with(other).between(corners.min(axis=0), corners.max(axis=0))

    def or_else(self, other: Reach) -> Reach:
        """Be one or the other: a concatenation of a tensor with itself, or a choice."""
        return self._with(other).between(
            np.minimum(self.low, other.low), np.maximum(self.high, other.high), monotone=other.monotone
        )

    def with_zero(self) -> Reach:
        """Be zero as well: padding."""
        return self.between(np.minimum(self.low, 0.0), np.maximum(self.high, 0.0), monotone=True)

    def untold(self, op: str) -> Reach:
        """Pass through an operator that nothing is known of: the largest value is taken to stay what it was.

        A value that was zero need not stay it, so none counts for less than a thousandth of the largest.
        """
        most = np.maximum(self.envelope, 1e-3 * self.envelope.max(initial=0.0))
        kept = self.between(-most, most)
        return replace(kept, unknown=self.unknown | {op})

    def _with(self, other: Reach) -> Reach:
        path = (*self.path, *(step for step in other.path if step not in self.path))
        sources, unknown = self.sources | other.sources, self.unknown | other.unknown
        return replace(self, sources=sources, path=path, unknown=unknown)
