"""All steps in a row: trace, couple, score, solve, rewrite, count, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..budget import Budget
from ..errors import UsageError
from ..logs import logged, tell_report
from ..plan import Plan
from ..report.report import Report
from .calibration import Repair, measured
from .doubts import warned
from .opening import Opened, aligned, open_model, read
from .settings import Progress, Settings, check_settings, silent

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..data import Preprocess
    from ..frontends.files.load import Loaded
    from ..latency.profile import Profile
    from ..scoring import ScoringPass
    from ..verification.verify import Reference, Verification
    from .stepwise import Stepped, Train
    from .watch import Watch


@dataclass(frozen=True)
class Pruned:
    """What a run gives: the smaller model, the report on it, and the plan it follows."""

    model: ModelProto
    report: Report
    plan: Plan


def prune(
    model: Any,
    *,
    example_inputs: Any = None,
    budget: float | str | Sequence[str] | Budget | None = None,
    method: str | ScoringPass = "auto",
    seed: int = 0,
    min_width: int = 1,
    multiple: int | Literal["auto"] = "auto",
    time_limit: float | None = None,
    keep: Sequence[str] = (),
    allow_inexact: bool = False,
    prune: str | Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dynamic_shapes: Any = None,
    plan: Plan | None = None,
    steps: int = 1,
    train: Train | None = None,
    data: Any = None,
    labels: str | None = None,
    preprocess: str | Path | Preprocess | None = None,
    samples: int | None = None,
    holdout: float | None = None,
    repair: Repair = "auto",
    provider: str = "cpu",
    threads: int = 1,
    batch: int | None = None,
    profile: str | Path | Profile | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Any, Report]:
    """Prune a model until it fits the budget; return the smaller model, verified, and a report. Nothing is written.

    ``model`` is a path or a model in memory, which is not changed: ONNX in, ONNX out; a torch module in, a torch module
    out, of the user's own class wherever its forward gives the pruned function, else an fx GraphModule (the report's
    ``form``). For a torch module ``example_inputs`` is a tensor, a tuple of positional arguments or a dict of keyword
    arguments, and ``dynamic_shapes`` is passed on to ``torch.export``; an ExportedProgram needs neither.

    ``budget`` is the fraction of the MACs to keep, a text such as ``"macs=0.5,size=10MB"``, or a Budget; ``method``
    names a pass or is one ("auto": "obs" with data, "magnitude" without), and further ``options`` are those of a method
    given by name. A ``plan`` takes the place of scoring and solving. ``keep`` lists patterns of names to protect,
    ``prune`` the kinds of units that may go, such as ``("heads", "ffn")`` (none: all kinds), ``input_shapes`` gives
    sizes to count costs with for dynamic inputs of ONNX models. With ``steps`` the budget is approached in several,
    scores taken anew in between; ``train`` is then called with the model and the number of the step, and returns the
    model with trained weights. ``progress`` is called with the name of every stage. With a ``time_limit``, in seconds,
    better widths are looked for, and a better proof of how good they are, for so long.

    ``data``, with ``labels`` and ``preprocess``, is whatever ``data.open_samples`` takes. ``holdout`` of it (a
    fraction, by default a fifth, at most 512 samples) is kept to measure on what pruning cost, and nothing else sees
    it; methods that learn from data get the rest, or the first ``samples`` of it. ``repair`` says how the weights that
    are left are changed to make up for those removed: "least-squares", "bias" or "none", or "blocks", which after
    least squares trains all weights block by block towards what the original gives there (ONNX models; needs torch, and
    minutes); "auto" is least squares where there is data and the method does not itself change weights.

    A budget with ``latency``, a part of the original's or an amount such as ``"latency=4ms"``, is kept by timing both
    models on an onnxruntime ``provider`` with so many ``threads`` (0: as many as it takes) on inputs of ``batch``
    samples; torch modules are timed where they lie. With a ``profile`` from elsewhere it is kept by what that says.

    Raises ModelError for a model that cannot be read or run, UsageError for options that make no sense for it,
    BudgetError when the budget is out of reach, PlanError for a plan made for another model, and VerificationError when
    the smaller model does not compute what the masked original does.
    """
    settings = Settings.of(
        budget=budget, method=method, seed=seed, min_width=min_width, multiple=multiple, time_limit=time_limit,
        keep=keep, allow_inexact=allow_inexact, prune=prune, input_shapes=input_shapes, plan=plan, steps=steps,
        train=train, data=data, labels=labels, preprocess=preprocess, samples=samples, holdout=holdout, repair=repair,
        provider=provider, threads=threads, batch=batch, profile=profile, **options,
    )  # fmt: skip
    from ..worlds import is_torch

    if is_torch(model):
        from .run_torch import run_module

        pruned = run_module(model, example_inputs, settings, progress or silent, dynamic_shapes=dynamic_shapes)
        return pruned.module, pruned.report
    if example_inputs is not None or dynamic_shapes is not None:
        words, hint = "example_inputs and dynamic_shapes are for torch modules", "give sizes with input_shapes"
        raise UsageError("example-inputs", words, where="example_inputs", hint=hint)
    done = run(model, settings, progress or silent)
    return done.model, done.report


def run(model: str | Path | ModelProto | Loaded, settings: Settings, progress: Progress = silent) -> Pruned:
    """Do what ``prune`` does, and return the plan as well."""
    from ..report.build import agreement_of, budget_of, finite, frozen_of, groups_of, kept_of, side
    from ..report.outline import structure_of
    from ..verification.verify import prepare, verify

    check_settings(settings)
    if settings.times:
        settings.machine.check()
    progress = logged(progress)
    source = read(model, progress)
    with source.runnable():
        opened = open_model(source, settings, progress)
        settings = aligned(opened, settings)
        graph, groups, loaded = opened.graph, opened.groups, source.loaded
        # The reference needs no plan, and loading it takes as long as all that comes before.
        with ThreadPoolExecutor(1) as beside:
            reference = beside.submit(prepare, graph, groups, seed=settings.seed)
            watch = _watch(opened, settings, progress, reference)
            stepped = _fitted(opened, settings, progress, watch)
            fitted, plan, check = stepped.fitted, stepped.fitted.plan, stepped.check
            if check is None:
                progress("verify")
                check = verify(
                    fitted.opened.graph, fitted.opened.groups, fitted.applied, fitted.model, seed=settings.seed,
                    reference=reference.result(), original=graph, release=True,
                )  # fmt: skip
    cost = measured(settings.calibration, graph, fitted.small)
    report = Report(
        input=side(fitted.before, loaded),
        output=side(fitted.after),
        budget=budget_of(settings.budget, plan),
        method=plan.method,
        seed=plan.seed,
        groups=groups_of(groups, plan),
        frozen=frozen_of(groups),
        kept=kept_of(graph, groups, plan),
        verify=agreement_of(check, fitted.changed_by),
        warnings=(*warnings_of(opened, plan, check), *trained_notes(stepped), *warned(settings, cost)),
        objective=finite(plan.objective),
        bound=finite(plan.bound),
        gap=finite(plan.gap),
        version=version(),
        steps=tuple(step.to_dict() for step in stepped.steps),
        notes=fitted.notes,
        details=dict(fitted.details),
        quality=cost,
        structure=structure_of(graph, groups, plan, fitted.scores),
        latency=fitted.timed,
    )
    tell_report(report)
    return Pruned(fitted.model, report, plan)


def _watch(opened: Opened, settings: Settings, progress: Progress, busy: Future[Reference]) -> Watch | None:
    """Return what times models, where the budget limits latency; not before ``busy`` leaves the machine alone."""
    if not settings.times:
        return None
    from .watch import watching

    busy.result()
    return watching(opened, settings, progress)


def _fitted(opened: Opened, settings: Settings, progress: Progress, watch: Watch | None) -> Stepped:
    """Apply the plan, or score and solve, in one step or several."""
    from . import fitting
    from .stepwise import Stepped, fit_in_steps

    if settings.plan is not None:
        return Stepped(fitting.follow(opened, settings, progress, watch=watch), ())
    if settings.steps == 1:
        return Stepped(fitting.fit(opened, settings, progress, watch=watch), ())
    return fit_in_steps(opened, settings, settings.steps, progress, train=settings.train, watch=watch)


def trained_notes(stepped: Stepped) -> tuple[str, ...]:
    """Say what a plan and a check mean where weights were trained in between."""
    words = "weights changed between the steps: the plan does not carry them, and the check is the last step's"
    return () if stepped.check is None else (words,)


def warnings_of(opened: Opened, plan: Plan, check: Verification) -> tuple[str, ...]:
    """Return what a user should know of a run."""
    from ..verification.differences import TOLERANCE

    warnings = [*opened.source.warnings, *opened.graph.notes]
    if all(len(units) == plan.sizes[name] for name, units in plan.keep.items()):
        warnings.append("nothing was removed: the model is within the budget as it is")
    if check.widened:
        warnings.append(f"both models were compared in copies that compute in float32: {check.widened}")
    if check.unchecked:
        warnings.append(f"not checked, since nothing could be made to run it: {', '.join(check.unchecked)}")
    if not check.exact:
        warnings.append("units were removed across normalisations (--allow-inexact): their statistics are now others")
    if check.tolerance not in TOLERANCE.values():
        warnings.append("the model makes single roundings large: it was checked tensor by tensor against that noise")
    return tuple(warnings)


def version() -> str:
    """Return the version of graphprune that is running."""
    from .. import __version__

    return __version__
