"""Small values computed while tracing: the arithmetic on shapes that exporters leave in the graph.

Only what can end up as a shape, an index or a scalar is computed, so the kernels are few and the arrays tiny.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...graph import Array
from ..files.mapped import plain_array
from ..files.tensors import subgraphs

MAX_INTEGERS = 256
"""Integer and boolean tensors up to this many elements are computed."""
MAX_FLOATS = 8
"""Floating vectors up to this many elements are computed (scales of Resize), and only where a shape entered them."""

READERS: dict[int, Callable[[onnx.AttributeProto], Any]] = {
    onnx.AttributeProto.FLOAT: lambda a: a.f,
    onnx.AttributeProto.INT: lambda a: a.i,
    onnx.AttributeProto.STRING: lambda a: a.s,
    onnx.AttributeProto.TENSOR: lambda a: a.t,
    onnx.AttributeProto.INTS: lambda a: list(a.ints),
    onnx.AttributeProto.FLOATS: lambda a: list(a.floats),
}
"""The commonest kinds of attributes, read without the questions that onnx's helper asks."""

GRAPHS = frozenset({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})
"""The kinds of attributes that hold bodies."""
Attributes = dict[str, Any]
Kernel = Callable[[Sequence[Any], Attributes], Any]


def attributes(node: onnx.NodeProto) -> Attributes:
    """Return a node's attributes as Python values."""
    return attributes_and_bodies(node)[0]


def attributes_and_bodies(node: onnx.NodeProto) -> tuple[Attributes, tuple[onnx.GraphProto, ...]]:
    """Return a node's attributes as Python values, and the graphs among them."""
    values: Attributes = {}
    bodies: tuple[onnx.GraphProto, ...] = ()
    for attribute in node.attribute:
        kind = attribute.type
        read = READERS.get(kind)
        if read is not None:
            values[attribute.name] = read(attribute)
            continue
        values[attribute.name] = helper.get_attribute_value(attribute)
        if kind in GRAPHS:
            bodies += tuple(subgraphs(attribute))
    return values, bodies


def worth_knowing(array: Array) -> bool:
    """Tell whether a computed array is small enough to carry along."""
    if array.dtype.kind in "iub":
        return array.size <= MAX_INTEGERS
    return array.ndim <= 1 and array.size <= MAX_FLOATS


def may_be_shape(array: Array) -> bool:
    """Tell whether an array made of stored ones may be a shape, an index or a mask: bytes are quantised weights."""
    return array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.dtype.itemsize > 2)


def _axes(values: Sequence[Any], attrs: Attributes) -> tuple[int, ...] | None:
    axes = values[1] if len(values) > 1 and values[1] is not None else attrs.get("axes")
    return None if axes is None else tuple(map(int, np.asarray(axes).ravel().tolist()))


def _slice(values: Sequence[Any], attrs: Attributes) -> Array:
    data = values[0]
    starts, ends = (values[1], values[2]) if len(values) > 2 else (attrs["starts"], attrs["ends"])
    axes = values[3] if len(values) > 3 and values[3] is not None else attrs.get("axes", range(len(starts)))
    steps = values[4] if len(values) > 4 and values[4] is not None else [1] * len(starts)
    cut = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[int(axis)] = slice_of(data.shape[int(axis)], int(start), int(end), int(step))
    return np.asarray(data[tuple(cut)])


