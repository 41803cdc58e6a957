"""Widths of least loss within the limits: priced widths to start from, then moves at true cost.

The start prices the widths by what they cost while all others are fixed, one multiplier per row (a Lagrangian of the
separated problem), and takes the cheapest choice of every group. The scale of the prices is narrowed down so that the
true costs are within the limits, and the prices are taken anew where that lands. Moves use up what rounding leaves
over.
"""

from __future__ import annotations

import numpy as np

from ..cost import FloatArray, IntArray
from .choices import Choices, Menu
from .limits import Limits
from .moves import LEEWAY, TINY, TRIES, Combined, Moves, Place, exchange, fill

COLUMNS = 64
"""How many choices of a group are looked at together."""
ROUNDS, FEWER = 20, 5
"""How often prices are taken anew, and with a single row, where no weights need to settle."""
PATIENCE = 4
"""How many rounds may pass without a better start."""
PROBES = 7
"""How many scales of the prices are tried at once."""
COARSE = 0.01
"""The part of the limits from which on a step of a group is coarse."""
CHANCES = 3
"""How many coarse steps are tried, those of lowest reduced cost first."""
WORTH = 0.05
"""The rise of the loss that is accepted for using a limit well."""
FEW = 16384
"""With no more combinations than this, all are tried."""


def start(limits: Limits, menu: Menu, base: FloatArray) -> tuple[Place, FloatArray]:
    """Choose widths within the limits by prices, taken first at widths ``base``; returns also the price of every row.

    The smallest widths must be within the limits. A row that stays below its limit loses weight, the faster the longer
    it does.
    """
    weight = np.full(len(limits.most), 1 / len(limits.most))
    haste = np.full(len(weight), 3.0)
    best = Place(limits, menu, np.zeros(len(base), dtype=np.int64))
    low, high, idle = -25.0, 25.0, 0
    for turn in range(ROUNDS):
        cost = limits.priced(base, weight / limits.most, menu.width)
        column, high = _narrow(limits, menu, cost, low, high, 2 if turn else 4)
        place = Place(limits, menu, column)
        price = np.exp(high) * weight / limits.most
        loss, least = place.losses.sum(), best.losses.sum()
        idle = 0 if loss < least * (1 - 1e-3) else idle + 1
        best = place if loss < least else best
        if idle == PATIENCE or (turn == FEWER and len(weight) == 1):
            break
        low, high = high - 1.5, high + 1.5
        used = 1 - place.slack / limits.most
        short = np.log(np.maximum(used / max(used.max(), TINY), 0.3))
        weight = weight * np.exp(np.maximum(haste * short, -3.0))
        weight /= weight.sum()
        haste = np.where(short < -0.002, np.minimum(2 * haste, 100.0), np.maximum(haste / 4, 1.0))
        base = np.sqrt(base * np.maximum(place.width, 0.5))
    return best, price


def _narrow(
    limits: Limits, menu: Menu, cost: FloatArray, low: float, high: float, turns: int
) -> tuple[IntArray, float]:
    """Find the smallest scale of the prices, by its logarithm, at which the cheapest choices are within the limits."""
    groups = np.arange(len(cost))
    found = np.zeros(len(cost), dtype=np.int64)
    for _ in range(turns):
        scale = np.linspace(low, high, PROBES + 2)[1:-1]  # all probes at once: half the calls of a bisection
        column = (menu.loss + np.exp(scale)[:, None, None] * cost).argmin(axis=2)
        holds = limits.holds(menu.width[groups, column])
        first = int(holds.argmax()) if holds.any() else PROBES
        low, high = scale[first - 1] if first else low, scale[first] if first < PROBES else high
        found = column[first] if first < PROBES else found
    return found, high


def rebalance(place: Place, price: FloatArray) -> Place | None:
    """Move one group whose steps are coarse by a step, price all others anew around it; None where the loss stays.

    A head or a wide channel may cost more than any pair of moves can make room for, but not more than a little of every
    other group.
    """
    groups, menu, limits = np.arange(len(place.column)), place.menu, place.limits
    steps = np.clip(place.column + np.array([[-1], [1]]), 0, menu.width.shape[1] - 1)
    worth = place.weighed(price)[groups, steps]
    reduced = np.where(np.abs(worth) > COARSE * (price @ limits.most), place.gain[groups, steps] + worth, np.inf)
    cost = limits.priced(place.width, price, menu.width)
    best = None
    for k in np.argsort(reduced, axis=None, kind="stable")[:CHANCES]:
        side, group = divmod(int(k), len(groups))
        if not np.isfinite(reduced[side, group]):
            break
        loss = menu.loss.copy()
        loss[group, menu.width[group] != menu.width[group, steps[side, group]]] = np.inf
        locked = Menu(menu.width, loss)
        there = Place(limits, locked, _narrow(limits, locked, cost, -1.0, 3.0, 2)[0])
        if np.isfinite(there.losses).all():
            there = fill(there)
            if there.losses.sum() < (best or place).losses.sum() - TINY:
                best = there
    return best and Place(limits, menu, best.column)


