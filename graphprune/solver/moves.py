"""Moves between plans at true cost: raise a width, raise one while lowering another, or three at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..cost import FloatArray, IntArray
from .choices import Menu
from .limits import Limits

CLOSE = 96
"""How many moves up, and down, of lowest reduced cost are paired; all their pairs are looked at."""
CLOSEST = 24
"""How many are combined by three."""
TRIES = 128
"""How many combinations are costed exactly where none fits for sure."""
LEEWAY = 0.02
"""How far over its limit, by the sum of its changes, a combination may be that is costed exactly."""
TINY = 1e-13
"""Gains below this, in units of the largest loss of a group, are rounding."""


@dataclass(frozen=True)
class Place:
    """A choice of widths (``column`` of the menu for every group), with what every single move from it changes."""

    limits: Limits
    menu: Menu
    column: IntArray

    @cached_property
    def width(self) -> FloatArray:
        """The chosen widths, shape (groups,)."""
        return np.asarray(self.menu.width[np.arange(len(self.column)), self.column])

    @cached_property
    def losses(self) -> FloatArray:
        """The loss of every group, shape (groups,)."""
        return np.asarray(self.menu.loss[np.arange(len(self.column)), self.column])

    @cached_property
    def slack(self) -> FloatArray:
        """How far every row is below its limit, shape (rows,)."""
        return self.limits.slack(self.width)

    @cached_property
    def gain(self) -> FloatArray:
        """Change of the loss by every move, shape (groups, columns)."""
        return np.asarray(self.menu.loss - self.losses[:, None])

    @cached_property
    def change(self) -> FloatArray:
        """Change of the rows by every move, shape (pairs, columns)."""
        return self.limits.changes(self.width, self.menu.width)

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether every move stays within the limits, shape (groups, columns)."""
        at = self.limits.incidences
        return at.every(self.change <= self.slack[at.row][:, None])

    def weighed(self, price: FloatArray) -> FloatArray:
        """Return the change by every move, summed over the rows at these prices, shape (groups, columns)."""
        at = self.limits.incidences
        return at.total(self.change * price[at.row][:, None])

    def moved(self, group: NDArray[np.integer], column: NDArray[np.integer]) -> Place:
        """Return the place after these groups move to these columns."""
        after = self.column.copy()
        after[group] = column
        return Place(self.limits, self.menu, after)


def fill(place: Place) -> Place:
    """Make the single move that lowers the loss most, again and again, within the limits."""
    while True:
        gain = np.where(place.fits, place.gain, 0.0)
        best = int(gain.argmin())
        if gain.flat[best] >= -TINY:
            return place
        group, column = divmod(best, gain.shape[1])
        place = place.moved(np.array([group]), np.array([column]))


@dataclass(frozen=True)
class Moves:
    """Some single moves, cheapest first: group, column, change of the loss, and of every row (rows, moves)."""

    group: IntArray
    column: IntArray
    gain: FloatArray
    change: FloatArray

    @classmethod
    def cheapest(cls, place: Place, allowed: NDArray[np.bool_], reduced: FloatArray) -> Moves:
        """Take the allowed moves of lowest reduced cost."""
        cost = np.where(allowed, reduced, np.inf).ravel()
        count = min(CLOSE, int(allowed.sum()))
        chosen = np.argpartition(cost, count - 1)[:count] if count else np.zeros(0, dtype=np.int64)
        chosen = chosen[np.lexsort((chosen, cost[chosen]))]
        group, column = np.divmod(chosen, reduced.shape[1])
        at = place.limits.incidences
        pairs = np.diff(np.append(at.first, len(at.group)))[group]
        move = np.repeat(np.arange(len(group)), pairs)
        pair = at.first[group][move] + np.arange(len(move)) - (np.cumsum(pairs) - pairs)[move]
        change = np.zeros((len(place.limits.most), len(group)))
        change[at.row[pair], move] = place.change[pair, column[move]]
        return cls(group, column, place.gain[group, column], change)

    @classmethod
    def both(cls, place: Place, price: FloatArray) -> tuple[Moves, Moves]:
        """Return the cheapest moves down and up, where prices say what the rows are worth."""
        reduced = place.gain + place.weighed(price)
        here = place.width[:, None]
        return cls.cheapest(place, place.menu.width < here, reduced), cls.cheapest(
            place, place.menu.width > here, reduced
        )

    def first(self, count: int) -> Moves:
        """Return the first of them."""
        return Moves(self.group[:count], self.column[:count], self.gain[:count], self.change[:, :count])


