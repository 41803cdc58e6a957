"""Iterative pruning: towards the budget in several steps, the scores taken anew on what each step leaves.

The limits fall geometrically: after step i of n a cost is at most its limit to the power i / n, in parts of the
original. Scores that were right for the original are not for what is left of it; with few units removed at a time they
stay right for longer (Molchanov et al., arXiv 1906.10771, remove a few hundred neurons a step).

Every step traces and couples the smaller model anew, so a pass sees a model like any other. What is kept is followed
through the parameters, index by index, and told in terms of the original's units at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..budget import Budget
from ..cost import Metric
from ..errors import UsageError
from .watch import carried, with_latency

if TYPE_CHECKING:
    from ..graph import Graph
    from ..groups import Groups
    from ..plan import Plan
    from ..verification.verify import Verification
    from .fitting import Apply, Fitted
    from .lineage import Lineage
    from .opening import Opened
    from .settings import Settings
    from .watch import Watch

Train = Callable[[Any, int], Any]
"""Takes the model after a step (counted from 1) and returns it with trained weights: same nodes, same shapes."""
MOST_STEPS = 1000


@dataclass(frozen=True)
class World:
    """What steps do to a model of a kind.

    ``apply`` makes the smaller model of a plan (None: that of ``fitting``), ``model_of`` is what of it is trained,
    ``trace`` reads that again at the sizes of the graph before, ``verify`` compares it with the masked original of its
    step.
    """

    apply: Apply | None
    model_of: Callable[[Fitted], Any]
    trace: Callable[[Graph, Any], Graph]
    verify: Callable[[Fitted, int], Verification]


@dataclass(frozen=True)
class Step:
    """One step: the limits it was given, what the model costs after it, and the widths of the original's groups."""

    limits: Mapping[Metric, float]
    costs: Mapping[Metric, float]
    widths: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a report."""
        return {"limits": dict(self.limits), "costs": dict(self.costs), "widths": dict(self.widths)}


@dataclass(frozen=True)
class Stepped:
    """What the steps lead to.

    ``fitted.plan`` is in terms of the original model's groups. Without training, ``fitted.model`` is what that plan
    makes of the original, so it can be replayed from the plan, and is to be verified against the original. Where
    weights changed, by training in between or by the pass itself, the plan does not carry them, and each step was
    verified against what it started from: ``check`` is the last step's verification, None where they did not.
    """

    fitted: Fitted
    steps: tuple[Step, ...]
    check: Verification | None = None


def schedule(budget: Budget, full: Mapping[Metric, float], steps: int) -> tuple[dict[Metric, float], ...]:
    """Return the limits of every step, in MACs, parameters and bytes; the last are the budget's.

    Raises UsageError unless ``steps`` is a whole number from 1 up.
    """
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        hint = f"give a whole number from 1 to {MOST_STEPS}, such as 5"
        raise UsageError("bad-steps", f"{steps!r} is not a number of steps", where="--steps", hint=hint)
    last = budget.limits(full)
    between = [
        {m: full[m] * min(limit / full[m], 1.0) ** (k / steps) if full[m] else limit for m, limit in last.items()}
        for k in range(1, steps)
    ]
    return (*between, last)


def fit_in_steps(
    opened: Opened, settings: Settings, steps: int, progress: Callable[[str], None], *, train: Train | None = None,
    world: World | None = None, watch: Watch | None = None,
) -> Stepped:  # fmt: skip
    """Score, solve and rewrite ``steps`` times, each time what the last left, until the budget is met.

    ``train`` is called between steps, not after the last. With a ``watch`` the last step's models are timed; on the way
    latency is what the cost model says. Raises what ``fitting.fit`` raises, and VerificationError when a step that is
    trained from does not compute what its masked original does.
    """
    from ..scoring import PreparingPass
    from . import fitting
    from .lineage import Lineage

    assert settings.budget is not None
    world = world or onnx_world()
    full = opened if watch is None else with_latency(opened, watch.latency)
    limits = schedule(settings.budget, fitting.costs_of(full), steps)
    _check_reach(full, settings)
    changing = train is not None or isinstance(fitting.scoring_pass(settings), PreparingPass)
    changing = changing or settings.calibration.repair_after(changed=False) != "none"
    lineage = Lineage(opened.graph, opened.groups)
    now, done, fitted, check = opened, [], None, None
    for k, limit in enumerate(limits, start=1):
        progress(f"step {k}/{steps}")
        if fitted is not None:
            model = world.model_of(fitted)
            if train is not None:
                progress("train")
                model = train(model, k - 1)
            now = _reopened(now, model, fitted, settings, world)
        now, fitted = _step(now, settings, limit, lineage, progress, world, watch, k == steps)
        if changing:
            progress("verify")
            check = world.verify(fitted, settings.seed)
        done.append(Step(limit, dict(fitted.after), lineage.widths()))
    assert fitted is not None
    plan = _composed(lineage, fitted.plan, settings)
    if not changing:
        notes, timed = fitted.notes, fitted.timed
        whole = fitting.follow(opened, replace(settings, plan=plan), progress, world.apply)
        fitted = replace(whole, notes=notes, timed=timed)
        done[-1] = replace(done[-1], costs=dict(fitted.after))
    # The last step's scores are those of units that the steps before it left.
    return Stepped(replace(fitted, plan=plan, before=fitting.costs_of(opened), scores={}), tuple(done), check)


def _check_reach(opened: Opened, settings: Settings) -> None:
    """Raise BudgetError, in terms of the original, where no plan is within the budget, whatever the scores."""
    from ..scores import Scores
    from ..solver.solve import solve

    assert settings.budget is not None
    scores = Scores({g.id: np.ones(g.size) for g in opened.groups.groups}, method="none")
    solve(
        opened.groups, scores, settings.budget, min_width=settings.min_width, multiple=settings.multiple, bound=False
    )  # fmt: skip


def onnx_world() -> World:
    """Return what steps do to ONNX models."""
    from ..frontends.onnx.trace import trace
    from ..verification.verify import verify

    return World(
        apply=None,
        model_of=lambda fitted: fitted.model,
        trace=lambda before, model: trace(model, input_shapes={name: before.shape(name) for name in before.inputs}),
        verify=lambda fitted, seed: verify(
            fitted.opened.graph, fitted.opened.groups, fitted.applied, fitted.model, seed=seed
        ),
    )


def _reopened(before: Opened, model: Any, fitted: Fitted, settings: Settings, world: World) -> Opened:
    """Trace and couple what a step left."""
    from .opening import Opened, Source

    graph = world.trace(before.graph, model)
    source = replace(before.source, bytes=int(fitted.after["size"]))
    if isinstance(source, Source):
        source = replace(source, model=model)
    return Opened(source, graph, _coupled(graph, before.groups, settings, ()))


def _coupled(graph: Graph, like: Groups, settings: Settings, protected: tuple[str, ...]) -> Groups:
    """Couple with the patterns of the settings that still match anything, and some tensors by name."""
    from fnmatch import fnmatchcase

    from ..coupling import couple_like

    names = [*(node.name for node in graph.nodes), *graph.tensors]
    patterns = [p for p in (*settings.keep, *protected) if any(fnmatchcase(n, p) for n in names)]
    return couple_like(like, graph, keep=patterns)


def _step(
    now: Opened, settings: Settings, limit: Mapping[Metric, float], lineage: Lineage,
    progress: Callable[[str], None], world: World, watch: Watch | None, last: bool,
) -> tuple[Opened, Fitted]:  # fmt: skip
    """Prune what there is to a limit, protecting what would not be whole units of the original.

    The ``last`` step's models are timed.
    """
    from . import fitting

    costs = fitting.costs_of(now)
    asked: dict[str, float | str] = {m: min(v / max(costs[m], 1e-12), 1.0) for m, v in limit.items() if m in costs}
    if watch is not None and settings.budget is not None and settings.budget.latency is not None:
        asked["latency"] = settings.budget.latency if last else f"{limit['latency']!r}s"
    step = replace(settings, budget=Budget(**asked), plan=None)
    protected = lineage.untraceable
    if protected:
        now = replace(now, groups=_coupled(now.graph, now.groups, settings, protected))
    while True:
        timing = watch and replace(
            watch, latency=carried(watch.latency, lineage.groups, now.groups, lineage.widths()), loose=not last
        )
        fitted = fitting.fit(now, step, progress, world.apply, timing)
        strange = lineage.follow(now.graph, now.groups, fitted.plan)
        if not strange:
            return now, fitted
        protected = (*protected, *strange)
        now = replace(now, groups=_coupled(now.graph, now.groups, settings, protected))


def _composed(lineage: Lineage, last: Plan, settings: Settings) -> Plan:
    """Return the plan that makes of the original what the steps did."""
    assert settings.budget is not None
    limits: dict[str, float | str] = {str(metric): value for metric, value in settings.budget.to_dict().items()}
    return replace(lineage.plan(), method=last.method, seed=last.seed, budget=limits)
