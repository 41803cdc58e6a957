"""What layers of the original network put out, kept from the run that took statistics: repair need not run it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Graph
from ..statistics.consumers import Consumer
from ..statistics.settings import Settings
from ..statistics.skips import Skips, skips_of
from ..statistics.targets import Store, Targets

if TYPE_CHECKING:
    from ..data import Samples
    from ..statistics.sequential import Pair

FEWEST, MOST = 8192, 65536
"""Rows of a consumer over all samples, at least and at most: MobileNetV2 misses 15% less of its logits with more.

Fewer than twice as many as scores take are not worth reading twice.
"""
TARGETS = 1 << 30
"""Bytes of what the original's consumers put out that decide between the two."""


def rows_for(consumers: Sequence[Consumer]) -> int:
    """Return how many rows of each consumer are looked at: many, where what they are to give takes little room."""
    outputs = sum(c.blocks * c.outputs for c in consumers if not c.refusal)
    fit = min(TARGETS // (4 * max(outputs, 1)), MOST)
    return fit if fit >= 2 * FEWEST else FEWEST


ROOM = 1 << 27
"""Bytes of that which are kept in memory while statistics are, which take much of it; the rest goes to files."""


@dataclass(frozen=True)
class Before:
    """What consumers of ``graph`` put out on ``samples``, with what is added to it (``skips``), for these settings."""

    graph: Graph
    samples: Samples
    settings: Settings
    targets: Targets
    skips: Skips
    nodes: frozenset[int]

    @classmethod
    def of(cls, graph: Graph, consumers: Sequence[Consumer], samples: Samples, seed: int) -> Before | None:
        """Return one that nothing is kept in yet; None where no consumer can be repaired, or batches do not fit."""
        fitted = [c for c in consumers if not c.refusal]
        if not fitted or len(samples) % (samples.fixed_batch or 1):
            return None
        settings = Settings(seed=seed, rows=rows_for(fitted), single=True)
        targets = Targets(Store(ROOM))
        return cls(graph, samples, settings, targets, skips_of(fitted), frozenset(c.node for c in fitted))

    @property
    def rows(self) -> int | None:
        """Rows that every sample gives."""
        return self.settings.per_sample(len(self.samples))

    def is_of(self, graph: Graph, samples: Samples, seed: int) -> bool:
        """Tell whether this was kept of a model, and of these samples in this order."""
        from ..statistics.collect import origin_of

        mine, other = self.samples, samples
        if graph is not self.graph or seed != self.settings.seed or not np.array_equal(mine.order, other.order):
            return False
        first, second = (origin_of(s, [(0, len(s), 1)]) for s in (mine, other))
        return sum(self.targets.sizes) == len(mine) and first == second

    def serves(self, pairs: Sequence[Pair]) -> bool:
        """Tell whether it has what these pairs are to give."""
        return all(p.dense.node in self.nodes and self.skips.get(p.dense.node) == p.skip for p in pairs)
