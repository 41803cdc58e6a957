"""The curve of what is kept against what it costs: one model, several budgets, every point pruned and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..budget import Budget
from ..errors import BudgetError, UsageError
from ..logs import logged
from ..report.curve import Curve, Point
from ..report.outline import structure_of
from . import fitting
from .calibration import comparing
from .doubts import doubts
from .opening import Opened, aligned, open_model, read
from .run import version
from .settings import Settings, check_settings, silent

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..frontends.files.load import Loaded
    from ..report.quality import Quality
    from ..scoring import Prepared
    from .watch import Watch

BUDGETS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
Progress = Callable[[str], None]


def sweep(
    model: str | Path | ModelProto | Loaded, budgets: Sequence[float | str | Budget] = BUDGETS, *,
    progress: Progress | None = None, **options: Any,
) -> Curve:  # fmt: skip
    """Prune an ONNX model to each of several budgets and measure what that costs; nothing is written.

    ``budgets`` are as ``prune`` takes them, ``options`` its further arguments, ``data`` above all: with samples every
    point is measured on those held out, without it by the cosine on random inputs alone. Scores, and the statistics
    behind them, are taken once. Every point is verified like any pruned model. A budget that is out of reach gives no
    point, but the reason. Raises what ``prune`` raises, and UsageError for options that make no sense for a curve.
    """
    goals = [b if isinstance(b, Budget) else Budget.parse(b) for b in budgets]
    if not goals:
        raise UsageError("budget-missing", "no budget is given", where="budgets", hint="give some, such as 0.9..0.3")
    return run_sweep(model, goals, Settings.of(budget=goals[0], **options), progress or silent)


def run_sweep(
    model: str | Path | ModelProto | Loaded, budgets: Sequence[Budget], settings: Settings, progress: Progress
) -> Curve:
    """Do what ``sweep`` does, with settings; their own budget plays no part."""
    for name, wrong in (("plan", settings.plan is not None), ("steps", settings.steps != 1)):
        if wrong:
            words, hint = f"a curve cannot be made with {name}", "prune to one budget instead"
            raise UsageError("sweep-option", words, where=name, hint=hint)
    settings = replace(settings, budget=budgets[0])
    check_settings(settings)
    progress = logged(progress)
    source = read(model, progress)
    with source.runnable():
        opened = open_model(source, settings, progress)
        settings = aligned(opened, settings)
        watch = None
        if any(b.latency is not None for b in budgets):
            from .watch import watching

            watch = watching(opened, settings, progress)
        progress("score")
        prepared = fitting.prepare(fitting.scoring_pass(settings), opened)
        points = tuple(_points(prepared, opened, settings, budgets, progress, watch))
    full = {str(metric): value for metric, value in fitting.costs_of(opened).items()}
    if watch is not None:
        full["latency"] = watch.full
    path = None if source.loaded is None else str(source.loaded.path)
    structure = structure_of(opened.graph, opened.groups, scores=prepared.scores.arrays)
    measured = next((p.quality for p in points if p.quality is not None), None)
    notes = (*prepared.scores.notes, *(doubts(settings, measured) if any(p.costs for p in points) else ()))
    return Curve(path, full, prepared.scores.method, settings.seed, points, notes, version(), structure)


def _points(
    prepared: Prepared, opened: Opened, settings: Settings, budgets: Sequence[Budget], progress: Progress,
    watch: Watch | None,
) -> Iterator[Point]:  # fmt: skip
    """Yield the points in the order of the budgets."""
    from ..verification import verify

    reference = verify.prepare(opened.graph, opened.groups, seed=settings.seed)
    compare = comparing(settings.calibration, opened.graph)
    for budget in budgets:
        progress(f"budget {budget}")
        asked: Mapping[str, float | str] = {str(m): v for m, v in budget.to_dict().items()}
        try:
            now = replace(settings, budget=budget)
            fitted = fitting.fit_prepared(prepared, opened, now, progress, watch=watch)
        except BudgetError as error:
            yield Point(asked, reason=error.message)
            continue
        check = verify.verify(
            fitted.opened.graph, fitted.opened.groups, fitted.applied, fitted.model, seed=settings.seed,
            reference=reference, original=opened.graph,
        )  # fmt: skip
        quality: Quality | None = compare(fitted.small)
        costs = {str(metric): value for metric, value in fitted.after.items()}
        if fitted.timed is not None:
            costs["latency"] = fitted.timed.promised
        widths = {name: len(units) for name, units in fitted.plan.keep.items()}
        yield Point(asked, costs, fitted.plan.objective, check.agreement, quality, widths)
