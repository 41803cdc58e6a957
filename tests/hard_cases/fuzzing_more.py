"""More steps for random models: what exporters write around the operators, and what attention is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from fuzzing import STEPS, Fuzz
from onnx import TensorProto


def sizes_of(f: Fuzz, name: str, *axes: int) -> list[str]:
    """Vectors of one element with sizes read at run time, as TorchScript spells ``x.size(axis)``."""
    shape = f.net.op("Shape", name)
    return [unsqueeze(f, f.net.op("Gather", shape, f.net.stored(np.array(a)), axis=0), 0) for a in axes]


def unsqueeze(f: Fuzz, name: str, axis: int) -> str:
    if f.net.opset >= 13:
        return f.net.op("Unsqueeze", name, f.net.ints(axis))
    return f.net.op("Unsqueeze", name, axes=[axis])


def shape_vector(f: Fuzz, *entries: str | int) -> str:
    return f.net.op("Concat", *(e if isinstance(e, str) else f.net.ints(e) for e in entries), axis=0)


def runtime_shuffle(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    g = f.divisor(c)
    b, channels, high, wide = sizes_of(f, name, 0, 1, 2, 3)
    per_group = f.net.op("Div", channels, f.net.ints(g))
    y = f.net.op("Reshape", name, shape_vector(f, b, g, per_group, high, wide))
    y = f.net.transpose(y, 0, 2, 1, 3, 4)
    last = [b, channels, high, wide] if f.flip() else [b, -1, high, wide]
    f.new(f.net.op("Reshape", y, shape_vector(f, *last)), n, c, h, w)


def runtime_flatten(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    if c * h * w <= 300:
        b = sizes_of(f, name, 0)[0]
        y = f.net.op("Reshape", name, shape_vector(f, b, [-1, c * h * w][f.pick(2)]))
        f.new(f.net.gemm(y, c * h * w, 4), n, 4)


def runtime_tokens(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    b, channels = sizes_of(f, name, 0, 1)
    y = f.net.op("Reshape", name, shape_vector(f, b, [channels, c][f.pick(2)], -1))
    f.new(f.net.transpose(y, 0, 2, 1), n, h * w, c)


def merged_heads(f: Fuzz) -> None:
    """Attention with batch * heads as one axis and 1/sqrt(d) computed from the shape."""
    name, (n, t, c) = f.use(3) or f.tokens()
    heads, d = f.pick(4, 1), f.pick(5, 1)
    b, tokens = sizes_of(f, name, 0, 1)
    merged = f.net.op("Mul", b, f.net.ints(heads)) if f.dynamic else f.net.ints(heads)
    parts = []
    for _ in range(3):
        y = f.net.op("Reshape", f.net.linear(name, c, heads * d), shape_vector(f, b, tokens, heads, d))
        parts.append(f.net.op("Reshape", f.net.transpose(y, 0, 2, 1, 3), shape_vector(f, merged, -1, d)))
    q, k, v = parts
    depth = f.net.op("Cast", sizes_of(f, q, 2)[0], to=TensorProto.FLOAT)
    scores = f.net.op("Div", f.net.op("MatMul", q, f.net.transpose(k, 0, 2, 1)), f.net.op("Sqrt", depth))
    y = f.net.op("MatMul", f.net.op("Softmax", scores, axis=2), v)
    y = f.net.transpose(f.net.op("Reshape", y, shape_vector(f, b, heads, tokens, d)), 0, 2, 1, 3)
    y = f.net.op("Reshape", y, shape_vector(f, b, tokens, heads * d))
    f.new(f.net.linear(y, heads * d, c), n, t, c)


def grouped_query(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    pairs, repeat, d = f.pick(4, 1), f.pick(4, 1), 2 * f.pick(3, 1)
    heads = pairs * repeat
    q = rope(f, f._heads(name, c, heads, d, t), d)
    k, v = rope(f, f._heads(name, c, pairs, d, t), d), f._heads(name, c, pairs, d, t)
    k, v = (repeated(f, x, pairs, repeat, t, d) for x in (k, v))
    scores = f.net.op("MatMul", q, f.net.transpose(k, 0, 1, 3, 2))
    y = f.net.transpose(f.net.op("MatMul", f.net.op("Softmax", scores, axis=3), v), 0, 2, 1, 3)
    f.new(f.net.linear(f.net.reshape(y, f.batch, t, heads * d), heads * d, c), n, t, c)


def repeated(f: Fuzz, x: str, pairs: int, repeat: int, t: int, d: int) -> str:
    """Every key/value head once for each of its queries."""
    y = f.net.op("Expand", unsqueeze(f, x, 2), f.net.ints(1, 1, repeat, 1, 1))
    return f.net.reshape(y, f.batch, pairs * repeat, t, d)


def rope(f: Fuzz, x: str, d: int) -> str:
    """Rotate halves: x * cos + concat(-x2, x1) * sin."""
    zero, half, end, last = f.net.ints(0), f.net.ints(d // 2), f.net.ints(2**40), f.net.ints(3)
    front, back = f.net.op("Slice", x, zero, half, last), f.net.op("Slice", x, half, end, last)
    turned = f.net.op("Concat", f.net.op("Neg", back), front, axis=3)
    cos, sin = f.net.stored(f.net.random(1, 1, 1, d)), f.net.stored(f.net.random(1, 1, 1, d))
    return f.net.op("Add", f.net.op("Mul", x, cos), f.net.op("Mul", turned, sin))


def shared_weight(f: Fuzz) -> None:
    """One weight used twice on tensors of the same width, or once more transposed."""
    name, (n, t, c) = f.use(3) or f.tokens()
    d = f.pick(9, 2)
    if c < 2:
        return
    weight = f.net.weight(c, d)
    y = f.net.op("Tanh", f.net.op("MatMul", name, weight))
    if f.flip():
        f.new(f.net.op("MatMul", y, f.net.transpose(weight, 1, 0)), n, t, c)
    else:
        other = f.net.op("MatMul", f.net.linear(name, c, c), weight)
        f.new(f.net.op("Add", y, other), n, t, d)


def hidden_weight(f: Fuzz) -> None:
    """A weight behind Transpose, Identity, Reshape."""
    name, (n, t, c) = f.use(3) or f.tokens()
    d = f.pick(9, 1)
    weight = f.net.op("Identity", f.net.stored(f.net.random(d, c)) if f.flip() else f.net.constant(f.net.random(d, c)))
    y = f.net.op("MatMul", name, f.net.transpose(weight, 1, 0))
    f.new(f.net.op("Add", y, f.net.reshape(f.net.vector(d), 1, 1, d)), n, t, d)


def channels_last(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    d = f.pick(9, 1)
    y = f.net.op("Sigmoid", f.net.linear(f.net.transpose(name, 0, 2, 3, 1), c, d))
    y = f.net.op("Mul", f.net.linear(y, d, c), f.net.vector(c))
    y = f.net.transpose(y, 0, 3, 1, 2)
    f.new(f.net.op("Add", y, name), n, c, h, w)


def expand_parameter(f: Fuzz) -> None:
    """A learned token or map, expanded and concatenated."""
    name, (n, c, h, w) = f.use(4) or f.map()
    d = f.pick(4, 1)
    token = f.net.stored(f.net.random(1, d, 1, 1))
    b, high, wide = sizes_of(f, name, 0, 2, 3)
    token = f.net.op("Expand", token, shape_vector(f, b, d, high, wide))
    f.new(f.net.op("Concat", token, name, axis=1), n, c + d, h, w)


def where(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    mask = f.net.stored(f.rng.integers(0, 2, (1, shape[1], 1, shape[3])).astype(bool))
    f.new(f.net.op("Where", mask, name, f.net.scalar(0.3)), *shape)


def einsum(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    d = f.pick(7, 1)
    if f.net.opset < 12:
        return
    a, b = f.net.linear(name, c, d), f.net.linear(name, c, d)
    scores = f.net.op("Einsum", a, b, equation="bsd,btd->bst")
    f.new(f.net.op("Einsum", scores, name, equation="bst,btc->bsc"), n, t, c)


def squeeze(f: Fuzz) -> None:
    name, (n, c, _, _) = f.use(4) or f.map()
    y = f.net.op("GlobalAveragePool", name)
    y = f.net.op("Squeeze", y, f.net.ints(2, 3)) if f.net.opset >= 13 else f.net.op("Squeeze", y, axes=[2, 3])
    f.new(y, n, c)


def resize(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    if h > 6:
        return
    if f.flip():
        scales = f.net.stored(np.array([1, 1, 2, 2], np.float32))
        y = f.net.op("Resize", name, f.net.stored(np.zeros(0, np.float32)), scales)
    else:
        b, channels = sizes_of(f, name, 0, 1)
        sizes = shape_vector(f, b, channels, 2 * h, 2 * w) if f.flip() else f.net.ints(1, c, 2 * h, 2 * w)
        if f.dynamic:
            sizes = shape_vector(f, b, [channels, c][f.pick(2)], 2 * h, 2 * w)
        y = f.net.op(
            "Resize", name, *([f.net.stored(np.zeros(0, np.float32))] * 2 if f.net.opset < 13 else ["", ""]), sizes
        )
    f.new(y, n, c, 2 * h, 2 * w)


def instance_norm(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    f.new(f.net.op("InstanceNormalization", name, f.net.vector(shape[1]), f.net.vector(shape[1])), *shape)


def group_norm(f: Fuzz) -> None:
    """Reshape, InstanceNormalization, Reshape."""
    name, (n, c, h, w) = f.use(4) or f.map()
    g = f.divisor(c)
    y = f.net.reshape(name, 0, g, -1)
    y = f.net.op(
        "InstanceNormalization", y, f.net.stored(np.ones(g, np.float32)), f.net.stored(np.zeros(g, np.float32))
    )
    y = f.net.reshape(y, f.batch, c, h, w)
    f.new(f.net.op("Mul", y, f.net.stored(f.net.random(c, 1, 1))), n, c, h, w)


def regroup(f: Fuzz) -> None:
    """Two factorisations of the same axis, one after the other."""
    name, (n, c, h, w) = f.use(4) or f.map()
    a, b = f.divisor(c), f.divisor(c)
    y = f.net.reshape(name, f.batch, a, c // a, h, w)
    y = f.net.op("Mul", y, f.net.stored(f.net.random(a, c // a, 1, 1)))
    y = f.net.reshape(y, f.batch, b, c // b, h * w)
    y = f.net.op("Add", y, f.net.stored(f.net.random(b, 1, 1)))
    f.new(f.net.reshape(y, f.batch, c, h, w), n, c, h, w)


def conv1d(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    d = f.pick(9, 1)
    y = f.net.op("Conv", f.net.transpose(name, 0, 2, 1), f.net.weight(d, c, 3), f.net.vector(d), pads=[1, 1])
    f.new(f.net.transpose(y, 0, 2, 1), n, t, d)


def pooled_tokens(f: Fuzz) -> None:
    name, (n, _, c) = f.use(3) or f.tokens()
    op = str(f.rng.choice(["ReduceMean", "ReduceMax", "ReduceSum"]))
    as_input = f.net.opset >= (13 if op == "ReduceSum" else 18)
    y = f.net.op(op, name, f.net.ints(1), keepdims=0) if as_input else f.net.op(op, name, axes=[1], keepdims=0)
    f.new(y, n, c)


def layer_norm(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    if f.net.opset >= 17:
        y = f.net.op("LayerNormalization", name, f.net.vector(c), f.net.vector(c), axis=-1)
        f.new(f.net.op("Add", f.net.linear(y, c, c), name), n, t, c)


def tile_tokens(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    f.new(f.net.op("Tile", name, f.net.ints(1, 1, 2)), n, t, 2 * c)


def stack(f: Fuzz) -> None:
    """Two branches stacked on a new axis and summed over it, or picked from it."""
    name, (n, t, c) = f.use(3) or f.tokens()
    d = f.pick(7, 1)
    a, b = (unsqueeze(f, f.net.linear(name, c, d), 1) for _ in range(2))
    y = f.net.op("Concat", a, b, axis=1)
    if f.flip():
        y = f.net.op("Gather", y, f.net.stored(np.array(f.pick(2))), axis=1)
    else:
        y = (
            f.net.op("ReduceSum", y, f.net.ints(1), keepdims=0)
            if f.net.opset >= 13
            else f.net.op("ReduceSum", y, axes=[1], keepdims=0)
        )
    f.new(y, n, t, d)


MORE: list[Callable[[Fuzz], None]] = [
    runtime_shuffle, runtime_flatten, runtime_tokens, merged_heads, grouped_query, shared_weight, hidden_weight, channels_last,
    expand_parameter, where, einsum, squeeze, resize, instance_norm, group_norm, regroup, conv1d, pooled_tokens, layer_norm,
    tile_tokens, stack,
]  # fmt: skip


def random_model(seed: int, steps: int = 13) -> onnx.ModelProto:
    """A model of 3 to ``steps`` steps, each either kind."""
    f = Fuzz(seed)
    size = int(f.rng.choice([4, 6]))
    f.new(f.net.input("batch" if f.dynamic else 1, 3, size, size, name="image"), 1, 3, size, size)
    f.conv()
    table = [*STEPS, *MORE]
    for _ in range(f.pick(steps, 3)):
        table[f.pick(len(table))](f)
    return f.finish()
