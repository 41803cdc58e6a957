"""Where what is fitted lies: in the network that runs while layers are fitted, and in the one that is repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..coupling import couple_like
from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..scores import FloatArray
from ..statistics.consumers import Consumer, consumers_of
from ..statistics.skips import skips_of
from ..statistics.windows import Rows

if TYPE_CHECKING:
    from ..statistics.sequential import Pair
    from .apply import Cut
    from .fit import Fit

Corner = tuple[int, IntArray, IntArray]
"""A block of a consumer, rows of it and columns of it."""


@dataclass(frozen=True)
class Place:
    """A consumer that is fitted: ``cut`` of the model to be repaired, ``consumer`` of the network that runs.

    ``seen`` are the columns of ``consumer`` that are looked at (None: all), ``removed`` tells which of them are at
    zero in each block, shape (blocks, columns seen), and ``corners`` where each block comes from in the cut's consumer.
    """

    cut: Cut
    consumer: Consumer
    seen: IntArray | None
    removed: NDArray[np.bool_]
    corners: tuple[Corner, ...]

    @classmethod
    def masked(cls, cut: Cut, *, whole: bool = False) -> Place:
        """Return that of a network of which removed columns are at zero.

        Of a consumer that is a single matrix only the columns left are looked at, unless all are to be (``whole``).
        """
        consumer = cut.consumer
        removed = cut.removed.reshape(consumer.blocks, consumer.width)
        seen = np.flatnonzero(~cut.removed) if consumer.blocks == 1 and not whole else None
        columns = np.arange(consumer.width) if seen is None else seen
        corners = tuple((b, np.arange(consumer.outputs), columns) for b in range(consumer.blocks))
        return cls(cut, consumer, seen, removed[:, columns], corners)

    @property
    def outputs(self) -> IntArray | None:
        """The outputs that are left, of the cut's consumer, all blocks; None for all."""
        each = self.cut.consumer.outputs
        found = np.concatenate([b * each + rows for b, rows, _ in self.corners])
        return None if len(found) == len(self.cut.rows) else found

    def weights(self) -> FloatArray:
        """Return the weights that are looked at, shape (blocks, outputs, columns seen)."""
        made = self.consumer.stacked()
        return made if self.seen is None else made[:, :, self.seen]

    def running(self, fits: Sequence[Fit]) -> dict[str, Array]:
        """Return what the network that runs is to store, once every block is fitted."""
        full = np.zeros((self.consumer.blocks, self.consumer.outputs, self.consumer.width))
        for block, fit in zip(full, fits, strict=True):
            block[:, slice(None) if self.seen is None else self.seen] = fit.weights
        shift = np.concatenate([fit.shift for fit in fits])
        return self.consumer.stored_with(full.reshape(-1, self.consumer.width), shift)

    def repaired(self, fits: Sequence[Fit]) -> dict[str, Array]:
        """Return what the model is to store; rows and columns that are gone stay as they were."""
        old = self.cut.consumer
        whole, shift = old.stacked(), np.zeros((old.blocks, old.outputs))
        for (b, rows, columns), gone, fit in zip(self.corners, self.removed, fits, strict=True):
            whole[b][np.ix_(rows, columns[~gone])] = fit.weights[:, ~gone]
            shift[b, rows] = fit.shift
        return old.stored_with(whole.reshape(-1, old.width), shift.ravel())


def pairs_of(places: Sequence[Place], groups: Groups, original: Graph | None) -> list[Pair] | None:
    """Return consumers beside those they are to give the same as, with what is added to their outputs.

    None where something else is added in the network that runs than in the model. With ``original``, another graph of
    the model, of whose consumers the targets are, what is added is left out: it may be named else there.
    """
    from ..statistics.sequential import Pair

    olds = [place.cut.consumer for place in places]
    skips: list[Rows | None] = [None] * len(places)
    if original is not None:
        dense = {c.node: c for c in consumers_of(original, couple_like(groups, original))}
        olds = [dense.get(c.node, c) for c in olds]
    else:
        whole, now = skips_of(olds), skips_of([place.consumer for place in places])
        skips = [whole.get(c.node) for c in olds]
        if skips != [now.get(place.consumer.node) for place in places]:
            return None
    return [
        Pair(old, place.consumer, place.outputs, place.seen, skip)
        for old, place, skip in zip(olds, places, skips, strict=True)
    ]