def polish(place: Place, price: FloatArray) -> Place:
    """Fill, exchange and rebalance until none of them lowers the loss."""
    for _ in range(20 + 4 * len(place.column)):
        place = fill(place)
        better = exchange(place, price) or rebalance(place, price)
        if better is None:
            break
        place = better
    return place


def few(choices: Choices) -> bool:
    """Tell whether all combinations of widths can be tried."""
    return bool(np.log(choices.count).sum() <= np.log(FEW))


def enumerate_all(limits: Limits, choices: Choices) -> FloatArray:
    """Return the widths of least loss within the limits among all combinations, shape (groups,)."""
    widths, loss = _combinations(choices)
    return np.asarray(widths[np.where(limits.holds(widths), loss, np.inf).argmin()])


def closer(limits: Limits, choices: Choices, loss: float, part: float) -> FloatArray | None:
    """Look through few combinations for the best that use ``part`` of a limit, where widths of this loss do not.

    None where there are too many, none, or only such as lose more than using the limit is worth.
    """
    if not few(choices):
        return None
    widths, losses = _combinations(choices)
    good = limits.holds(widths) & (limits.used(widths) >= part) & (losses <= (1 + WORTH) * loss)
    return np.asarray(widths[np.where(good, losses, np.inf).argmin()]) if good.any() else None


def _combinations(choices: Choices) -> tuple[FloatArray, FloatArray]:
    """Return all combinations of widths, shape (combinations, groups), and the loss of each."""
    rank = np.stack(np.unravel_index(np.arange(int(np.prod(choices.count))), tuple(choices.count)), axis=1)
    return choices.width[choices.start + rank], choices.loss[choices.start + rank].sum(axis=1)


def search(limits: Limits, choices: Choices) -> tuple[FloatArray, FloatArray]:
    """Return widths of low loss within the limits, shape (groups,), and the price of every row, shape (rows,).

    The smallest widths must be within the limits.
    """
    if few(choices):
        return enumerate_all(limits, choices), 1 / limits.most
    menu = Menu.spread(choices, COLUMNS)
    place, price = start(limits, menu, np.maximum(0.75 * choices.most, 1.0))
    place = polish(place, price)
    if (choices.count > COLUMNS).any():
        menu = Menu.near(choices, place.width, COLUMNS)
        place = polish(Place(limits, menu, menu.find(place.width)), price)
    return place.width, price


def use_up(limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray, part: float) -> FloatArray:
    """Raise single widths until ``part`` of a limit is used, where that costs no loss: the fewest that reach it."""
    menu = Menu.near(choices, widths, COLUMNS)
    place = Place(limits, menu, menu.find(widths))
    while (1 - place.slack / limits.most).max() < part:
        worth = place.weighed(price)
        allowed = place.fits & (place.gain <= TINY) & (worth > 0)
        if not allowed.any():
            break
        at = limits.incidences
        after = 1 - (place.slack[at.row][:, None] - place.change) / limits.most[at.row][:, None]
        reaches = allowed & (np.maximum.reduceat(after, at.first, axis=0) >= part)
        best = np.where(reaches if reaches.any() else allowed, place.gain, np.inf)
        group, column = divmod(int(np.lexsort((-worth.ravel(), best.ravel()))[0]), best.shape[1])
        place = place.moved(np.array([group]), np.array([column]))
    return place.width


def stretch(limits: Limits, choices: Choices, widths: FloatArray, price: FloatArray, part: float) -> FloatArray:
    """Use ``part`` of a limit by raising one group and lowering another, at the least rise of the loss.

    Returns the widths as they are where no such pair is found, or only at a rise that using the limit is not worth.
    """
    menu = Menu.near(choices, widths, COLUMNS)
    place = Place(limits, menu, menu.find(widths))
    down, up = Moves.both(place, price)
    pairs = Combined.of(place, (down, up))
    gain = down.gain[:, None] + up.gain
    wrong = (down.group[:, None] == up.group) | (pairs.over > LEEWAY) | (gain > WORTH * place.losses.sum())
    gain = np.where(wrong, np.inf, gain)
    order = np.argsort(gain, axis=None, kind="stable")[: 8 * TRIES]
    after = pairs.widths(place, order)
    good = np.flatnonzero(limits.holds(after) & (limits.used(after) >= part) & np.isfinite(gain.flat[order]))
    return np.asarray(after[good[0]]) if len(good) else widths
