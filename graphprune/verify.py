"""Same function: the pruned model against the masked original, in onnxruntime, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .backends.onnx_masked import Masked, masked
from .errors import ModelError, VerificationError
from .frontends.onnx import OnnxSource
from .graph import Graph
from .groups import Groups
from .layout import kept_by
from .plan import Plan
from .runtime import RUNTIME_ERRORS, Feeds, feeds, first_line, session

TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
"""Largest allowed difference by element type, relative to the largest value of the output."""
NOISE_FACTOR, NOISE_LIMIT = 10.0, 1e-2
"""Where onnxruntime itself differs more, optimising or not, this multiple of that is allowed, up to a limit."""


@dataclass(frozen=True)
class Verification:
    """How far the pruned model is from the masked original: over all outputs and samples, absolute and relative.

    The relative difference is the absolute one over the largest value of the output. ``agreement`` is the cosine
    between the outputs of the pruned model and of the *original*, on the same random inputs: what pruning itself
    changed.
    """

    max_abs: float
    max_rel: float
    samples: int
    tolerance: float
    agreement: float | None = None
    exact: bool = True


def verify(graph: Graph, groups: Groups, plan: Plan, small: onnx.ModelProto, *, seed: int = 0) -> Verification:
    """Run the pruned model and the masked original on random inputs and compare every output.

    A model with dynamic axes is run at a second size too. Raises VerificationError naming the first tensor that
    differs, or what onnxruntime says when the pruned model does not run.
    """
    reference = masked(graph, groups, plan)
    exact = all(g.exact for g in groups.groups if len(plan.keep[g.id]) < g.size)
    runs, wanted, original = _original_runs(graph, reference, seed)
    try:
        ours = session(small)
        results = [(ours.run(None, run), y) for run, y in zip(runs, wanted, strict=True)]
    except RUNTIME_ERRORS as error:
        raise VerificationError(
            "pruned-does-not-run", f"onnxruntime cannot run the pruned model: {first_line(error)}",
            hint="nothing was written; this is a fault of graphprune: please report it with the model",
        ) from error  # fmt: skip
    checks = [_compare(graph, mine, wanted) for mine, wanted in results]
    worst = max(checks, key=lambda c: c.max_rel / c.tolerance)
    if worst.tolerance < worst.max_rel <= NOISE_LIMIT:
        noise = _noise(graph, reference, runs[0], wanted[0])
        worst = replace(worst, tolerance=max(worst.tolerance, NOISE_FACTOR * noise))
    if not worst.max_rel <= worst.tolerance:
        _explain(graph, groups, plan, small, reference, runs[0], worst)
    agreement = None if original is None else _agreement([results[0][0]], original)
    return replace(worst, samples=len(runs), exact=exact, agreement=agreement)


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


Outputs = list[Any]


def _original_runs(
    graph: Graph, reference: Masked, seed: int
) -> tuple[list[Feeds], list[Outputs], list[Outputs] | None]:
    """Run the masked original, and the original, on inputs for which they say something.

    When that fails, the model itself cannot run.
    """
    source: OnnxSource = graph.source
    limits = integer_limits(graph)
    try:
        theirs = session(reference.model)
        for positive in (False, True):
            run = feeds(source.model, source.input_sizes, seed, limits, positive=positive)
            results = [theirs.run(None, run | reference.masks)]
            if all(_says_something(y) for y in results[0]):
                neutral = reference.neutral
                original = None if neutral is None else [theirs.run(None, run | neutral)]
                more = _at_other_sizes(graph, theirs, reference, seed, positive=positive)
                return [run, *(r for r, _ in more)], results + [y for _, y in more], original
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
    graph: Graph, theirs: Any, reference: Masked, seed: int, *, positive: bool
) -> list[tuple[Feeds, Outputs]]:
    """Run the masked original at other sizes of its dynamic axes, if it accepts the ones made up here."""
    source: OnnxSource = graph.source
    if source.other_sizes is None:
        return []
    run = feeds(source.model, source.other_sizes, seed, integer_limits(graph), positive=positive)
    try:
        return [(run, theirs.run(None, run | reference.masks))]
    except RUNTIME_ERRORS:
        return []


def _says_something(output: Any) -> bool:
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fc" or not output.size:
        return True
    return bool(np.isfinite(output).any())


def _agreement(mine: Sequence[Outputs], original: Sequence[Outputs]) -> float | None:
    """Return the mean cosine between floating outputs of the pruned model and of the original."""
    cosines = []
    for a, b in ((a, b) for x, y in zip(mine, original, strict=True) for a, b in zip(x, y, strict=True)):
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.shape == b.shape and np.isfinite(a).all():
            u, v = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
            scale = float(np.linalg.norm(u) * np.linalg.norm(v))
            if scale and np.isfinite(scale):
                cosines.append(float(u @ v) / scale)
    return float(np.mean(cosines)) if cosines else None


def _compare(graph: Graph, mine: Sequence[Any], wanted: Sequence[Any]) -> Verification:
    """Compare all outputs of one run."""
    worst = Verification(0.0, 0.0, 1, TOLERANCE["float32"])
    for a, b in zip(mine, wanted, strict=True):
        difference = _difference(a, b)
        if difference.max_rel / difference.tolerance >= worst.max_rel / worst.tolerance:
            worst = difference
    return worst


def _noise(graph: Graph, reference: Masked, run: Feeds, wanted: Outputs) -> float:
    """Return by how much the masked original differs from itself when onnxruntime does not optimise it."""
    plain = session(reference.model, optimise=False).run(None, run | reference.masks)
    return min(_compare(graph, plain, wanted).max_rel, NOISE_LIMIT / NOISE_FACTOR)


def _difference(a: Any, b: Any) -> Verification:
    if not isinstance(b, np.ndarray) or b.dtype.kind in "OSU":
        same = str(a) == str(b)
        return Verification(0.0 if same else np.inf, 0.0 if same else np.inf, 1, TOLERANCE["float32"])
    tolerance = TOLERANCE.get(b.dtype.name, TOLERANCE["float32"])
    if a.shape != b.shape:
        return Verification(np.inf, np.inf, 1, tolerance)
    if not b.size:
        return Verification(0.0, 0.0, 1, tolerance)
    x, y = a.astype(np.float64), b.astype(np.float64)
    both = np.isfinite(y)
    if not np.array_equal(both, np.isfinite(x)):
        return Verification(np.inf, np.inf, 1, tolerance)
    absolute = float(np.abs(x - y)[both].max(initial=0.0))
    scale = float(np.abs(y)[both].max(initial=0.0))
    return Verification(absolute, absolute / scale if scale else absolute, 1, tolerance)


def _explain(
    graph: Graph, groups: Groups, plan: Plan, small: onnx.ModelProto, reference: Masked, run: Feeds,
    worst: Verification,
) -> None:  # fmt: skip
    """Raise an error that names the first tensor, in graph order, that differs."""
    kept = kept_by(groups, plan)
    facts = groups.layout.facts
    names = [n for node in graph.nodes if node.family != "value" for n in node.outputs]
    there = {n for node in small.graph.node for n in node.output}
    names = [n for n in names if n in there and graph.tensors[n].dtype.startswith(("float", "bfloat"))]
    mine, wanted = _all_tensors(small, names, run), _all_tensors(reference.model, names, run | reference.masks)
    first = "an output"
    for name in names:
        dims = facts.tensor(name)
        if dims is None or name not in mine or name not in wanted:
            continue
        expected: NDArray[Any] = wanted[name]
        for axis, dim in enumerate(dims):
            index = kept.index(dim)
            if index is not None:
                expected = expected.take(index, axis=axis)
        check = _difference(mine[name], expected)
        if not check.max_rel <= check.tolerance:
            first = f"tensor {name!r}"
            break
    raise VerificationError(
        "not-the-same-function",
        f"the pruned model differs from the masked original by {worst.max_rel:.3g} of the output's range "
        f"(allowed: {worst.tolerance:g}); the first tensor that differs is {first}",
        hint="nothing was written; protect what makes it with --keep, and please report this with the model",
    )


def _all_tensors(model: onnx.ModelProto, names: Sequence[str], run: Feeds) -> Mapping[str, NDArray[Any]]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    have = {o.name for o in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    return dict(zip(names, session(probe, optimise=False).run(list(names), run), strict=True))
