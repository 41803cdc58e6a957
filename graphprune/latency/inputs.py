"""What models are fed while they are timed: random inputs at their traced sizes, a batch of them, or samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from ..graph import Graph
    from ..runtime import Feeds

Shapes = Mapping[str, Sequence[int]]


def with_batch(model: ModelProto, given: Shapes, batch: int | None) -> dict[str, tuple[int, ...]]:
    """Return input shapes in which the first axis of every input that leaves it open is the batch.

    ``given`` shapes stay as they are. Raises UsageError where the model takes a fixed, other batch.
    """
    from ..runtime import real_inputs

    shapes = {name: tuple(sizes) for name, sizes in given.items()}
    if batch is None:
        return shapes
    inputs = [(v, dims) for v in real_inputs(model) if (dims := _dims(v))]
    for value, dims in inputs:
        if dims[0] is None and value.name not in shapes and all(dims[1:]):
            shapes[value.name] = (batch, *(n for n in dims[1:] if n))
    firsts = [shapes[v.name][0] if v.name in shapes else dims[0] for v, dims in inputs]
    if inputs and not any(n in (None, batch) for n in firsts):
        words = f"no input of the model takes a batch of {batch}: their first axes are {', '.join(map(str, firsts))}"
        hint = "leave --batch away, or export the model with a dynamic batch"
        raise UsageError("batch-fixed", words, where="--batch", hint=hint)
    return shapes


def _dims(value: ValueInfoProto) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ()
    return [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]


def random_inputs(graph: Graph, seed: int = 0) -> Feeds:
    """Return random inputs of a traced ONNX model: Gaussian numbers, and integers within the tables they look up."""
    from ..frontends.onnx.trace import OnnxSource
    from ..runtime import feeds
    from ..verification.verify import integer_limits

    source: OnnxSource = graph.source
    return feeds(source.given or source.model, source.input_sizes, seed, integer_limits(graph))


def inputs_for(model: ModelProto, given: Shapes, seed: int = 0) -> Feeds:
    """Return random inputs of a model at these shapes, also of one that cannot be traced.

    Raises ModelError where sizes are open, UsageError for shapes that do not fit.
    """
    from ..frontends.onnx.trace import input_sizes, trace
    from ..runtime import feeds

    sizes = input_sizes(model, given)
    try:
        return random_inputs(trace(model, input_shapes=given), seed)
    except ModelError:  # it may run all the same; how large its indices may be is then not known
        return feeds(model, sizes, seed)


def first_samples(data: Any, model: ModelProto, batch: int | None, preprocess: Any = None) -> Feeds:
    """Return the first samples of data, as many as a batch has (one, unless told otherwise); raises UsageError."""
    from ..data import open_samples, specs_of_model

    samples = open_samples(data, specs_of_model(model), preprocess=preprocess)
    count = samples.fixed_batch or batch or 1
    if len(samples) < count:
        words = f"the data has {len(samples)} samples, a batch {count}"
        raise UsageError("data-empty", words, where="--data", hint="give more samples, or a smaller --batch")
    return next(samples.first(count).batches(count)).inputs