def slice_of(size: int, start: int, end: int, step: int) -> slice:
    """Return ONNX Slice bounds as a Python slice (an end that runs off the front becomes None)."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start = min(max(start, 0), size - 1)
    return slice(start, end if end >= 0 else None, step)


def split(values: Sequence[Any], attrs: Attributes, count: int) -> list[Array]:
    """Return the parts that Split makes of a value; raises what NumPy raises where that cannot be."""
    axis = attrs.get("axis", 0)
    sizes = values[1] if len(values) > 1 and values[1] is not None else attrs.get("split")
    if sizes is None:
        sizes = [-(-values[0].shape[axis] // count)] * (count - 1)
        sizes.append(values[0].shape[axis] - sum(sizes))
    return [np.asarray(part) for part in np.split(values[0], np.cumsum(sizes)[:-1], axis)]


def _cast(values: Sequence[Any], attrs: Attributes) -> Array:
    return np.asarray(values[0]).astype(helper.tensor_dtype_to_np_dtype(attrs["to"]))


def _divide(values: Sequence[Any], attrs: Attributes) -> Array:
    a, b = values
    if np.asarray(a).dtype.kind in "iu":
        return np.asarray(np.trunc(a / b)).astype(np.asarray(a).dtype)  # ONNX divides integers towards zero
    return np.asarray(a / b)


def _reshape(values: Sequence[Any], attrs: Attributes) -> Array:
    data, shape = values[0], values[1] if len(values) > 1 else attrs["shape"]
    return np.reshape(
        data, [data.shape[i] if n == 0 and not attrs.get("allowzero") else int(n) for i, n in enumerate(shape)]
    )


def _unsqueeze(values: Sequence[Any], attrs: Attributes) -> Array:
    axes = _axes(values, attrs)
    assert axes is not None
    if axes == (0,) and values[0].ndim == 0:  # a size on its way into a shape, by far the commonest
        return np.asarray(values[0].reshape(1))
    return np.expand_dims(values[0], axes)


def _constant_of_shape(values: Sequence[Any], attrs: Attributes) -> Array | None:
    shape = values[0].tolist()
    if prod(shape) > MAX_INTEGERS:
        return None
    fill = plain_array(attrs["value"]) if "value" in attrs else np.zeros(1, np.float32)
    return np.full([int(n) for n in shape], fill.ravel()[0])


def _range(values: Sequence[Any], attrs: Attributes) -> Array | None:
    start, limit, delta = (np.ravel(v)[0] for v in values)
    return None if (limit - start) / delta > MAX_INTEGERS else np.arange(start, limit, delta, dtype=values[0].dtype)


def _expand(values: Sequence[Any], attrs: Attributes) -> Array | None:
    shape = np.broadcast_shapes(values[0].shape, tuple(int(n) for n in values[1]))
    return None if int(np.prod(shape)) > MAX_INTEGERS else np.broadcast_to(values[0], shape)


def _reduce(function: Callable[..., Any]) -> Kernel:
    def kernel(values: Sequence[Any], attrs: Attributes) -> Array:
        return np.asarray(function(values[0], axis=_axes(values, attrs), keepdims=attrs.get("keepdims", 1) == 1))

    return kernel


def _tile(values: Sequence[Any], attrs: Attributes) -> Array | None:
    repeats = [int(n) for n in values[1]]
    return None if values[0].size * prod(repeats) > MAX_INTEGERS else np.tile(values[0], repeats)


def _plain(function: Callable[..., Any]) -> Kernel:
    return lambda values, attrs: np.asarray(function(*values))


KERNELS: dict[str, Kernel] = {
    "Identity": _plain(lambda x: x),
    "Gather": lambda v, a: np.take(v[0], np.asarray(v[1], np.int64), axis=a.get("axis", 0)),
    "Concat": lambda v, a: np.concatenate(v, axis=a["axis"]),
    "Slice": _slice,
    "Squeeze": lambda v, a: np.squeeze(v[0], axis=_axes(v, a)),
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": lambda v, a: np.transpose(v[0], a.get("perm")),
    "Cast": _cast,
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _divide,
    "Mod": lambda v, a: np.asarray(np.fmod(*v) if a.get("fmod") else np.mod(*v)),
    "Pow": lambda v, a: np.asarray(np.power(*v)).astype(v[0].dtype),
    "Min": lambda v, a: np.minimum.reduce(np.broadcast_arrays(*v)),
    "Max": lambda v, a: np.maximum.reduce(np.broadcast_arrays(*v)),
    "Neg": _plain(np.negative),
    "Abs": _plain(np.abs),
    "Sign": _plain(np.sign),
    "Floor": _plain(np.floor),
    "Ceil": _plain(np.ceil),
    "Round": _plain(np.round),
    "Sqrt": _plain(np.sqrt),
    "Reciprocal": _plain(np.reciprocal),
    "Equal": _plain(np.equal),
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Not": _plain(np.logical_not),
    "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or),
    "Where": _plain(np.where),
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Tile": _tile,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
"""Operator → what it computes. Shape and Size are the tracer's own business: they read shapes, not values."""
