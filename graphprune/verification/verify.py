"""Same function: the pruned model against the masked original, in onnxruntime, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx

from ..backends.onnx.masked import Masked, masked
from ..errors import ModelError, VerificationError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..groups import Groups
from ..layout import Kept, kept_by
from ..plan import Plan
from ..runtime import RUNTIME_ERRORS, Feeds, Session, feeds, first_line, session
from .branches import in_branches, with_choices
from .differences import Difference, Outputs, agreement, says_something, worst
from .noise import Noisy, first_beyond_noise, kept_part
from .precision import has_halves, tolerances
from .unrounded import rounds, unrounded
from .watching import Watched, draws, watched, with_outputs

MANY_MASKS = 500
"""Masks above which the reference runs unoptimised: onnxruntime's optimiser takes the product of nodes and inputs."""


OTHER_SIDE = "where sums add up otherwise, some numbers are rounded to the next code"
"""Why quantised models are compared without their rounding."""


@dataclass(frozen=True)
class Verification:
    """How far the pruned model is from the masked original: over all outputs and samples, absolute and relative.

    The relative difference is the absolute one over the largest value of the output. ``agreement`` is the mean cosine
    between the outputs of the pruned model and of the *original*, on the same random inputs: what pruning itself
    changed. ``exact`` is False when the plan cuts groups that cross a normalisation. ``widened`` says why both models
    were compared in copies that compute in float32; it is empty where they were run as they are. ``unchecked`` names
    branches that the plan touches and that could not be run.
    """

    max_abs: float
    max_rel: float
    samples: int
    tolerance: float
    agreement: float | None = None
    exact: bool = True
    widened: str = ""
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """The original with masks, loaded and run: what is to be compared, the inputs, and what the original gives.

    ``allowed`` is what the element types in the model allow for each tensor that is compared.
    """

    masked: Masked
    session: Session
    watch: Watched
    inputs: Feeds
    positive: bool
    original: Outputs | None
    allowed: tuple[float, ...] = ()


def prepare(graph: Graph, groups: Groups, plan: Plan | None = None, *, seed: int = 0, widen: bool = False) -> Reference:
    """Load the reference and run the original once; a plan is needed only where it cuts groups that are not exact.

    It computes in float32 with ``widen``, and where onnxruntime cannot run its bfloat16. Raises ModelError when
    onnxruntime cannot run the model, VerificationError when it gives nothing to compare.
    """
    source: OnnxSource = graph.source
    watch, limits = watched(graph), integer_limits(graph)
    reference = masked(graph, groups, plan)
    neutral = dict(reference.neutral) if reference.neutral is not None else reference.masks(_kept(groups, plan))
    try:
        few = len(reference.neutral or reference.places) <= MANY_MASKS
        theirs = session(with_outputs(reference.model, watch.extra), optimise=few, widen=widen)
        for positive in (False, True):
            run = with_choices(graph, feeds(source.model, source.input_sizes, seed, limits, positive=positive))
            result = theirs.run(list(watch.names), run | neutral)
            if all(says_something(y) for y in result):
                original = None if reference.neutral is None else result
                allowed = () if theirs.widened else _allowed(graph, watch)
                return Reference(reference, theirs, watch, run, positive, original, allowed)
    except RUNTIME_ERRORS as error:
        raise ModelError(
            "model-does-not-run", f"onnxruntime cannot run the model on random inputs: {first_line(error)}",
            hint="check that it runs by itself, and give sizes it accepts with --input-shape",
        ) from error  # fmt: skip
    if has_halves(graph) and not theirs.widened:
        return prepare(graph, groups, plan, seed=seed, widen=True)
    raise VerificationError(
        "nothing-to-compare", "the model gives no finite number on random inputs, so the pruned one cannot be checked",
        hint="give other sizes with --input-shape",
    )  # fmt: skip


def _allowed(graph: Graph, watch: Watched) -> tuple[float, ...]:
    found = tolerances(graph)
    return tuple(found.get(name, 0.0) for name in watch.names)


def _kept(groups: Groups, plan: Plan | None) -> Kept:
    assert plan is not None, "only a plan changes attributes"
    return kept_by(groups, plan)


