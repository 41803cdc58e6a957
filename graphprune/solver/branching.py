"""Widths and bound brought together: the Lagrangian bound over parts of the choices, and plans made from its widths.

What keeps the bound of a network below the best plan are a few groups with wide steps, such as the width that all
blocks of a stage share. Choices with which no plan can be better than the best known are left out, and what is left is
split at one group, again and again, always where the bound is lowest (branch and bound; Land and Doig, 1960).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..cost import FloatArray, IntArray
from .choices import Choices
from .dual import Priced
from .limits import Limits
from .planes import Planes, climb
from .rounding import rounded

FIRST, LATER = 60, 12
"""How many bounds are computed at most over all choices, and over a part of them."""
TRIED = 4
"""From how many of the first widths plans are made."""
SELDOM = 8
"""Later, plans are made from every so many parts."""
OVERHEAD = 2000
"""What a group costs a bound besides the entries of its tables, in entries."""


@dataclass(frozen=True, order=True)
class Part:
    """Some of the choices, marked, with their bound; ``turn`` orders equals."""

    bound: float
    turn: int
    kept: NDArray[np.bool_] = field(compare=False)
    planes: Planes = field(compare=False)


@dataclass
class Effort:
    """When to stop: a gap of ``part`` of the loss, ``work`` table entries filled, or once it is ``late``."""

    part: float
    work: float
    late: Callable[[], bool]
    most: int

    def over(self) -> bool:
        """Whether there is no more time."""
        return self.work <= 0 or self.late()


@dataclass
class Proof:
    """The best widths known, with their loss, and the bound on all others so far."""

    limits: Limits
    choices: Choices
    effort: Effort
    widths: FloatArray
    loss: float

    @property
    def goal(self) -> float:
        """The bound that is good enough."""
        return self.loss - (1 - 1e-9) * self.effort.part * abs(self.loss)

    def climbed(self, priced: Priced, known: Planes, worth: FloatArray, turns: int) -> Planes:
        """Raise the bound of a part."""
        planes = climb(priced, known, worth, self.goal, turns, self.effort.over)
        self.effort.work -= turns * (priced.order.work + OVERHEAD * len(self.choices.start))
        return planes

    def plan(self, planes: Planes, count: int) -> None:
        """Make plans from the widths that the highest bounds came from, and keep the best."""
        for k in np.argsort(-np.array(planes.height), kind="stable")[:count]:
            if self.effort.over():
                return
            found = rounded(self.limits, self.choices, planes.widths[k], planes.worth[k] / self.limits.most)
            self.effort.work -= OVERHEAD * len(found)
            self.keep(found)

    def keep(self, widths: FloatArray) -> float:
        """Take widths that are within the limits if they lose less; returns what they lose."""
        loss = float(self.choices.loss[self.choices.start + self.choices.find(widths)].sum())
        if loss < self.loss:
            self.widths, self.loss = widths, loss
        return loss

    def left(self, priced: Priced, kept: NDArray[np.bool_], planes: Planes) -> NDArray[np.bool_]:
        """Leave out the choices with which no plan is better than the goal."""
        after = kept.copy()
        self.effort.work -= 2 * priced.order.work
        after[kept] = priced.marginals(planes.worth[planes.best]) < self.goal
        return after


def prove(
    limits: Limits, choices: Choices, widths: FloatArray, worth: FloatArray, effort: Effort
) -> tuple[FloatArray, float] | None:
    """Return the widths of least loss that are found, and a lower bound on the loss of all choices.

    ``widths``, of shape (groups,), are within the limits and among the choices; limits are ``worth`` about as much,
    (rows,). Returns None where the groups are woven together too much for this.
    """
    whole = Priced.of(limits, choices, effort.most)
    if whole is None:
        return None
    loss = float(choices.loss[choices.start + choices.find(widths)].sum())
    proof = Proof(limits, choices, effort, widths, loss)
    planes = proof.climbed(whole, Planes(), worth, FIRST)
    proof.plan(planes, TRIED)
    parts = [Part(planes.bound, 0, np.ones(len(choices.width), np.bool_), planes)]
    closed = np.inf
    turn = 0
    while parts and parts[0].bound < proof.goal and not effort.over():
        part = heapq.heappop(parts)
        halves, settled = _halves(proof, whole, part)
        closed = min(closed, settled)
        for kept in halves:
            turn += 1
            known = part.planes
            planes = proof.climbed(whole.only(kept), known, known.worth[known.best], LATER)
            if turn % SELDOM == 1:
                proof.plan(planes, 1)
            heapq.heappush(parts, Part(max(planes.bound, part.bound), turn, kept, planes))
    open_bound = parts[0].bound if parts else np.inf
    return proof.widths, min(open_bound, closed, proof.loss)


def _halves(proof: Proof, whole: Priced, part: Part) -> tuple[list[NDArray[np.bool_]], float]:
    """Split a part in two that can hold better plans, and say what bounds all that was left out."""
    settled = proof.goal
    kept = proof.left(whole.only(part.kept), part.kept, part.planes)
    count = np.add.reduceat(kept, proof.choices.start, dtype=np.int64)
    if (count == 0).any():
        return [], settled
    if (count == 1).all():
        last = proof.choices.width[kept]
        return [], min(settled, proof.keep(last)) if proof.limits.holds(last) else settled
    halves = (_fitting(proof.limits, proof.choices, half) for half in _split(proof, kept, count, part.planes))
    return [half for half in halves if half is not None], settled


def _split(
    proof: Proof, kept: NDArray[np.bool_], count: IntArray, planes: Planes
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split at the group whose losses differ most among the widths that the bound is a mixture of.

    ``count`` is how many choices of every group are kept.
    """
    choices = proof.choices
    weight = planes.mixture()
    rank = np.array([choices.find(w) for w in planes.widths])
    loss = choices.loss[choices.start + rank]
    apart = weight @ np.abs(loss - weight @ loss)
    group = int(np.where(count > 1, apart, -1.0).argmax())
    mine = np.flatnonzero(kept[choices.start[group] : choices.start[group] + choices.count[group]])
    border = int(np.clip(np.searchsorted(mine, weight @ rank[:, group], side="right"), 1, len(mine) - 1))
    low, high = kept.copy(), kept.copy()
    start = int(choices.start[group])
    low[start + int(mine[border]) : start + int(choices.count[group])] = False
    high[start : start + int(mine[border])] = False
    return low, high


def _fitting(limits: Limits, choices: Choices, kept: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Leave out choices that exceed a limit though all other groups take their least; None where nothing fits."""
    some = choices.only(kept)
    least = some.least
    slack = limits.slack(least)
    if (slack < 0).any():
        return None
    rank = np.minimum(np.arange(int(some.count.max())), (some.count - 1)[:, None])
    at = limits.incidences
    room = slack + 1e-9 * limits.most
    change = limits.changes(least, some.width[some.start[:, None] + rank])
    fits = at.every(change <= room[at.row][:, None])
    after = kept.copy()
    after[kept] = fits[some.owner, np.arange(len(some.width)) - some.start[some.owner]]
    return after
