"""Steps of random models: what works on tensors of any rank, elementwise, contracting or reducing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import LARGEST, Fuzz, Shape, elements

ACTIVATIONS = (
    "Relu", "Sigmoid", "HardSigmoid", "Tanh", "Cos", "Softplus", "Identity", "Neg", "Abs", "Erf", "LeakyRelu", "Elu",
    "Clip",
)  # fmt: skip


def activation(f: Fuzz) -> None:
    name, shape = f.any(1)
    f.new(f.net.op(f.choose(*ACTIVATIONS), name), *shape)


def with_constant(f: Fuzz) -> None:
    """An elementwise node with a constant of any rank that broadcasts, on either side."""
    name, shape = f.any(1)
    rank = f.pick(len(shape) + 1)
    other = tuple(f.choose(1, n) for n in shape[len(shape) - rank :])
    op = f.choose("Add", "Mul", "Sub", "Max", "Div", "Where")
    if op == "Div":  # a masked divisor is no reference
        other = (1,) * rank
    constant = f.net.stored(f.net.rng.uniform(0.5, 1.5, other).astype(np.float32))
    if op == "Where":
        mask = f.net.stored(f.net.rng.integers(0, 2, other).astype(bool))
        y = f.net.op("Where", mask, *f.choose((name, constant), (constant, name)))
    else:
        y = f.net.op(op, *((name, constant) if op == "Div" or f.flip() else (constant, name)))
    f.new(y, *shape)


def together(f: Fuzz) -> None:
    """An elementwise node with another tensor of the same rank that broadcasts, or with itself."""
    name, shape = f.any(1)
    mates = [v for v in f.pool if len(v[1]) == len(shape) and _broadcasts(v[1], shape)]
    other, theirs = f.choose((name, shape), *mates)
    made = np.broadcast_shapes(shape, theirs)
    if elements(*made) <= LARGEST:
        f.unused.pop(other, None)
        f.new(f.net.op(f.choose("Add", "Mul", "Max", "Sub"), *f.choose((name, other), (other, name))), *made)


def _broadcasts(a: Shape, b: Shape) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(a, b, strict=True))


def matmul(f: Fuzz) -> None:
    """A product with a weight of any rank, on either side."""
    name, shape = f.any(2)
    d, stack = f.pick(7, 1), tuple(f.choose(1, n) for n in shape[1:-2])
    kind = f.pick(4 if len(shape) > 2 else 2)
    if kind == 1:
        if len(shape) > 2 or not f.dynamic:
            f.new(f.net.op("MatMul", name, f.weight(shape[-1])), *shape[:-1])
    elif kind == 2:
        f.new(f.net.op("MatMul", f.weight(*f.choose(stack, ()), d, shape[-2]), name), *shape[:-2], d, shape[-1])
    else:
        stacked = f.weight(*(stack if kind == 3 else ()), shape[-1], d)
        f.new(f.net.op("MatMul", name, stacked), *shape[:-1], d)


def product(f: Fuzz) -> None:
    """A product of two tensors of the graph, as MatMul or Einsum."""
    name, shape = f.take(lambda s: len(s) in (3, 4)) or f.tokens()
    other = f.net.linear(name, shape[-1], shape[-1])  # zero where it is removed, so that zeros are the reference
    if f.flip() and f.net.opset >= 12 and len(shape) == 3:
        y = f.net.op("Einsum", name, other, equation=f.choose("bsd,btd->bst", "bsd,btd->bts"))
    else:
        perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        y = f.net.op("MatMul", name, f.net.transpose(other, *perm))
    f.new(y, *shape[:-1], shape[-2])


def einsum(f: Fuzz) -> None:
    """A weight used by letters: plainly, per head (a letter that is kept), or from the left."""
    name, (n, t, c) = f.tokens()
    if f.net.opset < 12:
        return
    h, d = f.pick(4, 1), f.pick(5, 1)
    equation, weight, made = f.choose(
        ("btc,cd->btd", (c, d), (t, d)),
        ("btc,chd->bthd", (c, h, d), (t, h, d)),
        ("btc,chd->bhtd", (c, h, d), (h, t, d)),
        ("btc,hcd->bhtd", (h, c, d), (h, t, d)),
        ("btc,td->bcd", (t, d), (c, d)),
        ("btc,cd->bdt", (c, d), (d, t)),
        ("btc,tc->btc", (t, c), (t, c)),
        ("btc,tcd->bd", (t, c, d), (d,)),
    )
    f.new(f.net.op("Einsum", name, f.weight(*weight), equation=equation), n, *made)


def reduce(f: Fuzz) -> None:
    name, shape = f.any(2)
    axes = f.some(range(1, len(shape)), least=1)
    op = f.choose("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare")
    kept = f.pick(2)
    y = f.axes(name, op, *axes, since=13 if op == "ReduceSum" else 18, keepdims=kept)
    made = [1 if k in axes else s for k, s in enumerate(shape) if kept or k not in axes]
    if kept and f.flip():
        f.new(f.net.op("Mul", y, name), *shape)
    else:
        f.new(y, *made)


def softmax(f: Fuzz) -> None:
    name, shape = f.any(2)
    f.new(f.net.op(f.choose("Softmax", "LogSoftmax"), name, axis=f.pick(len(shape), 1)), *shape)


def layer_norm(f: Fuzz) -> None:
    """Over the last axes; as an operator, or spelled out."""
    name, shape = f.any(2)
    axis = f.pick(len(shape), 1)
    inner = shape[axis:]
    if f.net.opset >= 17 and f.flip():
        gamma, beta = f.net.stored(f.net.random(*inner)), f.net.stored(f.net.random(*inner))
        y = f.net.op("LayerNormalization", name, gamma, beta, axis=axis - len(shape) * f.pick(2))
    else:
        axes = list(range(axis, len(shape)))
        centred = f.net.op("Sub", name, f.axes(name, "ReduceMean", *axes, since=18))
        spread = f.axes(f.net.op("Mul", centred, centred), "ReduceMean", *axes, since=18)
        y = f.net.op("Div", centred, f.net.op("Sqrt", f.net.op("Add", spread, f.net.scalar(0.1))))
    y = f.net.linear(y, shape[-1], shape[-1])
    f.new(f.net.op("Add", y, name) if f.flip() else y, *shape)


def candidates(f: Fuzz) -> None:
    """What compares along an axis: CumSum, TopK, ArgMax."""
    name, shape = f.any(2)
    axis = f.pick(len(shape), 1)
    if f.flip() and f.net.opset >= 11:
        f.new(f.net.op("CumSum", name, f.net.stored(np.array(axis))), *shape)
    else:
        k = f.pick(shape[axis] + 1, 1)
        y = f.net.ops("TopK", name, f.net.ints(k), outputs=2, axis=axis)[0]
        f.new(y, *shape[:axis], k, *shape[axis + 1 :])


def linear(f: Fuzz) -> None:
    name, shape = f.any(2)
    out = f.pick(17, 2)
    f.new(f.net.linear(name, shape[-1], out, bias=f.flip()), *shape[:-1], out)


BROADCASTS: list[Callable[[Fuzz], None]] = [
    activation, with_constant, with_constant, together, together, linear, matmul, matmul, product, einsum, reduce,
    softmax, layer_norm, candidates,
]  # fmt: skip