def is_exact(groups: Groups, plan: Plan) -> bool:
    """Tell whether the plan leaves alone every group that crosses a normalisation."""
    return all(g.exact for g in groups.groups if len(plan.keep[g.id]) < g.size)


def verify(
    graph: Graph,
    groups: Groups,
    plan: Plan,
    small: onnx.ModelProto,
    *,
    seed: int = 0,
    reference: Reference | None = None,
    original: Graph | None = None,
    release: bool = False,
) -> Verification:
    """Run the pruned model and the masked original on random inputs and compare every output.

    A model that computes shapes from its input is run at a second size of its dynamic axes too. Where a model takes
    decisions (NMS, TopK), the numbers they are taken on are compared as well. ``reference`` may have been prepared
    before the plan was known. Where a pass changed the model first, ``graph`` is what it made, and ``original`` the
    graph that it was given and the ``reference`` was prepared of: the agreement is with that. ``release`` lets go of
    the reference's session before the pruned model is loaded, so that only one is in memory at a time. Where models in
    half precision are not close enough, or give nothing finite, copies that compute in float32 are compared.

    Raises VerificationError naming the first tensor that differs, or what onnxruntime says when the pruned model does
    not run; ModelError when the model itself does not run.
    """
    exact = is_exact(groups, plan)
    given = reference if original is not None and original is not graph else None
    if reference is None or given is not None or not exact:
        if reference is not None and release:
            reference.session.close()
        reference, release = prepare(graph, groups, None if exact else plan, seed=seed), True
    kept = kept_by(groups, plan)
    masks = reference.masked.masks(kept)
    compared = _compare(graph, groups, kept, small, reference, masks, seed, release=release)
    if not compared.found.within and has_halves(graph) and not reference.session.widened:
        reference = prepare(graph, groups, None if exact else plan, seed=seed, widen=True)
        masks = reference.masked.masks(kept)
        compared = _compare(graph, groups, kept, small, reference, masks, seed, release=True)
    found, outputs, why = compared.found, compared.outputs, _why_widened(graph, reference)
    smooth = None if found.within else _without_rounding(graph, reference, small)
    if smooth is not None:
        reference, small = smooth
        compared = _compare(graph, groups, kept, small, reference, masks, seed, release=True)
        if compared.found.within:
            found, why = replace(found, tolerance=max(found.tolerance, found.relative)), OTHER_SIDE
    # Outputs of zeros (a head that was never trained) agree with anything: then every tensor before them is compared.
    if not found.within or not compared.says_something:
        noisy = Noisy(reference.masked.model, small, reference.inputs, masks, widen=reference.session.widened)
        first = first_beyond_noise(graph, groups, kept, noisy)
        if first is None and not np.isfinite(found.relative):
            first = "an output: it has another shape, other words, or no numbers elsewhere"
        if first is not None:
            raise _not_the_same(found, first)
        found = replace(found, tolerance=max(found.tolerance, found.relative))
    agreed = _agreed(outputs, given or reference, reference)
    taken = in_branches(graph, groups, kept, small, reference.masked.model, reference.inputs, masks)
    if taken.found is not None and not taken.found.within:
        raise _not_the_same(taken.found, "an output, in a branch that the inputs did not take")
    return Verification(
        found.absolute, found.relative, compared.samples + taken.runs, found.tolerance, agreed, exact,
        why, taken.unchecked,
    )  # fmt: skip


@dataclass(frozen=True)
class _Compared:
    found: Difference
    outputs: Outputs
    samples: int
    says_something: bool


