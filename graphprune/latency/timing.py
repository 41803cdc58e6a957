"""Seconds of single nodes: from onnxruntime's profile of what ran, or from a clock where a profile does not tell."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..cost import FloatArray
from ..errors import ModelError
from ..runtime import RUNTIME_ERRORS
from .clock import Effort, interleaved
from .events import BLOCKED, SUFFIX
from .fragments import Job, label, model_of
from .machine import DEVICES, Machine
from .overhead import profiler_seconds, without

if TYPE_CHECKING:
    from ..runtime import Feeds

FAILURES: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, ModelError)
MOST_BYTES = 256 << 20
"""Inputs and weights of one model of fragments; a single node may take more, up to MOST_OF_ONE."""
MOST_OF_ONE = 1 << 30
MOST_JOBS = 48
WARM_UP = 2
LEAST_RUNS, MOST_RUNS = 6, 40
FEW_RUNS = 4
"""Runs that are timed by processor time."""
SECONDS_A_JOB = 0.012
"""What a job may take, all runs together, beyond the fewest runs."""


Events = Sequence[Mapping[str, Any]]
BUSY = 0.1
"""Above this part of the time that others took, long jobs are timed by processor time."""
LONG = 1e-3
"""Seconds that one turn on a busy machine hardly gives."""


class Timer(Protocol):
    """Times nodes at sizes of their variables: seconds, shape (jobs,), not a number where a node does not run."""

    def __call__(self, jobs: Sequence[Job]) -> FloatArray:
        """Time some jobs, next to each other."""


class FragmentTimer:
    """Times nodes on this machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @cached_property
    def overhead(self) -> float:
        """Seconds that the profiler adds to every kernel."""
        return profiler_seconds(self.machine, lower_mean)

    def __call__(self, jobs: Sequence[Job]) -> FloatArray:
        """Return seconds of every job, shape (jobs,)."""
        seconds = np.full(len(jobs), np.nan)
        for batch in batches(jobs):
            seconds[batch] = self._timed([jobs[k] for k in batch])
        return seconds

    def _timed(self, jobs: Sequence[Job]) -> FloatArray:
        """Time jobs in one model; where it does not run, those that do."""
        try:
            # On a GPU a profile tells when kernels were started, not how long they ran.
            if self.machine.full_provider in DEVICES:
                return self._by_clock(jobs)
            found = self._by_events(jobs)
        except FAILURES:
            if len(jobs) == 1:
                return np.full(1, np.nan)
            half = len(jobs) // 2
            return np.concatenate([self._timed(jobs[:half]), self._timed(jobs[half:])])
        missing = np.flatnonzero(np.isnan(found)).tolist()
        if missing:  # made of several kernels, say
            found[missing] = self._by_clock([jobs[k] for k in missing])
        return found

    def _by_events(self, jobs: Sequence[Job]) -> FloatArray:
        events, runs, busy = self._profiled(jobs)
        found = without(seconds_of_nodes(events, len(jobs), runs), self.overhead)
        if busy > BUSY:
            for k in np.flatnonzero(found > LONG).tolist():
                found[k] = self._undisturbed(jobs[k])
        return found

    def _profiled(self, jobs: Sequence[Job]) -> tuple[Events, int, float]:
        """Run jobs under the profiler; return its events, how many runs count, and how busy the machine is.

        That is how much longer the runs took than this thread worked, where it does all the work (else 0).
        """
        model, feeds = model_of(jobs)
        with tempfile.TemporaryDirectory() as folder:
            session = self.machine.session(model, trace=Path(folder))
            clock, began = self.machine.clock(), perf_counter()
            worked = clock()
            runs = _run(session, feeds, len(jobs))
            worked = clock() - worked
            busy = (perf_counter() - began) / max(worked, 1e-9) - 1
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return events, runs, busy

    def _undisturbed(self, job: Job) -> float:
        """Time a long job by this thread's own time: on a busy machine it never runs without a break.

        What else runs in its model (changes of layout) is short, and known from the profile.
        """
        model, feeds = model_of([job])
        with tempfile.TemporaryDirectory() as folder:
            session = self.machine.session(model, trace=Path(folder))
            clock, laps = self.machine.clock(), []
            for _ in range(WARM_UP + FEW_RUNS):
                start = clock()
                session.run(None, feeds)
                laps.append(clock() - start)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return max(lower_mean(np.array(laps[WARM_UP:])) - seconds_beside(events), 1e-7)

    def _by_clock(self, jobs: Sequence[Job]) -> FloatArray:
        """Time jobs each in a model of its own; what a run costs beside the node counts with it."""
        models = [model_of([job]) for job in jobs]
        laps = [self.machine.lap(model, feeds) for model, feeds in models]
        timing = interleaved(laps, Effort(tolerance=0.03, least=5, most=25, seconds=0.05 * len(jobs), turn=0.001))
        return np.array([lower_mean(timing.seconds[:, k]) for k in range(len(jobs))])


