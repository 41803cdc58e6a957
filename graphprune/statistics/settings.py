"""How statistics are taken: how many rows, how wide, in what batches; and which rows of a sample, by seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..groups import IntArray

Kind = Literal["full", "diagonal"]


@dataclass(frozen=True)
class Settings:
    """How statistics are taken.

    ``rows`` is the most rows of a consumer over all samples (None: all there are): each sample gives an equal share,
    drawn without repetition, spread over its positions, by ``seed``, the sample's number and the number of positions
    alone, so that they are the same in the original and in the pruned network. Matrices wider than ``widest`` columns
    are described by diagonal blocks of at most so many, and by narrower ones yet where all that is kept of a model
    would take more than ``memory`` bytes. ``kind`` "diagonal" has variances only.

    Samples are dealt to ``chunks`` of which each shard takes whole ones; float32 sums do not cross them. ``batch`` is
    the most samples that run at once (None: as many as keep what is fetched below ``fetched`` bytes). ``provider`` is
    onnxruntime's, ``device`` torch's. ``room`` bytes of tensors are kept in memory between stages, and of targets; what
    is more goes to a file in the folder for temporary ones. With ``single`` wide matrices are kept in float32
    (``statistics.gram``).
    """

    rows: int | None = 8192
    widest: int = 4608
    kind: Kind = "full"
    batch: int | None = None
    chunks: int = 8
    seed: int = 0
    provider: str = "CPUExecutionProvider"
    device: str = "auto"
    room: int = 1 << 29
    fetched: int = 1 << 28
    memory: int = 2 << 30
    single: bool = False

    def __post_init__(self) -> None:
        """Check the numbers; raises UsageError for one that makes no sense."""
        for name in ("rows", "widest", "batch", "chunks", "room", "fetched", "memory"):
            value = getattr(self, name)
            if value is not None and value < (1 if name != "room" else 0):
                raise UsageError("bad-value", f"{value} is too few", where=name, hint="give a positive number")

    def per_sample(self, samples: int) -> int | None:
        """Return how many rows every one of so many samples gives a consumer, None for all."""
        return None if self.rows is None else max(-(-self.rows // max(samples, 1)), 1)


@lru_cache(maxsize=512)
def chosen(first: int, count: int, positions: int, wanted: int | None, seed: int) -> IntArray | None:
    """Return positions of samples ``first`` to ``first + count - 1``, shape (count, wanted); None for all of them.

    The array is remembered, and not to be changed.
    Positions are cut into ``wanted`` stretches, one is drawn from each, and all are moved on by a random number: no two
    are alike, near ones are rare, and each position is as likely as any other.
    """
    if wanted is None or wanted >= positions:
        return None
    edges = np.arange(wanted + 1) * positions // wanted
    found = np.empty((count, wanted), np.int64)
    for k in range(count):
        stream = np.random.default_rng([seed, 5, first + k])
        drawn = edges[:-1] + (stream.random(wanted) * np.diff(edges)).astype(np.int64)
        found[k] = (drawn + stream.integers(positions)) % positions
    return np.sort(found, axis=1)
