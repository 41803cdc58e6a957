"""Samples where there are none, made from what the model's inputs are: images, tokens, or Gaussian numbers.

What is made is said in a note that belongs into the report. Real samples, even a few and without labels, are better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from .pictures import Range, as_fed, natural, range_of
from .token_ids import Ids, ids_of

if TYPE_CHECKING:
    from ..data import InputSpec, Samples

Want = Literal["auto", "normal", "uniform"]
LEAST_SIDE = 8
"""Pixels of a side from which on an input of one or three channels is taken for an image."""


@dataclass(frozen=True)
class Surrogates:
    """Samples that were made up. ``kinds`` says by input what they are; ``note`` says it in words, for a report."""

    samples: Samples = field(repr=False)
    kinds: Mapping[str, str]
    note: str


def surrogate_samples(graph: Graph, count: int = 256, seed: int = 0, kind: Want = "auto") -> Surrogates:
    """Return samples made from the description of a model's inputs.

    With "auto", floating inputs of four axes with one or three channels become images with a natural spectrum, integers
    become token ids below the size of the table they look up (masks are ones, positions count up, types are 0), and
    all else is Gaussian with mean 0 and variance 1; "normal" and "uniform" (on +-sqrt(3)) make all floating inputs so.
    Dynamic axes take their traced sizes. Raises UsageError for inputs of which nothing is known (scalars, text).
    """
    from ..data import open_samples, specs_of_model

    if isinstance(graph.source, OnnxSource):
        specs: Sequence[InputSpec] = specs_of_model(graph.source.model)
    else:
        from ..interpret.differentiable import differentiable, input_specs

        specs = input_specs(graph, differentiable(graph))
    unit = next((s.batch for s in specs if s.batch), 1)
    count = -(-count // unit) * unit
    arrays, kinds = {}, {}
    for number, spec in enumerate(specs):
        stream = np.random.default_rng([seed, 9, number])
        arrays[spec.name], kinds[spec.name] = _made(graph, spec, count, stream, kind)
    words = "; ".join(f"{name}: {what}" for name, what in kinds.items())
    note = (
        f"no data was given: statistics are of {count} samples made up (seed {seed}; {words}). Real samples, even a "
        "few without labels, give better results"
    )
    return Surrogates(open_samples(arrays, specs), kinds, note)


def _made(
    graph: Graph, spec: InputSpec, count: int, stream: np.random.Generator, kind: Want
) -> tuple[NDArray[Any], str]:
    """Return an input's made-up values, shape (count, ...), and what they are."""
    if spec.dtype is None or spec.shared or spec.dtype.kind not in "fiub":
        raise _unknown(spec)
    shape = (count, *graph.shape(spec.name)[1:])
    channels = _channel_axis(shape)
    if spec.dtype.kind == "f" and "mask" in spec.name.lower() and channels is None:
        return np.ones(shape, spec.dtype), "a mask of ones"
    if channels is not None and ((spec.dtype.kind == "f" and kind == "auto") or spec.dtype == np.uint8):
        wanted: Range = "bytes" if spec.dtype == np.uint8 else range_of(graph, spec.name)
        return _images(shape, channels, wanted, stream).astype(spec.dtype), f"images with a natural spectrum, {wanted}"
    if spec.dtype.kind == "f":
        if kind == "uniform":
            return stream.uniform(-(3**0.5), 3**0.5, shape).astype(spec.dtype), "uniform on +-sqrt(3)"
        return stream.standard_normal(shape, np.float32).astype(spec.dtype), "Gaussian"
    ids = ids_of(graph, spec.name)
    return _integers(ids, shape, stream).astype(spec.dtype), ids.words


def _unknown(spec: InputSpec) -> UsageError:
    words = f"nothing can be made up for the input {spec.name!r} ({spec})"
    return UsageError("data-missing", words, where="data", hint="give samples by --data (or data=...)")


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of the channels of what looks like an image, else None."""
    if len(shape) != 4:
        return None
    for axis, sides in ((1, shape[2:]), (3, shape[1:3])):
        if shape[axis] in (1, 3) and min(sides) >= LEAST_SIDE:
            return axis
    return None


def _images(shape: tuple[int, ...], axis: int, wanted: Range, stream: np.random.Generator) -> NDArray[np.float32]:
    sides = shape[2:] if axis == 1 else shape[1:3]
    made = natural(shape[0], shape[axis], (sides[0], sides[1]), stream)
    return as_fed(made if axis == 1 else np.moveaxis(made, 1, 3), wanted)


def _integers(ids: Ids, shape: tuple[int, ...], stream: np.random.Generator) -> NDArray[np.int64]:
    if ids.kind == "positions":
        return np.broadcast_to(np.arange(shape[-1]) % ids.limit, shape).copy()
    if ids.kind == "tokens":
        return stream.integers(0, ids.limit, shape)
    return np.full(shape, 0 if ids.kind == "types" else 1, np.int64)
