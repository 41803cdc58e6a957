"""Moments of two halves of the samples, kept apart so that what is fitted on one can be judged on the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import Samples
    from ..graph import Graph
    from ..groups import Groups
    from ..statistics.consumers import Consumer
    from ..statistics.moments import Moments
    from ..statistics.statistics import Statistics

LEAST = 16
"""Samples from which on there are two halves."""


@dataclass(frozen=True)
class Halves:
    """Statistics of two halves of the samples, or of all of them where they are few. ``notes`` are those of all."""

    halves: tuple[Statistics, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of_samples(cls, graph: Graph, groups: Groups, data: Samples, seed: int) -> Halves:
        """Run the model once over samples, the first half and then the second."""
        from ..statistics.collect import collect
        from ..statistics.settings import Settings

        parts = 2 if len(data) >= LEAST * (data.fixed_batch or 1) else 1
        settings = Settings(seed=seed)
        made = tuple(collect(graph, groups, data, settings, shard=(k, parts)) for k in range(parts))
        return cls(made, reduce(add, made).checked().notes)

    def of(self, consumer: Consumer) -> Moments:
        """Return the moments of what a consumer reads in all samples."""
        return reduce(add, [half.of(consumer) for half in self.halves])