@dataclass(frozen=True)
class Combined:
    """Moves of several groups at once, one axis for each; ``gain`` is 0 where a combination makes no sense.

    ``over`` is how far each exceeds a limit, as a part of it, by the sum of its changes (negative: it fits). For two
    moves that is an upper bound, as lowering one group makes raising another cheaper.
    """

    moves: tuple[Moves, ...]
    gain: FloatArray
    over: FloatArray

    @classmethod
    def of(cls, place: Place, moves: tuple[Moves, ...]) -> Combined:
        """Combine all with all; moves of one group do not combine, and the last two axes only in ascending order."""
        dim = len(moves)
        spread = [tuple(slice(None) if a == k else None for a in range(dim)) for k in range(dim)]
        gain = sum((m.gain[s] for m, s in zip(moves, spread, strict=True)), np.zeros((1,) * dim))
        for k in range(1, dim):
            gain = np.where(moves[0].group[spread[0]] == moves[k].group[spread[k]], 0.0, gain)
        if dim == 3:
            gain = np.where(moves[1].group[spread[1]] < moves[2].group[spread[2]], gain, 0.0)
        over = np.full(gain.shape, -np.inf)
        rise = sum(np.maximum(m.change, 0.0).max(axis=1, initial=0.0) for m in moves)
        for row in np.flatnonzero(rise > place.slack - LEEWAY * place.limits.most):
            change = sum((m.change[row][s] for m, s in zip(moves, spread, strict=True)), -place.slack[row])
            np.maximum(over, change / place.limits.most[row], out=over)
        return cls(moves, gain, over)

    def apply(self, place: Place, index: np.integer) -> Place:
        """Return the place after the combination at this flat index."""
        at = np.unravel_index(int(index), self.gain.shape)
        chosen = [(m.group[k], m.column[k]) for m, k in zip(self.moves, at, strict=True)]
        return place.moved(*np.array(chosen).T)

    def widths(self, place: Place, index: NDArray[np.integer]) -> FloatArray:
        """Widths after each of the combinations at these flat indices, shape (combinations, groups)."""
        widths = np.repeat(place.width[None], len(index), axis=0)
        for moves, k in zip(self.moves, np.unravel_index(index, self.gain.shape), strict=True):
            widths[np.arange(len(index)), moves.group[k]] = place.menu.width[moves.group[k], moves.column[k]]
        return widths

    def best(self, place: Place) -> Place | None:
        """Make the combination that lowers the loss most within the limits; None where there is none.

        One that fits by the sum of two changes fits; otherwise the most gainful are costed exactly.
        """
        if len(self.moves) == 2:
            gain = np.where(self.over <= 0, self.gain, 0.0)
            if gain.size and gain.min() < -TINY:
                return self.apply(place, gain.argmin())
        gain = np.where(self.over <= LEEWAY, self.gain, 0.0).ravel()
        order = np.flatnonzero(gain < -TINY)
        if len(order) > TRIES:
            order = np.sort(order[np.argpartition(gain[order], TRIES)[:TRIES]])
        order = order[np.argsort(gain[order], kind="stable")]
        good = np.flatnonzero(place.limits.holds(self.widths(place, order)))
        return self.apply(place, order[good[0]]) if len(good) else None


def exchange(place: Place, price: FloatArray) -> Place | None:
    """Raise one or two groups and lower one or two others so that the loss falls; None where that is not found."""
    down, up = Moves.both(place, price)
    few_down, few_up = down.first(CLOSEST), up.first(CLOSEST)
    for moves in ((down, up), (few_down, few_up, few_up), (few_up, few_down, few_down)):
        better = Combined.of(place, moves).best(place)
        if better is not None:
            return better
    return None
