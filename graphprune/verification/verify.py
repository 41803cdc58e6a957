"""Same function: the pruned model against the masked original, in onnxruntime, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from ..backends.onnx_masked import Masked, masked
from ..errors import ModelError, VerificationError
from ..frontends.onnx import OnnxSource
from ..graph import Array, Graph
from ..groups import Groups
from ..layout import Kept, kept_by
from ..plan import Plan
from ..runtime import RUNTIME_ERRORS, Feeds, feeds, first_line, session
from .differences import Difference, Outputs, agreement, difference, says_something, worst
from .watching import Watched, watched, with_outputs

NOISE_FACTOR = 10.0
"""A tensor may differ by this multiple of what one rounding of the inputs does to it, where that is more."""


@dataclass(frozen=True)
class Verification:
    """How far the pruned model is from the masked original: over all outputs and samples, absolute and relative.

    The relative difference is the absolute one over the largest value of the output. ``agreement`` is the mean cosine
    between the outputs of the pruned model and of the *original*, on the same random inputs: what pruning itself
    changed. ``exact`` is False when the plan cuts groups that cross a normalisation.
    """

    max_abs: float
    max_rel: float
    samples: int
    tolerance: float
    agreement: float | None = None
    exact: bool = True


@dataclass(frozen=True)
class Reference:
    """The original with masks, loaded and run: what is to be compared, the inputs, and what the original gives."""

    masked: Masked
    session: Any
    watch: Watched
    inputs: Feeds
    positive: bool
    original: Outputs | None


def prepare(graph: Graph, groups: Groups, plan: Plan | None = None, *, seed: int = 0) -> Reference:
    """Load the reference and run the original once; a plan is needed only where it cuts groups that are not exact.

    Raises ModelError when onnxruntime cannot run the model, VerificationError when it gives nothing to compare.
    """
    source: OnnxSource = graph.source
    watch, limits = watched(graph), integer_limits(graph)
    reference = masked(graph, groups, plan)
    neutral = dict(reference.neutral) if reference.neutral is not None else reference.masks(_kept(groups, plan))
    try:
        theirs = session(with_outputs(reference.model, watch.extra))
        for positive in (False, True):
            run = feeds(source.model, source.input_sizes, seed, limits, positive=positive)
            result = theirs.run(list(watch.names), run | neutral)
            if all(says_something(y) for y in result):
                original = None if reference.neutral is None else result
                return Reference(reference, theirs, watch, run, positive, original)
    except RUNTIME_ERRORS as error:
        raise ModelError(
            "model-does-not-run", f"onnxruntime cannot run the model on random inputs: {first_line(error)}",
            hint="check that it runs by itself, and give sizes it accepts with --input-shape",
        ) from error  # fmt: skip
    raise VerificationError(
        "nothing-to-compare", "the model gives no finite number on random inputs, so the pruned one cannot be checked",
        hint="give other sizes with --input-shape",
    )  # fmt: skip


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
) -> Verification:
    """Run the pruned model and the masked original on random inputs and compare every output.

    A model that computes shapes from its input is run at a second size of its dynamic axes too. Where a model takes
    decisions (NMS, TopK), the numbers they are taken on are compared as well. ``reference`` may have been prepared
    before the plan was known. Where a pass changed the model first, ``graph`` is what it made, and ``original`` the
    graph that it was given and the ``reference`` was prepared of: the agreement is with that. Raises VerificationError
    naming the first tensor that differs, or what onnxruntime says when the pruned model does not run; ModelError when
    the model itself does not run.
    """
    exact = is_exact(groups, plan)
    given = reference if original is not None and original is not graph else None
    if reference is None or given is not None or not exact:
        reference = prepare(graph, groups, None if exact else plan, seed=seed)
    watch, masks = reference.watch, reference.masked.masks(kept_by(groups, plan))
    names = list(watch.names)
    runs = [(reference.inputs, reference.session.run(names, reference.inputs | masks))]
    runs += _at_other_sizes(graph, reference, masks, seed)
    try:
        ours = session(with_outputs(small, watch.extra))
        results = [ours.run(names, run) for run, _ in runs]
    except RUNTIME_ERRORS as error:
        raise VerificationError(
            "pruned-does-not-run", f"onnxruntime cannot run the pruned model: {first_line(error)}",
            hint="nothing was written; this is a fault of graphprune: please report it with the model",
        ) from error  # fmt: skip
    found = max(
        (worst(mine, wanted, watch.binding) for mine, (_, wanted) in zip(results, runs, strict=True)),
        key=lambda d: d.relative / d.tolerance,
    )
    # Outputs of zeros (a head that was never trained) agree with anything: then every tensor before them is compared.
    if not found.within or not any(np.any(y) for y in runs[0][1] if isinstance(y, np.ndarray) and y.size):
        first = _first_beyond_noise(graph, groups, plan, small, reference, masks)
        if first is not None:
            raise _not_the_same(found, first)
        found = replace(found, tolerance=max(found.tolerance, found.relative))
    agreed = _agreed(results[0], given or reference, reference)
    return Verification(found.absolute, found.relative, len(results), found.tolerance, agreed, exact)


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
    try:
        return [(run, reference.session.run(list(reference.watch.names), run | masks))]
    except RUNTIME_ERRORS:
        return []


def _first_beyond_noise(
    graph: Graph, groups: Groups, plan: Plan, small: onnx.ModelProto, reference: Reference, masks: dict[str, Array]
) -> str | None:
    """Return the first tensor, in graph order, that differs by more than the model's own noise; None if none does.

    Some models turn one rounding into a large difference. What they do to theirs is measured tensor by tensor, on
    inputs off by a rounding: a wrong slice shows where the noise is still small.
    """
    kept = kept_by(groups, plan)
    there = {n for node in small.graph.node for n in node.output}
    names = [n for node in graph.nodes if node.family != "value" for n in node.outputs]
    names = [n for n in names if n in there and graph.tensors[n].dtype.startswith(("float", "bfloat"))]
    mine = _fetch(small, names, reference.inputs)
    wanted = _fetch(reference.masked.model, names, reference.inputs | masks)
    nudged = {n: _off_by_a_rounding(x) for n, x in reference.inputs.items()}
    noisy = _fetch(reference.masked.model, names, nudged | masks)
    for name, ours, theirs, other in zip(names, mine, wanted, noisy, strict=True):
        dims = groups.layout.facts.tensor(name)
        if dims is None:
            continue
        for axis, dim in enumerate(dims):
            index = kept.index(dim)
            if index is not None:
                theirs, other = theirs.take(index, axis=axis), other.take(index, axis=axis)
        found = difference(ours, theirs)
        if found.relative > max(found.tolerance, NOISE_FACTOR * difference(other, theirs).relative):
            return name
    return None


def _off_by_a_rounding(x: Array) -> Array:
    """Move every other floating number to its neighbour."""
    if x.dtype.kind != "f":
        return x
    nudged = x.copy()
    nudged.ravel()[::2] = np.nextafter(nudged.ravel()[::2], np.inf)
    return nudged


def _not_the_same(found: Difference, first: str) -> VerificationError:
    return VerificationError(
        "not-the-same-function",
        f"the pruned model differs from the masked original by {found.relative:.3g} of the output's range "
        f"(allowed: {found.tolerance:g}); the first tensor that differs is tensor {first!r}",
        hint="nothing was written; protect what makes it with --keep, and please report this with the model",
    )


def _fetch(model: onnx.ModelProto, names: list[str], run: Feeds) -> Outputs:
    result: Outputs = session(with_outputs(model, tuple(names)), optimise=False).run(names, run)
    return result
