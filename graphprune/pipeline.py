"""All steps in a row: trace, couple, score, solve, rewrite, count, verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .budget import Budget
from .errors import PlanError, UsageError
from .plan import Plan
from .report.report import Report

if TYPE_CHECKING:
    from onnx import ModelProto

    from .frontends.load import Loaded
    from .frontends.runnable import Runnable
    from .graph import Graph
    from .groups import Groups
    from .scoring import ScoringPass
    from .verify import Verification

Progress = Callable[[str], None]


def silent(_stage: str) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do; see ``prune``."""

    budget: Budget | None = None
    method: str | ScoringPass = "magnitude"
    seed: int = 0
    min_width: int = 1
    multiple: int | Literal["auto"] = "auto"
    keep: tuple[str, ...] = ()
    allow_inexact: bool = False
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    plan: Plan | None = None


@dataclass(frozen=True)
class Source:
    """A model read and checked; ``bytes`` is the size of its file, ``loaded`` is None for one from memory."""

    model: ModelProto
    loaded: Loaded | None
    bytes: int
    warnings: tuple[str, ...]

    def runnable(self, *, always: bool = False) -> Runnable:
        """Return a context in which failing work ends with ModelError where onnxruntime cannot run the model."""
        from .frontends.runnable import Runnable

        return Runnable(self.model, str(self.loaded.path) if self.loaded else "model", always=always)


@dataclass(frozen=True)
class Opened:
    """A model traced and coupled."""

    source: Source
    graph: Graph
    groups: Groups


@dataclass(frozen=True)
class Pruned:
    """What a run gives: the smaller model, the report on it, and the plan it follows."""

    model: ModelProto
    report: Report
    plan: Plan


