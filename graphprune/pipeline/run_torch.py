"""All steps in a row for a torch module: trace, couple, score, solve, rewrite, count, verify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..backends.module.rewrite import Rewritten, rewritten
from ..checkpoint import Recipe, note
from ..cost import Metric
from ..count import count
from ..coupling import couple
from ..errors import UsageError
from ..frontends.fx.trace import TorchSource, trace, trace_call
from ..graph import Graph
from ..logs import logged, tell_opened, tell_report
from ..plan import Plan
from ..report.build import agreement_of, budget_of, finite, frozen_of, groups_of, kept_of, side
from ..report.outline import structure_of
from ..report.report import Report
from ..verification.verify import Verification
from ..verification.verify_torch import Reference, agreeing_with, reference_of, verify_module
from . import fitting
from .calibration import measured
from .doubts import warned
from .opening import Opened, check_patterns, groups_of_plan
from .run import trained_notes, version, warnings_of
from .settings import Settings, check_settings
from .stepwise import Stepped, fit_in_steps
from .stepwise_torch import torch_world
from .watch import Watch
from .watch_torch import watching_module

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PrunedModule:
    """What a run gives: the smaller module, the report on it, the plan it follows, and how it was made."""

    module: nn.Module
    report: Report
    plan: Plan
    rewritten: Rewritten


@dataclass(frozen=True)
class _InMemory:
    """A module has no file: its bytes are those of its tensors."""

    bytes: int
    warnings: tuple[str, ...] = ()


class _Applying:
    """Rewrites and counts for the solver; remembers the reference of the last plan for verification."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.reference: Reference | None = None

    def __call__(self, opened: Opened, plan: Plan, progress: Progress) -> fitting.Fitted:
        """Rewrite by a plan, trace the result and count on it."""
        graph, groups = opened.graph, opened.groups
        source: TorchSource = graph.source
        progress("rewrite")
        self.reference = reference_of(graph, groups, plan, seed=self.seed)
        done = rewritten(graph, plan, groups, reference=self.reference)
        progress("count")
        small = trace_call(done.module, source.args, source.kwargs, source.dynamic_shapes)
        after: dict[Metric, float] = dict(count(small))
        return fitting.Fitted(opened, plan, done, small, fitting.costs_of(opened), after)


def run_module(
    model: Any, example_inputs: Any, settings: Settings, progress: Progress, *, dynamic_shapes: Any = None
) -> PrunedModule:
    """Prune a torch module, or an exported program, until it fits the budget; the original is not changed.

    Raises what ``pipeline.prune`` raises.
    """
    _check(settings)
    progress = logged(progress)
    progress("trace")
    graph = trace(model, example_inputs, dynamic_shapes=dynamic_shapes)
    opened = _opened(graph, settings, progress)
    tell_opened(graph, opened.groups)
    apply = _Applying(settings.seed)
    watch = watching_module(opened, settings, apply, progress) if settings.times else None
    stepped = _fitted(opened, settings, progress, apply, watch)
    fitted, plan, done, found = stepped.fitted, stepped.fitted.plan, stepped.fitted.model, stepped.check
    if found is None:
        progress("verify")
        found = _verified(graph, fitted, apply.reference, settings.seed)
    cost = measured(settings.calibration, graph, fitted.small)
    report = Report(
        input=side(fitted.before),
        output=side(fitted.after),
        budget=budget_of(settings.budget, plan),
        method=plan.method,
        seed=plan.seed,
        groups=groups_of(opened.groups, plan),
        frozen=frozen_of(opened.groups),
        kept=kept_of(graph, opened.groups, plan),
        verify=agreement_of(found, fitted.changed_by),
        warnings=(*warnings_of(opened, plan, found), *trained_notes(stepped), *_on_form(done), *warned(settings, cost)),
        objective=finite(plan.objective),
        bound=finite(plan.bound),
        gap=finite(plan.gap),
        version=version(),
        steps=tuple(step.to_dict() for step in stepped.steps),
        form=done.form,
        notes=fitted.notes,
        details=dict(fitted.details),
        quality=cost,
        structure=structure_of(graph, opened.groups, plan, fitted.scores),
        latency=fitted.timed,
    )
    tell_report(report)
    # Where weights were changed first, the module was made of another, and the recipe is to start at the original.
    made = done if fitted.opened.graph is graph else rewritten(graph, plan, opened.groups)
    note(done.module, Recipe.of(graph, plan, made))
    return PrunedModule(done.module, report, plan, done)


def _verified(graph: Graph, fitted: fitting.Fitted, reference: Reference | None, seed: int) -> Verification:
    """Compare the module with the masked model that it was made of, and see how far it is from the original."""
    opened = fitted.opened
    assert reference is not None
    if opened.graph is not graph:
        reference = agreeing_with(graph, reference)
    return verify_module(
        opened.graph, opened.groups, fitted.applied, fitted.model.module, seed=seed, reference=reference
    )  # fmt: skip


def _fitted(
    opened: Opened, settings: Settings, progress: Progress, apply: _Applying, watch: Watch | None
) -> Stepped:  # fmt: skip
    if settings.plan is not None:
        return Stepped(fitting.follow(opened, settings, progress, apply, watch), ())
    if settings.steps == 1:
        return Stepped(fitting.fit(opened, settings, progress, apply, watch), ())
    world = torch_world(apply, lambda: apply.reference)
    return fit_in_steps(opened, settings, settings.steps, progress, train=settings.train, world=world, watch=watch)


def _check(settings: Settings) -> None:
    """Raise UsageError for settings that make no sense for a torch module, before any work."""
    check_settings(settings)
    if settings.min_width < 1:
        words, hint = "modules of torch keep at least one unit of every group", "give min_width=1 or more"
        raise UsageError("min-width", words, where="min_width", hint=hint)
    if settings.calibration.repair == "blocks":
        words, hint = "blocks are trained in ONNX models", "give repair='least-squares', then graphprune.finetune"
        raise UsageError("bad-repair", words, where="repair", hint=hint)
    if settings.input_shapes:
        words, hint = "input_shapes are for ONNX models", "a torch module is traced at the sizes of example_inputs"
        raise UsageError("input-shapes", words, where="input_shapes", hint=hint)


def _opened(graph: Graph, settings: Settings, progress: Progress) -> Opened:
    """Couple with the settings' options, or those of their plan."""
    progress("couple")
    if settings.plan is not None:
        groups = groups_of_plan(graph, settings.plan, settings)
    else:
        check_patterns(graph, settings.keep)
        groups = couple(graph, keep=settings.keep, allow_inexact=settings.allow_inexact, prune=settings.prune)
    return Opened(_InMemory(int(groups.costs.full["size"])), graph, groups)  # type: ignore[arg-type]


def _on_form(done: Rewritten) -> tuple[str, ...]:
    """Say where the module is not, or not wholly, the user's class."""
    if done.form == "graph module" and done.reason:
        return (f"the result is a torch.fx.GraphModule: {done.reason}",)
    return (done.reason,) if done.reason else ()
