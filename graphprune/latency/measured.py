"""Seconds that were asked for so far: nodes are timed once or twice at every size, here or in an earlier run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .cache import Cache, Points, Timed
from .fragments import Job
from .sampling import Point
from .templates import Template
from .timing import Timer

MOST_TIMES = 2


@dataclass(frozen=True)
class Request:
    """Sizes of a node to time, and sizes to time ``again`` if they were timed once only."""

    template: Template
    sizes: Sequence[Point]
    again: Sequence[Point] = ()


@dataclass
class Measured:
    """Times nodes, and remembers; ``fresh`` counts timings that were taken, ``reused`` those that were known before.

    Of two timings the smaller counts: what disturbs a run makes it slower.
    """

    timer: Timer
    cache: Cache
    fresh: int = 0
    reused: int = 0
    _known: dict[str, dict[Point, Timed]] = field(default_factory=dict)

    def _of(self, template: Template) -> dict[Point, Timed]:
        if template.key not in self._known:
            self._known[template.key] = self.cache.points(template.key)
            self.reused += len(self._known[template.key])
        return self._known[template.key]

    def known(self, template: Template) -> Points:
        """Return what is known of a node, by its sizes; not a number at sizes where it does not run."""
        return {point: timed.seconds for point, timed in self._of(template).items()}

    def time(self, requests: Iterable[Request]) -> None:
        """Time what is not known of these requests, side by side."""
        jobs: dict[tuple[str, Point], Job] = {}
        for request in requests:
            known = self._of(request.template)
            new = [size for size in request.sizes if size not in known]
            new += [size for size in request.again if size in known and known[size].times < MOST_TIMES]
            for size in new:
                jobs.setdefault((request.template.key, size), Job(request.template, size))
        if not jobs:
            return
        self.fresh += len(jobs)
        by_key: dict[str, dict[Point, Timed]] = {}
        for (key, size), seconds in zip(jobs, self.timer(list(jobs.values())).tolist(), strict=True):
            before = self._known[key].get(size)
            kept = seconds if before is None else float(np.fmin(before.seconds, seconds))
            by_key.setdefault(key, {})[size] = Timed(kept, 1 if before is None else before.times + 1)
        for key, points in by_key.items():
            self._known[key].update(points)
            self.cache.add_points(key, {p: t for p, t in points.items() if np.isfinite(t.seconds)})