def batches(jobs: Sequence[Job]) -> list[list[int]]:
    """Put jobs (by position) into models that are not too large; a job too large for any is in none.

    Neighbours of one template stay together if they can: what is compared should run side by side.
    """
    made: list[list[int]] = []
    room = 0
    for _, members in groupby(range(len(jobs)), key=lambda k: jobs[k].template.key):
        block = [k for k in members if jobs[k].bytes <= MOST_OF_ONE]
        together = len(block) <= MOST_JOBS and sum(jobs[k].bytes for k in block) <= MOST_BYTES
        for part in [block] if together else [[k] for k in block]:
            size = sum(jobs[k].bytes for k in part)
            if not made or size > room or len(made[-1]) + len(part) > MOST_JOBS:
                made.append([])
                room = MOST_BYTES
            made[-1] += part
            room -= size
    return [batch for batch in made if batch]


def _run(session: Any, feeds: Feeds, jobs: int) -> int:
    """Run a session as often as it takes to know its nodes' seconds; return how often."""
    names = [output.name for output in session.get_outputs()]
    start = perf_counter()
    for _ in range(WARM_UP):
        session.run(names, feeds)
    each = (perf_counter() - start) / WARM_UP
    runs = min(max(ceil(SECONDS_A_JOB * jobs / max(each, 1e-6)), LEAST_RUNS), MOST_RUNS)
    for _ in range(runs):
        session.run(names, feeds)
    return runs


def seconds_beside(events: Events) -> float:
    """Return the seconds a run of kernels that carry no fragment's name, in a model of one fragment."""
    spent: dict[str, list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(SUFFIX):
            spent.setdefault(name.removesuffix(SUFFIX), []).append(event["dur"] / 1e6)
    own = (label(0), label(0) + BLOCKED)
    return sum(lower_mean(np.array(s[WARM_UP:])) for name, s in spent.items() if name not in own and len(s) > WARM_UP)


def seconds_of_nodes(events: Events, jobs: int, runs: int) -> FloatArray:
    """Return the seconds of every fragment's node, shape (jobs,), not a number where not every run has it.

    Only kernels that carry the node's name count: changes of layout around it do not.
    """
    names = {name: k for k in range(jobs) for name in (label(k), label(k) + BLOCKED)}
    spent: list[list[float]] = [[] for _ in range(jobs)]
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names:
            spent[names[name.removesuffix(SUFFIX)]].append(event["dur"] / 1e6)
    found = [lower_mean(np.array(s[WARM_UP:])) if len(s) == WARM_UP + runs else np.nan for s in spent]
    return np.array(found)


def lower_mean(seconds: FloatArray) -> float:
    """Return the mean of the fastest third: what disturbs a run makes it slower, and a profile counts in microseconds.

    At least a tenth of a microsecond, so that logarithms and ratios exist.
    """
    fast = np.sort(seconds)[: (len(seconds) + 2) // 3]
    return max(float(fast.mean()), 1e-7)
