"""Scoring, and solving until the *counted* costs fit: what the solver predicts is checked on the rewritten model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..budget import Budget
from ..cost import FloatArray, Metric
from ..errors import BudgetError, UsageError
from .calibration import repaired

if TYPE_CHECKING:
    from ..graph import Graph
    from ..plan import Plan
    from ..report.latency import LatencyReport
    from ..scores import Scores
    from ..scoring import Prepared, ScoringPass
    from .opening import Opened
    from .settings import Settings
    from .watch import Watch

TRIES = 5
Costs = Mapping[Metric, float]


@dataclass(frozen=True)
class Fitted:
    """A plan and the model it gives (of ONNX, or a rewritten torch module), with costs counted before and after.

    ``small`` is the graph of that model.

    ``scores`` are those that the plan was chosen by, by group; none where it was given, or made in steps.
    ``plan`` is made for the model that was to be pruned. ``opened`` is what was rewritten: that model, or what its pass
    made of it (``changed_by`` names the pass). ``notes`` and ``details`` are those of the scores. ``timed`` is what was
    measured, where the budget limits latency.
    """

    opened: Opened
    plan: Plan
    model: Any
    small: Graph
    before: Costs
    after: Costs
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    changed_by: str = ""
    scores: Mapping[str, FloatArray] = field(default_factory=dict, repr=False)
    timed: LatencyReport | None = None

    @property
    def applied(self) -> Plan:
        """The plan for the groups of what was rewritten: the same units."""
        return replace(self.plan, fingerprint=self.opened.groups.fingerprint)


Apply = Callable[["Opened", "Plan", Callable[[str], None]], Fitted]
"""Makes the smaller model of a plan and counts its costs."""


def follow(
    opened: Opened, settings: Settings, progress: Callable[[str], None], apply: Apply | None = None,
    watch: Watch | None = None,
) -> Fitted:  # fmt: skip
    """Apply the settings' plan, by ``apply`` where the model is not ONNX; ``watch`` times what comes out.

    Raises BudgetError when a budget is given and the plan exceeds it.
    """
    from ..scores import Scores
    from ..scoring import Prepared

    assert settings.plan is not None
    as_it_is = Prepared(opened.graph, opened.groups, Scores({}, method=settings.plan.method))
    fitted = applied(as_it_is, opened, settings.plan, settings, progress, apply or _apply)
    if settings.budget is not None:
        over = _excess(fitted, settings.budget)
        if over:
            hint = "raise the budget, or let it be solved again without --plan"
            raise BudgetError("plan-over-budget", _words(fitted, over), where="--plan", hint=hint)
    if watch is None:
        return fitted
    from .timed import check_followed

    return check_followed(fitted, opened, settings, watch, progress)


def fit(
    opened: Opened, settings: Settings, progress: Callable[[str], None], apply: Apply | None = None,
    watch: Watch | None = None,
) -> Fitted:  # fmt: skip
    """Score, solve and rewrite; solve again, tighter by what was exceeded, while the counted costs are over the budget.

    Without a budget the method's own choice is kept. ``apply`` rewrites and counts where the model is not ONNX,
    ``watch`` times what comes out, where the budget limits latency. Raises BudgetError when the budget is out of reach,
    UsageError when there is none and the method has no choice of its own.
    """
    progress("score")
    prepared = prepare(_telling(scoring_pass(settings), progress), opened)
    return fit_prepared(prepared, opened, settings, progress, apply, watch)


def fit_prepared(
    prepared: Prepared, opened: Opened, settings: Settings, progress: Callable[[str], None],
    apply: Apply | None = None, watch: Watch | None = None,
) -> Fitted:  # fmt: skip
    """Do what ``fit`` does once a model is scored."""
    if settings.budget is None:
        plan = _chosen(opened, prepared.scores, settings, progress)
        return applied(prepared, opened, plan, settings, progress, apply or _apply)
    if watch is not None and settings.budget.latency is not None:
        from .timed import fit_timed

        return fit_timed(prepared, opened, settings, watch, progress, apply or _apply)
    return fit_counted(prepared, opened, settings, settings.budget, progress, apply or _apply)


def fit_counted(
    prepared: Prepared, opened: Opened, settings: Settings, asked: Budget, progress: Callable[[str], None],
    apply: Apply,
) -> Fitted:  # fmt: skip
    """Solve and rewrite until what is counted is within the settings' budget, starting from ``asked``.

    A limit on latency in ``asked`` is kept by the groups' cost model alone. Raises BudgetError.
    """
    assert settings.budget is not None
    scores = prepared.scores
    plan = _solved(opened, scores, asked, settings, progress)
    for _ in range(TRIES):
        fitted = applied(prepared, opened, plan, settings, progress, apply)
        over = _excess(fitted, settings.budget)
        if not over:
            return fitted
        tighter = _tightened(asked, over, opened)
        if tighter is None:
            break
        try:
            asked, plan = tighter, _solved(opened, scores, tighter, settings, progress)
        except BudgetError:
            break
    hint = "raise the budget, and please report this with the model: counting does not confirm the prediction"
    raise BudgetError("budget-missed", _words(fitted, over), where="--budget", hint=hint)


def chooses(settings: Settings) -> bool:
    """Tell whether the method decides by itself how much to keep, so that it needs no budget; raises UsageError."""
    return bool(getattr(type(scoring_pass(settings)), "chooses", False))


def _telling(method: ScoringPass, progress: Callable[[str], None]) -> ScoringPass:
    """Let a pass that trains (one with an option ``tell``, unset) say which epoch it is in."""
    if not is_dataclass(method) or not any(
        f.name == "tell" and getattr(method, f.name) is None for f in fields(method)
    ):
        return method
    begun: set[int] = set()

    def tell(at: Any) -> None:
        if at.epoch not in begun:
            begun.add(at.epoch)
            progress(f"train, epoch {at.epoch} of {at.epochs}")

    told: ScoringPass = replace(method, tell=tell)
    return told


def prepare(method: ScoringPass, opened: Opened) -> Prepared:
    """Score a model, letting the pass change it first if that is its way."""
    from ..coupling import couple_like
    from ..scoring import Prepared, PreparingPass

    if not isinstance(method, PreparingPass):
        return Prepared(opened.graph, opened.groups, method(opened.graph, opened.groups))
    return method.prepare(opened.graph, opened.groups, partial(couple_like, opened.groups))


def applied(
    prepared: Prepared, opened: Opened, plan: Plan, settings: Settings, progress: Callable[[str], None], apply: Apply
) -> Fitted:
    """Make the smaller model of a plan, of what the pass made of the model that was opened, and repair it."""
    from ..coupling import couple_like

    graph, groups = prepared.graph, prepared.groups
    if prepared.finish is not None:
        graph = prepared.finish(plan)
        groups = couple_like(prepared.groups, graph)
    by = [prepared.scores.method] if graph is not opened.graph else []
    notes = prepared.scores.notes
    how = settings.calibration.repair_after(changed=bool(by))
    if how != "none":
        progress("repair")
        own = replace(plan, fingerprint=groups.fingerprint)
        # What a pass reweighed for the removed units must not be aimed at together with them: see Prepared.finish.
        aim = prepared.graph if graph is not prepared.graph and _same_nodes(graph, prepared.graph) else None
        mended = repaired(settings.calibration, graph, groups, own, how, prepared.before, aim, progress)
        notes = tuple(dict.fromkeys((*notes, *mended.notes)))
        if mended.graph is not graph:
            by.append("repair")
            graph, groups = mended.graph, couple_like(groups, mended.graph)
    units = {g.id: g.size for g in opened.groups.groups}
    assert units == {g.id: g.size for g in groups.groups}, f"{prepared.scores.method} changed the units"
    changed = replace(opened, graph=graph, groups=groups)
    fitted = apply(changed, replace(plan, fingerprint=groups.fingerprint), progress)
    changed_by = " and ".join(by)
    if by:
        notes = (*notes, f"{changed_by} changed weights: a saved plan carries the units alone")
    return replace(
        fitted, plan=plan, before=costs_of(opened), notes=notes, details=prepared.scores.details,
        changed_by=changed_by, scores=prepared.scores.arrays,
    )  # fmt: skip


def _same_nodes(first: Graph, second: Graph) -> bool:
    """Tell whether two graphs of a model have the same nodes, whatever they store."""
    one, other = ([(node.op, node.outputs) for node in graph.nodes] for graph in (first, second))
    return one == other


def _chosen(opened: Opened, scores: Scores, settings: Settings, progress: Callable[[str], None]) -> Plan:
    """Keep what the method itself would keep."""
    from ..solver.chosen import keep_chosen

    progress("solve")
    return keep_chosen(
        opened.groups, scores, min_width=settings.min_width, multiple=settings.multiple, seed=settings.seed
    )  # fmt: skip


def _solved(opened: Opened, scores: Scores, asked: Budget, settings: Settings, progress: Callable[[str], None]) -> Plan:
    """Solve for a budget that may be tighter than the settings'; the plan notes the one that was asked for."""
    from ..solver.solve import solve

    assert settings.budget is not None
    progress("solve")
    groups = opened.groups
    plan = solve(
        groups, scores, asked, min_width=settings.min_width, multiple=settings.multiple, seed=settings.seed,
        time_limit=settings.time_limit,
    )  # fmt: skip
    limits: dict[str, float | str] = {str(metric): limit for metric, limit in settings.budget.to_dict().items()}
    return replace(plan, budget=limits)