def _compare(
    graph: Graph, groups: Groups, kept: Kept, small: onnx.ModelProto, reference: Reference, masks: dict[str, Array],
    seed: int, *, release: bool,
) -> _Compared:  # fmt: skip
    """Run the masked original, then the pruned model, on the same inputs; raises VerificationError.

    Of numbers inside that decisions are taken on, what the plan keeps is compared.
    """
    watch = reference.watch
    names = list(watch.names)
    if draws(reference.masked.model):  # a session that has run has drawn, and would go on from there
        reference.session.close()
        opened = session(with_outputs(reference.masked.model, watch.extra), widen=reference.session.widened)
        reference = replace(reference, session=opened)
    runs = [(reference.inputs, reference.session.run(names, reference.inputs | masks))]
    runs += _at_other_sizes(graph, reference, masks, seed)
    inner = set(watch.extra)
    for _, wanted in runs:
        wanted[:] = [kept_part(groups, kept, n, y) if n in inner else y for n, y in zip(names, wanted, strict=True)]
    if release:
        reference.session.close()
    try:
        ours = session(with_outputs(small, watch.extra), widen=reference.session.widened)
        results = [ours.run(names, run) for run, _ in runs]
    except RUNTIME_ERRORS as error:
        raise VerificationError(
            "pruned-does-not-run", f"onnxruntime cannot run the pruned model: {first_line(error)}",
            hint="nothing was written; this is a fault of graphprune: please report it with the model",
        ) from error  # fmt: skip
    pairs = zip(results, runs, strict=True)
    found = max(
        (worst(mine, wanted, watch.binding, reference.allowed) for mine, (_, wanted) in pairs),
        key=lambda d: d.relative / d.tolerance,
    )
    something = any(np.any(y) for y in runs[0][1] if isinstance(y, np.ndarray) and y.size)
    return _Compared(found, results[0], len(results), something)


def _without_rounding(
    graph: Graph, reference: Reference, small: onnx.ModelProto
) -> tuple[Reference, onnx.ModelProto] | None:
    """Return both models in floating numbers in place of codes; None where there are none, or it cannot be done."""
    if not rounds(small):
        return None
    shapes = {t.name: t.shape for t in graph.tensors.values() if t.shape is not None}
    theirs, ours = (unrounded(m, graph.source.dtypes, shapes) for m in (reference.masked.model, small))
    if theirs is None or ours is None:
        return None
    try:
        held = session(with_outputs(theirs, reference.watch.extra), widen=reference.session.widened)
    except RUNTIME_ERRORS:
        return None
    return replace(reference, masked=replace(reference.masked, model=theirs), session=held), ours


def _why_widened(graph: Graph, reference: Reference) -> str:
    """Say why both models were compared in float32; nothing where they were not."""
    if not reference.session.widened:
        return ""
    if reference.session.weights:
        return "weights of 2 GiB and more are widened one at a time"
    if any(t.dtype == "bfloat16" for t in graph.tensors.values()):
        return "onnxruntime hardly computes in bfloat16 on a CPU"
    return "in half precision their outputs are not finite or too far apart to tell"


def _agreed(outputs: Outputs, original: Reference, reference: Reference) -> float | None:
    """Compare with what the original gives for the same inputs; None where that is not known."""
    if original.original is None or original.positive != reference.positive:
        return None
    return agreement(outputs, original.original)


def integer_limits(graph: Graph) -> dict[str, int]:
    """Return for each integer input how many values it may take, where a lookup table tells."""
    limits: dict[str, int] = {}
    origin = {name: name for name in graph.inputs}
    for node in graph.nodes:
        first = node.inputs[0] if node.inputs else None
        if node.op in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten") and first in origin:
            origin[node.outputs[0]] = origin[first]
        if node.family == "lookup" and node.inputs[1] in origin and first is not None:
            name, size = origin[node.inputs[1]], graph.shape(first)[node.attrs["axis"]]
            limits[name] = min(limits.get(name, size), size)
    return limits


def _at_other_sizes(
    graph: Graph, reference: Reference, masks: dict[str, Array], seed: int
) -> list[tuple[Feeds, Outputs]]:
    """Run the masked original at other sizes of its dynamic axes, if it accepts the ones made up here.

    Where the model computes no shape from its input there is nothing that only another size would show.
    """
    source: OnnxSource = graph.source
    if source.other_sizes is None or all(known.static.all() for known in graph.known.values()):
        return []
    run = feeds(source.model, source.other_sizes, seed, integer_limits(graph), positive=reference.positive)
    run = with_choices(graph, run)
    try:
        return [(run, reference.session.run(list(reference.watch.names), run | masks))]
    except RUNTIME_ERRORS:
        return []


def _not_the_same(found: Difference, first: str) -> VerificationError:
    return VerificationError(
        "not-the-same-function",
        f"the pruned model differs from the masked original by {found.relative:.3g} of the output's range "
        f"(allowed: {found.tolerance:g}); the first tensor that differs is tensor {first!r}",
        hint="nothing was written; protect what makes it with --keep, and please report this with the model",
    )
