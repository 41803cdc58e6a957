"""What times the models of a run: the original's lap, the cost model of its groups, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..budget import Budget
from ..cost import Latency, Polynomial
from ..errors import BudgetError, ModelError
from ..latency.clock import Effort, Spread, Timing, interleaved
from ..latency.machine import Lap, Machine
from ..providers import short_name
from ..report.latency import LatencyReport, NodeSeconds
from ..report.latency import Spread as ReportSpread

if TYPE_CHECKING:
    from ..groups import Groups
    from ..latency.events import Kernel
    from ..latency.profile import Profile
    from .opening import Opened
    from .settings import Settings

Progress = Callable[[str], None]
PROFILED_SECONDS = 3.0
"""Seconds that runs under onnxruntime's profiler may take, roughly, before and after."""


@dataclass(frozen=True)
class Watch:
    """How models of a run are timed.

    ``lap`` loads a model of the run's kind and times it, ``original`` is the one that is to be pruned. ``latency`` are
    seconds by the groups, ``full`` those of the original; without ``profile`` they are scaled so that it takes what was
    measured, ``before``. ``alignment`` gives multiples by group id. A ``profile`` was taken elsewhere: the budget is
    kept by what it says, and timing is for information. ``kernels`` tells where the time of a model goes. A ``loose``
    watch times nothing: plans are on the way to another.
    """

    lap: Callable[[Any], Lap]
    original: Any
    latency: Latency
    full: float
    before: Spread
    machine: Machine
    batch: int | None = None
    alignment: Mapping[str, int] | None = None
    profile: Profile | None = None
    runtime: str = "onnxruntime"
    provider: str = ""
    signature: Callable[[], Mapping[str, str]] | None = None
    kernels: Callable[[Any, int], tuple[Kernel, ...]] | None = None
    effort: Effort = field(default_factory=lambda: Effort(seconds=6.0))
    notes: tuple[str, ...] = ()
    loose: bool = False

    def timed(self, small: Any, effort: Effort | None = None) -> Timing:
        """Time the original and a pruned model in turns, both loaded anew."""
        return interleaved([self.lap(self.original), self.lap(small)], effort or self.effort)

    def limit(self, budget: Budget) -> float:
        """Return the budget's limit in seconds; a part is one of the original as measured, or as in the profile."""
        return Budget(latency=budget.latency).limits({"latency": self.full})["latency"]

    def used(self, budget: Budget, timing: Timing) -> Spread:
        """Return which part of the limit the second contender uses: of a part by the ratios, else by its seconds."""
        asked = budget.latency
        if isinstance(asked, float):
            return timing.ratio(1).times(1 / asked)
        return timing.spread(1).times(1 / Budget(latency=asked).limits({})["latency"])

    def told(self, budget: Budget | None, timing: Timing, small: Any, **more: Any) -> LatencyReport:
        """Return the report on what was measured; ``more`` are its other fields."""
        from ..latency.bench import side_by_side

        before, after, ratio = (ReportSpread.of(s.to_dict()) for s in _spreads(timing))
        limit = None if budget is None or budget.latency is None else self.limit(budget)
        asked = None if budget is None else budget.latency
        nodes: tuple[NodeSeconds, ...] = ()
        if self.kernels is not None:
            runs = int(np.clip(PROFILED_SECONDS / max(before.median + after.median, 1e-9), 3, 20))
            nodes = side_by_side(self.kernels(self.original, runs), self.kernels(small, runs))
        return LatencyReport(
            self.provider or short_name(self.machine.full_provider), self.machine.threads, self.batch, before, after,
            ratio, limit, asked if isinstance(asked, float) else None, runtime=self.runtime, nodes=nodes,
            machine=dict((self.signature or self.machine.signature)()), notes=self.notes, **more,
        )  # fmt: skip


def _spreads(timing: Timing) -> tuple[Spread, Spread, Spread]:
    return timing.spread(0), timing.spread(1), timing.ratio(1)


