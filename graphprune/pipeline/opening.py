"""A model read and checked, traced and coupled, as a run's settings ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PlanError, UsageError
from ..logs import tell_opened
from .settings import Progress, Settings, silent

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..frontends.files.load import Loaded
    from ..frontends.files.runnable import Runnable
    from ..graph import Graph
    from ..groups import Groups
    from ..plan import Plan


@dataclass(frozen=True)
class Source:
    """A model read and checked; ``bytes`` is the size of its file, ``loaded`` is None for one from memory."""

    model: ModelProto
    loaded: Loaded | None
    bytes: int
    warnings: tuple[str, ...]

    def runnable(self, *, always: bool = False) -> Runnable:
        """Return a context in which failing work ends with ModelError where onnxruntime cannot run the model."""
        from ..frontends.files.runnable import Runnable

        return Runnable(self.model, str(self.loaded.path) if self.loaded else "model", always=always)


@dataclass(frozen=True)
class Opened:
    """A model traced and coupled."""

    source: Source
    graph: Graph
    groups: Groups


def read(model: str | Path | ModelProto | Loaded, progress: Progress = silent) -> Source:
    """Read and check a model, unless that is done; raises ModelError."""
    from onnx import ModelProto

    from ..frontends.files.check import checked
    from ..frontends.files.load import load
    from ..frontends.files.tensors import encoded_size

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
    from ..coupling import couple
    from ..frontends.onnx.trace import trace
    from ..latency.inputs import with_batch

    progress("trace")
    batch = settings.machine.batch
    shapes = with_batch(source.model, settings.calibration.sizes(source.model, settings.input_shapes, batch), batch)
    graph = trace(source.loaded or source.model, input_shapes=shapes)
    progress("couple")
    if settings.plan is not None:
        return Opened(source, graph, groups_of_plan(graph, settings.plan, settings))
    check_patterns(graph, settings.keep)
    groups = couple(graph, keep=settings.keep, allow_inexact=settings.allow_inexact, prune=settings.prune)
    tell_opened(graph, groups)
    return Opened(source, graph, groups)


def groups_of_plan(graph: Graph, plan: Plan, settings: Settings) -> Groups:
    """Couple with the options that the plan notes; raises PlanError when it was made for another model."""
    from ..coupling import couple

    keep, inexact = plan.coupling.get("keep", settings.keep), plan.coupling.get("allow_inexact", settings.allow_inexact)
    kinds = plan.coupling.get("prune", settings.prune)
    cause: UsageError | None = None
    try:
        groups = couple(graph, keep=keep, allow_inexact=bool(inexact), prune=kinds)
        if plan.fingerprint == groups.fingerprint:
            return groups
    except UsageError as error:  # a pattern of the plan's that matches nothing here
        cause = error
    words = "the plan was made for another model: its groups are not this model's"
    raise PlanError(
        "plan-mismatch", words, where="--plan", hint="make a plan for this model with --save-plan"
    ) from cause


def check_patterns(graph: Graph, patterns: Sequence[str]) -> None:
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


def aligned(opened: Opened, settings: Settings) -> Settings:
    """Let "auto" take the alignment of a profile that is given; raises UsageError for one of another model."""
    if settings.profile is None or settings.multiple != "auto" or settings.plan is not None:
        return settings
    from ..latency.model import alignment

    return replace(settings, multiple=alignment(opened.graph, opened.groups, settings.profile))
