"""Two ONNX files side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..count import count
from ..data import sizes_from
from ..frontends.onnx.trace import trace
from ..pipeline.opening import read
from ..pipeline.run import version
from ..pipeline.settings import silent
from ..report.build import side
from ..report.report import Report, Side
from ..seeds import check_seed
from .outputs import Samples, check_alike, compare_outputs
from .result import Comparison
from .tensors import tensor_changes

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..cost import Metric
    from ..data import Preprocess
    from ..graph import Graph
    from ..pipeline.opening import Source

Shapes = Mapping[str, Sequence[int]]


def compare(
    a: str | Path | ModelProto,
    b: str | Path | ModelProto,
    *,
    data: Any = None,
    labels: str | None = None,
    preprocess: str | Path | Preprocess | None = None,
    samples: int | None = None,
    seed: int = 0,
    input_shapes: Shapes | None = None,
    report: Report | None = None,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare two ONNX models of the same inputs and outputs: costs, stored tensors, and outputs on the same inputs.

    ``data``, ``labels`` and ``preprocess`` are as ``data.open_samples`` takes them, ``samples`` is how many of them are
    run at most; without data, that many random inputs are drawn by the ``seed`` (4 unless told otherwise).
    ``input_shapes`` gives sizes to count costs with, and for random inputs, of dynamic axes; those that are not given
    are the first sample's. With the ``report`` of the
    run that made the second model from the first, values that changed are compared in tensors that were cut as well.

    Raises ModelError for a model that cannot be read or run, UsageError where the two have other inputs or outputs, and
    for samples that do not fit.
    """
    step = progress or silent
    check_seed(seed)
    if samples is not None and (type(samples) is not int or samples < 1):
        from ..errors import UsageError

        words, hint = f"{samples!r} is no number of samples", "give a number from 1 up"
        raise UsageError("data-empty", words, where="samples", hint=hint)
    given = Samples(data, labels, preprocess, samples, seed)
    (one, first), (other, second) = (_opened(m, input_shapes, given, step) for m in (a, b))
    check_alike(first, second)
    step("compare tensors")
    changes = tensor_changes(one.model, other.model, report.kept if report is not None else None)
    step("run both")
    quality, outputs = compare_outputs(first, second, given)
    warnings = (*one.warnings, *other.warnings, *(f"output {o.name!r} is {o.note}" for o in outputs if o.note))
    return Comparison(
        _side(one, first), _side(other, second), (len(one.model.graph.node), len(other.model.graph.node)), changes,
        "random inputs" if data is None else "samples", quality, outputs, tuple(dict.fromkeys(warnings)), version(),
    )  # fmt: skip


def _opened(model: Any, shapes: Shapes | None, given: Samples, step: Callable[[str], None]) -> tuple[Source, Graph]:
    source = read(model, step)
    step("trace")
    with source.runnable():
        sizes = sizes_from(source.model, shapes or {}, given.data, preprocess=given.preprocess)
        graph = trace(source.loaded or source.model, input_shapes=sizes)
    return source, graph


def _side(source: Source, graph: Graph) -> Side:
    costs: dict[Metric, float] = {**count(graph), "size": float(source.bytes)}
    return side(costs, source.loaded)