def scoring_pass(settings: Settings) -> ScoringPass:
    """Return the pass that the settings name or hold; one with a seed gets the run's, if it is named.

    Raises UsageError for a method or options that do not exist, and where a method needs data and there is none.
    """
    from ..registry import get

    if not isinstance(settings.method, str):
        if settings.options:
            words = f"{next(iter(settings.options))!r} is no option of a run whose method is given as a pass"
            raise UsageError("unknown-option", words, where="method", hint="give the option to the pass itself")
        return settings.method
    name = settings.calibration.method(settings.method)
    method = get(name, **{**settings.calibration.options(name), **settings.options})
    if "seed" not in settings.options and is_dataclass(method) and any(f.name == "seed" for f in fields(method)):
        method = replace(method, seed=settings.seed)
    alone = getattr(type(method), "without_data", False)
    if method.needs in ("data", "labels") and not alone and getattr(method, "data", None) is None:
        words, hint = f"{method.name} needs data", "give samples by --data (or data=...), labelled if you can"
        raise UsageError("data-missing", words, where="--data", hint=hint)
    return method


def _apply(opened: Opened, plan: Plan, progress: Callable[[str], None]) -> Fitted:
    """Rewrite, and count on the result."""
    from ..backends.onnx.rewrite import rewrite
    from ..backends.save import written_size
    from ..count import count
    from ..frontends.onnx.trace import trace

    loaded = opened.source.loaded
    progress("rewrite")
    small = rewrite(opened.graph, plan, opened.groups)
    progress("count")
    traced = trace(small, input_shapes={name: opened.graph.shape(name) for name in opened.graph.inputs})
    after: dict[Metric, float] = dict(count(traced))
    after["size"] = written_size(small, loaded.external if loaded else {})
    return Fitted(opened, plan, small, traced, costs_of(opened), after)


