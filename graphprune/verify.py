"""Same function: the pruned model against the masked original, in onnxruntime, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import onnx

from .backends.onnx_masked import Masked, masked
from .differences import Difference, Outputs, agreement, difference, says_something, worst
from .errors import ModelError, VerificationError
from .frontends.onnx import OnnxSource
from .graph import Graph
from .groups import Groups
from .layout import kept_by
from .plan import Plan
from .runtime import RUNTIME_ERRORS, Feeds, feeds, first_line, session
from .watching import Watched, watched, with_outputs

NOISE_FACTOR, NOISE_LIMIT = 10.0, 1e-2
"""Where onnxruntime itself differs more, optimising or not, this multiple of that is allowed, up to a limit."""


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
class _Reference:
    """The inputs, what the masked original gives for each, and what the original gives for the first."""

    feeds: list[Feeds]
    masked: list[Outputs]
    original: Outputs | None


def verify(graph: Graph, groups: Groups, plan: Plan, small: onnx.ModelProto, *, seed: int = 0) -> Verification:
    """Run the pruned model and the masked original on random inputs and compare every output.

    A model with dynamic axes is run at a second size too. Where a model takes decisions (NMS, TopK), the numbers they
    are taken on are compared as well. Raises VerificationError naming the first tensor that differs, or what
    onnxruntime says when the pruned model does not run; ModelError when the model itself does not run.
    """
    watch = watched(graph)
    reference = masked(graph, groups, plan)
    expected = _run_reference(graph, reference, watch, seed)
    try:
        ours = session(with_outputs(small, watch.extra))
        results = [ours.run(list(watch.names), run) for run in expected.feeds]
    except RUNTIME_ERRORS as error:
        raise VerificationError(
            "pruned-does-not-run", f"onnxruntime cannot run the pruned model: {first_line(error)}",
            hint="nothing was written; this is a fault of graphprune: please report it with the model",
        ) from error  # fmt: skip
    checks = [worst(y, z, watch.binding) for y, z in zip(results, expected.masked, strict=True)]
    found = max(checks, key=lambda d: d.relative / d.tolerance)
    if not found.within and found.relative <= NOISE_LIMIT:
        noise = _noise(reference, watch, expected)
        found = replace(found, tolerance=max(found.tolerance, min(NOISE_FACTOR * noise, NOISE_LIMIT)))
    if not found.within:
        _fail(graph, groups, plan, small, reference, expected.feeds[0], found)
    agreed = None if expected.original is None else agreement(results[0], expected.original)
    exact = all(g.exact for g in groups.groups if len(plan.keep[g.id]) < g.size)
    return Verification(found.absolute, found.relative, len(results), found.tolerance, agreed, exact)


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


def _run_reference(graph: Graph, reference: Masked, watch: Watched, seed: int) -> _Reference:
    """Run the masked original, and the original, on inputs for which they say something."""
    source: OnnxSource = graph.source
    limits, names = integer_limits(graph), list(watch.names)
    try:
        theirs = session(with_outputs(reference.model, watch.extra))
        for positive in (False, True):
            run = feeds(source.model, source.input_sizes, seed, limits, positive=positive)
            result = theirs.run(names, run | reference.masks)
            if all(says_something(y) for y in result):
                neutral = reference.neutral
                original = None if neutral is None else theirs.run(names, run | neutral)
                more = _at_other_sizes(graph, theirs, reference, names, seed, positive=positive)
                return _Reference([run, *(r for r, _ in more)], [result, *(y for _, y in more)], original)
    except RUNTIME_ERRORS as error:
        raise ModelError(
            "model-does-not-run", f"onnxruntime cannot run the model on random inputs: {first_line(error)}",
            hint="check that it runs by itself, and give sizes it accepts with --input-shape",
        ) from error  # fmt: skip
    raise VerificationError(
        "nothing-to-compare", "the model gives no finite number on random inputs, so the pruned one cannot be checked",
        hint="give other sizes with --input-shape",
    )  # fmt: skip


def _at_other_sizes(
    graph: Graph, theirs: Any, reference: Masked, names: list[str], seed: int, *, positive: bool
) -> list[tuple[Feeds, Outputs]]:
    """Run the masked original at other sizes of its dynamic axes, if it accepts the ones made up here."""
    source: OnnxSource = graph.source
    if source.other_sizes is None:
        return []
    run = feeds(source.model, source.other_sizes, seed, integer_limits(graph), positive=positive)
    try:
        return [(run, theirs.run(names, run | reference.masks))]
    except RUNTIME_ERRORS:
        return []


def _noise(reference: Masked, watch: Watched, expected: _Reference) -> float:
    """Return by how much the masked original differs from itself when onnxruntime does not optimise it."""
    plain = session(with_outputs(reference.model, watch.extra), optimise=False)
    result = plain.run(list(watch.names), expected.feeds[0] | reference.masks)
    return worst(result, expected.masked[0], watch.binding).relative


def _fail(
    graph: Graph, groups: Groups, plan: Plan, small: onnx.ModelProto, reference: Masked, run: Feeds, found: Difference
) -> NoReturn:
    """Raise an error that names the first tensor, in graph order, that differs."""
    kept = kept_by(groups, plan)
    there = {n for node in small.graph.node for n in node.output}
    names = [n for node in graph.nodes if node.family != "value" for n in node.outputs]
    names = [n for n in names if n in there and graph.tensors[n].dtype.startswith(("float", "bfloat"))]
    mine, wanted = _fetch(small, names, run), _fetch(reference.model, names, run | reference.masks)
    first = "an output"
    for name, ours, theirs in zip(names, mine, wanted, strict=True):
        dims = groups.layout.facts.tensor(name)
        if dims is None:
            continue
        for axis, dim in enumerate(dims):
            index = kept.index(dim)
            theirs = theirs if index is None else theirs.take(index, axis=axis)
        if not difference(ours, theirs).within:
            first = f"tensor {name!r}"
            break
    raise VerificationError(
        "not-the-same-function",
        f"the pruned model differs from the masked original by {found.relative:.3g} of the output's range "
        f"(allowed: {found.tolerance:g}); the first tensor that differs is {first}",
        hint="nothing was written; protect what makes it with --keep, and please report this with the model",
    )


def _fetch(model: onnx.ModelProto, names: list[str], run: Feeds) -> Outputs:
    result: Outputs = session(with_outputs(model, tuple(names)), optimise=False).run(names, run)
    return result
