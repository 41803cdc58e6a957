"""Moments of two halves of the samples, kept apart so that what is fitted on one can be judged on the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .nested import precise_enough

if TYPE_CHECKING:
    from ..data import Samples
    from ..graph import Graph
    from ..groups import Groups
    from ..statistics.consumers import Consumer
    from ..statistics.moments import Moments
    from ..statistics.statistics import Statistics
    from .before import Before

LEAST = 16
"""Samples from which on there are two halves."""
FETCHED = 5 << 26
"""Bytes of tensors that one run gives, about: they are held beside the moments of both halves."""


@dataclass(frozen=True)
class Halves:
    """Statistics of two halves of the samples, or of all of them where they are few. ``notes`` are those of all."""

    halves: tuple[Statistics, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of_samples(cls, graph: Graph, groups: Groups, data: Samples, seed: int, before: Before | None = None) -> Halves:
        """Run the model once over samples, the first half and then the second.

        What layers put out is kept in ``before``, of all samples that are meant there: ``data`` are the first of them.
        """
        from ..statistics.collect import collect_shards, targets_of
        from ..statistics.consumers import consumers_of
        from ..statistics.settings import Settings

        parts = 2 if len(data) >= LEAST * (data.fixed_batch or 1) else 1
        settings = Settings(seed=seed, fetched=FETCHED, single=True)
        if before is not None and before.settings.rows == settings.rows and before.rows is not None:
            # As many of each sample for scores as for repair, so that they are read once.
            settings = replace(settings, rows=before.rows * len(data))
        consumers = tuple(consumers_of(graph, groups))
        kept: dict[str, Any] = {}
        if before is not None:
            kept = {"targets": before.targets, "skips": before.skips, "target_rows": before.rows}
        shards = [(k, parts) for k in range(parts)]
        found = collect_shards(graph, groups, data, settings, shards, consumers=consumers, **kept)
        made = tuple(map(_compact, found))
        if before is not None and len(before.samples) > len(data):
            wanted = [c for c in consumers if c.node in before.nodes]
            targets_of(wanted, before.samples, before.settings, before.skips, first=len(data), into=before.targets)
        return cls(made, made[0].checked(*made[1:]).notes)

    @classmethod
    def stored(cls, graph: Graph, statistics: Any) -> Halves:
        """Return statistics that were taken before, as one half: a file of them by its path, or ``Statistics``.

        Raises UsageError for what is neither, for another model's, and for variances alone.
        """
        from ..statistics.files import load
        from ..statistics.statistics import Statistics, fingerprint

        found = load(statistics, graph) if isinstance(statistics, (str, Path)) else statistics
        wrong = "" if isinstance(found, Statistics) else f"{type(found).__name__} is no path and no statistics"
        if not wrong and (found.kind != "full" or found.fingerprint != fingerprint(graph)):
            wrong = "they hold variances alone" if found.kind != "full" else "the statistics are of another model"
        if wrong:
            hint = "give what graphprune stats wrote for this model"
            raise UsageError("statistics-model", wrong, where="statistics", hint=hint)
        part = "" if found.complete else ", a part of the data"
        return cls((found,), (f"moments are those taken before, of {found.samples} samples{part}", *found.notes))

    def of(self, consumer: Consumer) -> Moments:
        """Return the moments of what a consumer reads in all samples."""
        return reduce(add, [half.of(consumer) for half in self.halves])

    def together(self) -> Halves:
        """Return the same with the halves added up, which takes half the memory; this one is not to be used again."""
        if len(self.halves) < 2:
            return self
        first, second = self.halves
        mine, other = (dict(half.moments) for half in self.halves)
        for half in self.halves:
            half.moments.clear()  # type: ignore[attr-defined]
        added = {key: mine.pop(key) + other.pop(key) for key in list(mine)}
        return Halves((replace(first, moments=added, origin=first.origin + second.origin),), self.notes)


def _compact(statistics: Statistics) -> Statistics:
    """Return statistics with wide matrices in float32, once they are added up: they are no more exact than that."""
    moments: dict[str, Any] = dict(statistics.moments)
    for key, own in moments.items():
        moments[key] = replace(own, scatter=precise_enough(own.scatter))
    return replace(statistics, moments=moments)
