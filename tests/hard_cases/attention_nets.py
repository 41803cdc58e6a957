"""Attention as exporters spell it, piece by piece."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from onnx_models import Net

TOKENS, WIDTH = 5, 6


def heads_of(net: Net, x: str, heads: int, depth: int, name: str = "", *, batch: int = 1) -> str:
    """Project to heads * depth (with a name), reshape, and put heads in front: (batch, heads, tokens, depth)."""
    if name:
        x = net.linear(x, WIDTH, heads * depth, name=name)
    return net.transpose(net.reshape(x, batch, TOKENS, heads, depth), 0, 2, 1, 3)


def attend(net: Net, q: str, k: str, v: str, scale: str = "", bias: str = "") -> str:
    scores = net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2))
    scores = net.op("Mul", scores, scale or net.scalar(0.4))
    scores = net.op("Add", scores, bias) if bias else scores
    return net.op("MatMul", net.op("Softmax", scores, axis=-1), v)


def output(net: Net, y: str, heads: int, depth: int, *, batch: int = 1) -> str:
    """Fold the heads back and project to the width of the tokens."""
    y = net.reshape(net.transpose(y, 0, 2, 1, 3), batch, TOKENS, heads * depth)
    return net.linear(y, heads * depth, WIDTH, name="o")


def size_at_runtime(net: Net, x: str, axis: int) -> str:
    return net.op("Gather", net.op("Shape", x), net.stored(np.array(axis)), axis=0)


def runtime_scale(net: Net, q: str, spelling: str) -> str:
    """1 / sqrt(d) from the shape of the queries, in the ways of several exporters."""
    depth = net.op("Cast", size_at_runtime(net, q, -1), to=TensorProto.FLOAT)
    if spelling == "pow":
        return net.op("Pow", depth, net.scalar(-0.5))
    if spelling == "reciprocal":
        return net.op("Reciprocal", net.op("Sqrt", depth))
    if spelling == "exp-log":  # arithmetic that the tracer does not follow
        return net.op("Exp", net.op("Mul", net.op("Log", depth), net.scalar(-0.5)))
    return net.op("Div", net.scalar(1.0), net.op("Sqrt", depth))


def rotate_halves(net: Net, x: str, depth: int) -> str:
    half, axis = net.ints(depth // 2), net.ints(3)
    front = net.op("Slice", x, net.ints(0), half, axis)
    back = net.op("Slice", x, half, net.ints(np.iinfo(np.int64).max), axis)
    return _rotated(net, x, net.op("Concat", net.op("Neg", back), front, axis=-1), depth)


def rotate_pairs(net: Net, x: str, depth: int) -> str:
    """The interleaved kind: (x0, x1, x2, x3) → (-x1, x0, -x3, x2)."""
    end, axis, step = net.ints(np.iinfo(np.int64).max), net.ints(3), net.ints(2)
    even, odd = (net.op("Slice", x, net.ints(k), end, axis, step) for k in range(2))
    last = net.ints(4)
    pairs = net.op("Concat", net.op("Unsqueeze", net.op("Neg", odd), last), net.op("Unsqueeze", even, last), axis=4)
    return _rotated(net, x, net.op("Reshape", pairs, net.ints(0, 0, 0, -1)), depth)


def _rotated(net: Net, x: str, turned: str, depth: int) -> str:
    cos, sin = (net.stored(net.random(1, 1, TOKENS, depth)) for _ in range(2))
    return net.op("Add", net.op("Mul", x, cos), net.op("Mul", turned, sin))