def prune(
    model: str | Path | ModelProto | Loaded,
    *,
    budget: float | str | Sequence[str] | Budget | None = None,
    method: str | ScoringPass = "magnitude",
    seed: int = 0,
    min_width: int = 1,
    multiple: int | Literal["auto"] = "auto",
    keep: Sequence[str] = (),
    allow_inexact: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> tuple[ModelProto, Report]:
    """Prune a model until it fits the budget; return the smaller model, verified, and a report. Nothing is written.

    ``model`` is a path or a model in memory, which is not changed. ``budget`` is the fraction of the MACs to keep, a
    text such as ``"macs=0.5,size=10MB"``, or a Budget; ``method`` names a pass or is one. A ``plan`` takes the place of
    scoring and solving. ``keep`` lists patterns of names to protect, ``input_shapes`` gives sizes to count costs with
    for dynamic inputs. ``progress`` is called with the name of every stage.

    Raises ModelError for a model that cannot be read or run, UsageError for options that make no sense for it,
    BudgetError when the budget is out of reach, PlanError for a plan made for another model, and VerificationError when
    the smaller model does not compute what the masked original does.
    """
    goal = budget if budget is None or isinstance(budget, Budget) else Budget.parse(budget)
    settings = Settings(
        goal, method, seed, min_width, multiple, tuple(keep), allow_inexact, dict(input_shapes or {}), plan
    )
    done = run(model, settings, progress or silent)
    return done.model, done.report


def run(model: str | Path | ModelProto | Loaded, settings: Settings, progress: Progress = silent) -> Pruned:
    """Do what ``prune`` does, and return the plan as well."""
    from . import fitting
    from .report.build import agreement_of, budget_of, finite, frozen_of, groups_of, kept_of, side
    from .verify import prepare, verify

    if settings.budget is None and settings.plan is None:
        raise UsageError("budget-missing", "no budget is given", where="budget", hint="0.5 keeps half of the MACs")
    source = read(model, progress)
    with source.runnable():
        opened = open_model(source, settings, progress)
        graph, groups, loaded = opened.graph, opened.groups, source.loaded
        # The reference needs no plan, and loading it takes as long as all that comes before.
        with ThreadPoolExecutor(1) as beside:
            reference = beside.submit(prepare, graph, groups, seed=settings.seed)
            fitted = (fitting.follow if settings.plan else fitting.fit)(opened, settings, progress)
            plan = fitted.plan
            progress("verify")
            check = verify(graph, groups, plan, fitted.model, seed=settings.seed, reference=reference.result())
    report = Report(
        input=side(fitted.before, loaded),
        output=side(fitted.after),
        budget=budget_of(settings.budget, plan),
        method=plan.method,
        seed=plan.seed,
        groups=groups_of(groups, plan),
        frozen=frozen_of(groups),
        kept=kept_of(graph, groups, plan),
        verify=agreement_of(check),
        warnings=_warnings(opened, plan, check),
        objective=finite(plan.objective),
        bound=finite(plan.bound),
        gap=finite(plan.gap),
        version=_version(),
    )
    return Pruned(fitted.model, report, plan)


def read(model: str | Path | ModelProto | Loaded, progress: Progress = silent) -> Source:
    """Read and check a model, unless that is done; raises ModelError."""
    from onnx import ModelProto

    from .frontends.check import checked
    from .frontends.load import load
    from .frontends.tensors import encoded_size

    if isinstance(model, ModelProto):
        proto, warnings = checked(model, "model")
        return Source(proto, None, encoded_size(proto), warnings)
    if isinstance(model, (str, Path)):
        progress("load")
        model = load(model)
    return Source(model.model, model, model.bytes, model.warnings)


def open_model(source: Source, settings: Settings, progress: Progress = silent) -> Opened:
    """Trace and couple a model; a plan brings the options that it was coupled with.

    Raises ModelError, UsageError, and PlanError for a plan that was made for another model.
    """
    from .coupling import couple
    from .frontends.onnx import trace

    progress("trace")
    graph = trace(source.loaded or source.model, input_shapes=settings.input_shapes)
    progress("couple")
    if settings.plan is not None:
        return Opened(source, graph, _groups_of_plan(graph, settings.plan, settings))
    _check_patterns(graph, settings.keep)
    return Opened(source, graph, couple(graph, keep=settings.keep, allow_inexact=settings.allow_inexact))


def _groups_of_plan(graph: Graph, plan: Plan, settings: Settings) -> Groups:
    """Couple with the options that the plan notes; raises PlanError when it was made for another model."""
    from .coupling import couple

    keep, inexact = plan.coupling.get("keep", settings.keep), plan.coupling.get("allow_inexact", settings.allow_inexact)
    cause: UsageError | None = None
    try:
        groups = couple(graph, keep=keep, allow_inexact=bool(inexact))
        if plan.fingerprint == groups.fingerprint:
            return groups
    except UsageError as error:  # a pattern of the plan's that matches nothing here
        cause = error
    words = "the plan was made for another model: its groups are not this model's"
    raise PlanError(
        "plan-mismatch", words, where="--plan", hint="make a plan for this model with --save-plan"
    ) from cause


def _check_patterns(graph: Graph, patterns: Sequence[str]) -> None:
    """Raise UsageError, with the nearest names, for a pattern that matches no node and no tensor."""
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    names = [*(node.name for node in graph.nodes), *graph.tensors]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            close = get_close_matches(pattern.strip("*?"), list(dict.fromkeys(names)), n=3, cutoff=0.5)
            near = f"did you mean {', '.join(map(repr, close))}? " if close else ""
            words = f"no node or tensor has a name like {pattern!r}"
            hint = f"{near}graphprune inspect -v lists the names; * and ? are wildcards"
            raise UsageError("keep-matches-nothing", words, where="--keep", hint=hint)


def _warnings(opened: Opened, plan: Plan, check: Verification) -> tuple[str, ...]:
    from .differences import TOLERANCE

    warnings = [*opened.source.warnings, *opened.graph.notes]
    if all(len(units) == plan.sizes[name] for name, units in plan.keep.items()):
        warnings.append("nothing was removed: the model is within the budget as it is")
    if not check.exact:
        warnings.append("units were removed across normalisations (--allow-inexact): their statistics are now others")
    if check.tolerance not in TOLERANCE.values():
        warnings.append("the model makes single roundings large: it was checked tensor by tensor against that noise")
    return tuple(warnings)


def _version() -> str:
    from . import __version__

    return __version__
