"""Steps of random models: layers on tokens (n, t, c), attention above all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import Fuzz
from fuzzing_shapes import shape_vector, sizes_of, unsqueeze
from onnx import TensorProto


def attention(f: Fuzz) -> None:
    name, (n, t, c) = f.tokens()
    heads, d, e = f.pick(4, 1), f.pick(5, 1), f.pick(5, 1)
    q, k = (_heads(f, name, c, heads, d, t) for _ in range(2))
    v = _heads(f, name, c, heads, e, t)
    scores = f.net.op("MatMul", q, f.net.transpose(k, 0, 1, 3, 2))
    weights = f.net.op("Softmax", f.net.op("Mul", scores, f.net.scalar(0.3)), axis=-1 if f.net.opset >= 13 else 3)
    y = f.net.transpose(f.net.op("MatMul", weights, v), 0, 2, 1, 3)
    y = f.net.linear(f.net.reshape(y, f.batch, t, heads * e), heads * e, c)
    f.new(f.net.op("Add", y, name), n, t, c)


def _heads(f: Fuzz, name: str, c: int, heads: int, d: int, t: int) -> str:
    return f.net.transpose(f.net.reshape(f.net.linear(name, c, heads * d), f.batch, t, heads, d), 0, 2, 1, 3)


def fused_attention(f: Fuzz) -> None:
    name, (n, t, c) = f.tokens()
    heads, d = f.pick(4, 1), f.pick(5, 1)
    qkv = f.net.reshape(f.net.linear(name, c, 3 * heads * d), f.batch, t, 3, heads, d)
    qkv = f.net.transpose(qkv, 2, 0, 3, 1, 4)
    q, k, v = (f.net.op("Gather", qkv, f.net.stored(np.array(i)), axis=0) for i in range(3))
    scores = f.net.op("MatMul", q, f.net.transpose(k, 0, 1, 3, 2))
    y = f.net.op("MatMul", f.net.op("Softmax", scores, axis=-1 if f.net.opset >= 13 else 3), v)
    y = f.net.reshape(f.net.transpose(y, 0, 2, 1, 3), f.batch, t, heads * d)
    f.new(f.net.linear(y, heads * d, c), n, t, c)


def gate(f: Fuzz) -> None:
    """A GLU: twice the width, split in halves that are multiplied."""
    name, (n, t, c) = f.tokens()
    d = f.pick(8, 1)
    y = f.net.linear(name, c, 2 * d)
    if f.net.opset >= 18:
        a, b = f.net.ops("Split", y, outputs=2, axis=-1, num_outputs=2)
    else:
        a, b = f.net.ops("Split", y, outputs=2, axis=-1)
    y = f.net.op("Mul", a, f.net.op("Sigmoid", b))
    f.new(f.net.linear(y, d, c), n, t, c)


def merged_heads(f: Fuzz) -> None:
    """Attention with batch * heads as one axis and 1/sqrt(d) computed from the shape."""
    name, (n, t, c) = f.tokens()
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
    name, (n, t, c) = f.tokens()
    pairs, repeat, d = f.pick(4, 1), f.pick(4, 1), 2 * f.pick(3, 1)
    heads = pairs * repeat
    q = rope(f, _heads(f, name, c, heads, d, t), d)
    k, v = rope(f, _heads(f, name, c, pairs, d, t), d), _heads(f, name, c, pairs, d, t)
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
    name, (n, t, c) = f.tokens()
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
    name, (n, t, c) = f.tokens()
    d = f.pick(9, 1)
    weight = f.net.op("Identity", f.net.stored(f.net.random(d, c)) if f.flip() else f.net.constant(f.net.random(d, c)))
    y = f.net.op("MatMul", name, f.net.transpose(weight, 1, 0))
    f.new(f.net.op("Add", y, f.net.reshape(f.net.vector(d), 1, 1, d)), n, t, d)


TOKENS: list[Callable[[Fuzz], None]] = [
    attention, fused_attention, gate, merged_heads, grouped_query, shared_weight, hidden_weight,
]  # fmt: skip