def watching(opened: Opened, settings: Settings, progress: Progress) -> Watch:
    """Time the original ONNX model, and profile its nodes unless a profile is given.

    Raises UsageError for a provider that is not there or a profile of another model, ModelError for a model that does
    not run.
    """
    from ..latency.bench import batch_of
    from ..latency.events import kernels
    from ..latency.inputs import random_inputs
    from ..latency.machine import DEVICES
    from ..latency.model import alignment, latency_of
    from ..latency.profile import measure_profile

    machine, graph, groups = settings.machine, opened.graph, opened.groups
    machine.check()
    feeds = random_inputs(graph, settings.seed)
    loaded = opened.source.loaded
    original: Any = opened.source.model if loaded is None else loaded.path

    def lap(model: Any) -> Lap:
        return machine.lap(model, feeds)

    def ran(model: Any, runs: int) -> tuple[Kernel, ...]:
        return kernels(opened.source.model if isinstance(model, Path) else model, feeds, machine, runs=runs)

    progress("time the original")
    before = first_timing(lap, original)
    profile = settings.profile
    if profile is None:
        progress("profile")
        profile = measure_profile(graph, groups, machine, progress=progress)
    latency = latency_of(graph, groups, profile)
    watch = Watch(
        lap, original, latency, float(latency(groups.sizes)), before, machine, batch_of(feeds),
        alignment(graph, groups, profile), settings.profile,
        kernels=None if machine.full_provider in DEVICES else ran, notes=tuple(profile.notes),
    )  # fmt: skip
    return watch if settings.profile is not None else rescaled(watch)


def first_timing(lap: Callable[[Any], Lap], original: Any) -> Spread:
    """Time a model by itself; raises ModelError where it does not run."""
    from ..runtime import RUNTIME_ERRORS, first_line

    try:
        return interleaved([lap(original)], Effort(seconds=3.0)).spread()
    except RUNTIME_ERRORS as error:
        words = f"the model cannot be run on random inputs, so that it cannot be timed: {first_line(error)}"
        hint = "check that it runs by itself, and give sizes it accepts with --input-shape"
        raise ModelError("model-does-not-run", words, hint=hint) from error


def rescaled(watch: Watch) -> Watch:
    """Scale the cost model so that the unpruned model takes what was measured; raises BudgetError for an empty one."""
    if not watch.full > 0:
        words, hint = "nothing that takes time could be told of the model", "limit macs instead, such as macs=0.5"
        raise BudgetError("latency-unknown", words, where="--budget", hint=hint)
    factor = watch.before.median / watch.full
    seconds = replace(watch.latency.seconds, coefficient=watch.latency.seconds.coefficient * factor)
    return replace(watch, latency=replace(watch.latency, seconds=seconds), full=watch.before.median)


def with_latency(opened: Opened, latency: Latency) -> Opened:
    """Let the groups' costs tell latency as well."""
    costs = replace(opened.groups.costs, latency=latency)
    return replace(opened, groups=replace(opened.groups, costs=costs))


def carried(latency: Latency, groups: Groups, now: Groups, widths: Mapping[str, int]) -> Latency:
    """Return the cost model for what steps left of a model: ``now`` are its groups, ``widths`` those of ``groups``.

    A group that is not open any more costs what its width costs.
    """
    at = {g.id: k for k, g in enumerate(now.groups) if g.size == widths.get(g.id)}
    ids = [g.id for g in groups.groups]
    old = [ids[g] for g in latency.group]
    kept = [k for k, name in enumerate(old) if name in at]
    place = np.full(len(old) + 1, len(kept), np.int64)
    place[kept] = np.arange(len(kept))
    constant = np.array([1.0 if n in at else latency.table[k][widths[n]] for k, n in enumerate(old)] + [1.0])
    seconds = latency.seconds
    coefficient = seconds.coefficient * constant[seconds.factor].prod(axis=1)
    factor = np.sort(place[seconds.factor], axis=1)
    moved = Polynomial(coefficient, factor, seconds.row, seconds.rows, len(kept))
    group = np.array([at[old[k]] for k in kept], np.int64)
    return Latency(moved, group, tuple(latency.table[k][: widths[old[k]] + 1] for k in kept))


def least_widths(groups: Groups, settings: Settings) -> Sequence[int]:
    """Return the smallest widths that the settings permit, in the order of the groups."""
    from ..solver.choices import permitted
    from ..solver.rules import Rules

    rules = Rules(settings.min_width, settings.multiple)
    return [permitted(g, settings.min_width, rules.alignment(g, 1))[0] for g in groups.groups]
