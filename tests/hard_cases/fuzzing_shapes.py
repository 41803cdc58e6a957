"""Steps of random models: shapes computed at run time, as TorchScript spells them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import Fuzz
from onnx import TensorProto, helper


def sizes_of(f: Fuzz, name: str, *axes: int) -> list[str]:
    """Vectors of one element with sizes read at run time, as TorchScript spells ``x.size(axis)``."""
    shape = f.net.op("Shape", name)
    return [unsqueeze(f, f.net.op("Gather", shape, f.net.stored(np.array(a)), axis=0), 0) for a in axes]


def unsqueeze(f: Fuzz, name: str, axis: int) -> str:
    return f.axes(name, "Unsqueeze", axis)


def shape_vector(f: Fuzz, *entries: str | int) -> str:
    return f.net.op("Concat", *(e if isinstance(e, str) else f.net.ints(e) for e in entries), axis=0)


def runtime_shuffle(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    g = f.divisor(c)
    b, channels, high, wide = sizes_of(f, name, 0, 1, 2, 3)
    per_group = f.net.op("Div", channels, f.net.ints(g))
    y = f.net.op("Reshape", name, shape_vector(f, b, g, per_group, high, wide))
    y = f.net.transpose(y, 0, 2, 1, 3, 4)
    last = [b, channels, high, wide] if f.flip() else [b, -1, high, wide]
    f.new(f.net.op("Reshape", y, shape_vector(f, *last)), n, c, h, w)


def runtime_flatten(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    if c * h * w <= 300:
        b = sizes_of(f, name, 0)[0]
        y = f.net.op("Reshape", name, shape_vector(f, b, f.choose(-1, c * h * w)))
        f.new(f.net.gemm(y, c * h * w, 4), n, 4)


def runtime_tokens(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    b, channels = sizes_of(f, name, 0, 1)
    y = f.net.op("Reshape", name, shape_vector(f, b, f.choose(channels, c), -1))
    f.new(f.net.transpose(y, 0, 2, 1), n, h * w, c)


def expand_parameter(f: Fuzz) -> None:
    """A learned token or map, expanded and concatenated."""
    name, (n, c, h, w) = f.map()
    d = f.pick(4, 1)
    token = f.net.stored(f.net.random(1, d, 1, 1))
    b, high, wide = sizes_of(f, name, 0, 2, 3)
    token = f.net.op("Expand", token, shape_vector(f, b, d, high, wide))
    f.new(f.net.op("Concat", token, name, axis=1), n, c + d, h, w)


def resize(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    if h > 6:
        return
    f.net.hides, f.net.merged = False, None  # onnx' shape inference of sizes put together from Constant nodes fails
    if f.flip():
        scales = f.net.stored(np.array([1, 1, 2, 2], np.float32))
        y = f.net.op("Resize", name, f.net.stored(np.zeros(0, np.float32)), scales)
    else:
        b, channels = sizes_of(f, name, 0, 1)
        sizes = shape_vector(f, b, channels, 2 * h, 2 * w) if f.flip() else f.net.ints(1, c, 2 * h, 2 * w)
        if f.dynamic:
            sizes = shape_vector(f, b, f.choose(channels, c), 2 * h, 2 * w)
        y = f.net.op(
            "Resize", name, *([f.net.stored(np.zeros(0, np.float32))] * 2 if f.net.opset < 13 else ["", ""]), sizes
        )
    f.new(y, n, c, 2 * h, 2 * w)


def runtime_expand(f: Fuzz) -> None:
    """A parameter expanded to the shape of a tensor, or a tensor filled in at run time, added to it."""
    name, shape = f.any(2)
    sizes = sizes_of(f, name, *range(len(shape)))
    wanted = f.net.op("Shape", name) if f.flip() else shape_vector(f, *sizes)
    if f.flip():
        y = f.net.op("Expand", f.net.stored(f.net.random(*(f.choose(1, k) for k in shape[1:]))), wanted)
    else:
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
        y = f.net.op("ConstantOfShape", wanted, value=value)
    f.new(f.net.op("Add", name, y), *shape)


def runtime_slice(f: Fuzz) -> None:
    """Halves of an axis, cut where its size says."""
    name, shape = f.any(2)
    axis = f.pick(len(shape), 1)
    n = shape[axis]
    if n > 1:
        size = sizes_of(f, name, axis)[0]
        half = f.net.op("Div", size, f.net.ints(2))
        start, end, made = f.choose((f.net.ints(0), half, n // 2), (half, size, n - n // 2))
        f.new(f.net.op("Slice", name, start, end, f.net.ints(axis)), *shape[:axis], made, *shape[axis + 1 :])


SHAPES: list[Callable[[Fuzz], None]] = [
    runtime_shuffle, runtime_flatten, runtime_tokens, expand_parameter, resize, runtime_expand, runtime_slice,
]  # fmt: skip