def costs_of(opened: Opened) -> dict[Metric, float]:
    """Return what the whole model costs; "size" is the bytes of its file, or of a module's tensors."""
    return {**opened.groups.costs.full, "size": float(opened.source.bytes)}


def _excess(fitted: Fitted, budget: Budget) -> dict[Metric, float]:
    """Return by how much each limit on what is counted is exceeded, for those that are."""
    limits = {} if budget.counted is None else budget.counted.limits(fitted.before)
    return {m: fitted.after[m] - limit for m, limit in limits.items() if fitted.after[m] > limit}


def _tightened(budget: Budget, over: Costs, opened: Opened) -> Budget | None:
    """Lower the exceeded limits, as fractions of the predicted costs, by what they are exceeded by; None below zero."""
    full = opened.groups.costs.full
    limits, lower = budget.limits(full), budget.to_dict()
    for metric, excess in over.items():
        fraction = (limits[metric] - excess) / full[metric]
        if fraction <= 0:
            return None
        lower[metric] = min(fraction, 1.0)
    return Budget(**lower)


def _words(fitted: Fitted, over: Costs) -> str:
    parts = (f"{m} is {fitted.after[m]:,.0f}, {excess:,.0f} over its limit" for m, excess in over.items())
    return f"the pruned model is not within the budget: {'; '.join(parts)}"
