"""Steps of random models: operators that do much at once (attention, recurrence, onnxruntime's own) and lookups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import LARGEST, Fuzz, elements

CONTRIB = "com.microsoft"


def lookup(f: Fuzz) -> None:
    """Token embeddings, now and then used once more as the projection back (tied)."""
    ids = next((i.name for i in f.net.inputs if i.name == "ids"), "") or f.net.input(
        "batch" if f.dynamic else 1, 4, name="ids", dtype=7
    )
    v, c = f.pick(8, 2), f.pick(9, 1)
    table = f.net.weight(v, c)
    y = f.net.op("Gather", table, ids)
    f.new(y, 1, 4, c)
    if f.flip():
        f.new(f.net.op("MatMul", y, f.net.transpose(table, 1, 0)), 1, 4, v)


def _projected(f: Fuzz, *sizes: int) -> tuple[list[str], int, int]:
    """Tokens, projected to each of the sizes."""
    name, (_, t, c) = f.tokens()
    return [f.net.linear(name, c, size, bias=f.flip()) for size in sizes], t, c


def attention_operator(f: Fuzz) -> None:
    if f.net.opset < 23:
        return multi_head(f)
    pairs, repeat, d, e = f.pick(4, 1), f.pick(3, 1), f.pick(5, 1), f.pick(5, 1)
    heads = pairs * repeat
    qkv, t, _ = _projected(f, heads * d, pairs * d, pairs * e)
    scale = {"scale": 0.4} if f.flip() else {}
    causal = {"is_causal": 1} if f.flip() else {}
    if f.flip():
        y = f.net.op("Attention", *qkv, q_num_heads=heads, kv_num_heads=pairs, **scale, **causal)
    else:
        q, k, v = (
            f.net.transpose(f.net.reshape(x, f.batch, t, h, s), 0, 2, 1, 3)
            for x, h, s in zip(qkv, (heads, pairs, pairs), (d, d, e), strict=True)
        )
        y = f.net.transpose(f.net.op("Attention", q, k, v, **scale, **causal), 0, 2, 1, 3)
        y = f.net.reshape(y, f.batch, t, heads * e)
    f.new(y, 1, t, heads * e)
    return None


def multi_head(f: Fuzz) -> None:
    heads, d, e = f.pick(4, 1), f.pick(5, 1), f.pick(5, 1)
    qkv, t, _ = _projected(f, heads * d, heads * d, heads * e)
    bias = [f.net.vector(heads * (2 * d + e))] if f.flip() else []
    f.new(f.net.op("MultiHeadAttention", *qkv, *bias, num_heads=heads, domain=CONTRIB), 1, t, heads * e)


def packed(f: Fuzz) -> None:
    name, (_, t, c) = f.tokens()
    heads, d = f.pick(4, 1), f.pick(5, 1)
    weight, bias = f.weight(c, 3 * heads * d), f.net.vector(3 * heads * d)
    y = f.net.op("Attention", name, weight, bias, num_heads=heads, domain=CONTRIB)
    f.new(y, 1, t, heads * d)


def fused(f: Fuzz) -> None:
    """A node that onnxruntime's optimiser writes."""
    kind = f.choose("FusedMatMul", "FusedConv", "BiasGelu", "FastGelu", "Gelu", "QuickGelu")
    if kind == "FusedConv":
        name, (n, c, h, w) = f.map()
        d = f.pick(9, 1)
        y = f.net.op(kind, name, f.weight(d, c, 1, 1), f.net.vector(d), activation="Relu", domain=CONTRIB)
        f.new(y, n, d, h, w)
        return
    name, shape = f.any(2)
    if kind == "FusedMatMul":
        d, transposed = f.pick(9, 1), f.pick(2)
        weight = f.weight(*((d, shape[-1]) if transposed else (shape[-1], d)))
        y = f.net.op(kind, name, weight, alpha=0.5, transB=transposed, domain=CONTRIB)
        f.new(y, *shape[:-1], d)
    else:
        bias = [f.net.vector(shape[-1])] if kind == "BiasGelu" or (kind == "FastGelu" and f.flip()) else []
        f.new(f.net.op(kind, name, *bias, domain=CONTRIB), *shape)


def skip_norm(f: Fuzz) -> None:
    name, (n, t, c) = f.tokens()
    other = f.net.linear(name, c, c)
    simplified = f.flip()
    op, parameters = "SkipLayerNormalization", [f.net.vector(c), f.net.vector(c)]
    if simplified:
        op, parameters = "SkipSimplifiedLayerNormalization", parameters[:1]
    f.new(f.net.op(op, name, other, *parameters, epsilon=0.01, domain=CONTRIB), n, t, c)


def recurrent(f: Fuzz) -> None:
    """LSTM, GRU or RNN over tokens, in either direction or both; the sequence or the last state goes on."""
    name, (n, t, c) = f.tokens()
    op, gates = f.choose(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    direction, both = f.choose(("forward", 1), ("reverse", 1), ("bidirectional", 2))
    d = f.pick(6, 1)
    x = f.net.transpose(name, 1, 0, 2)
    weights = [f.net.weight(both, gates * d, c), f.net.weight(both, gates * d, d)]
    if f.flip():
        weights.append(f.net.stored(f.net.random(both, 2 * gates * d)))
    extra = {"linear_before_reset": f.pick(2)} if op == "GRU" else {}
    y, last = f.net.ops(op, x, *weights, outputs=2, hidden_size=d, direction=direction, **extra)
    if f.flip():
        y = f.net.reshape(f.net.transpose(y, 2, 0, 1, 3), f.batch, t, both * d)
        f.new(y, n, t, both * d)
    else:
        f.new(f.net.transpose(last, 1, 0, 2), n, both, d)


def chosen_positions(f: Fuzz) -> None:
    """Rows of a learned table added to tokens: a constant Gather, or positions counted by a slice."""
    name, shape = f.any(2)
    table = f.weight(shape[-2] + 2, shape[-1])
    index = f.net.ints(*(f.pick(shape[-2] + 2) for _ in range(shape[-2])))
    rows = f.net.op("Gather", table, index) if f.flip() else _front(f, table, shape[-2])
    if elements(*shape) <= LARGEST and (len(shape) > 2 or not f.dynamic):
        f.new(f.net.op("Add", name, rows), *shape)


def _front(f: Fuzz, table: str, rows: int) -> str:
    return f.net.op("Slice", table, f.net.ints(0), f.net.ints(rows), f.net.ints(0))


def made_of_constants(f: Fuzz) -> None:
    """A weight that a chain of nodes makes of stored ones."""
    name, shape = f.any(2)
    c, d = shape[-1], f.pick(6, 1)
    kind = f.pick(5)
    if kind == 0:
        weight = f.net.op("Concat", f.net.weight(c, d), f.net.weight(c, 1), axis=1)
        d += 1
    elif kind == 1:
        weight = f.net.op("Mul", f.net.weight(c, d), f.net.weight(1, d) if f.flip() else f.net.weight(c, 1))
    elif kind == 2:
        weight = f.net.reshape(f.net.stored(f.net.random(d * c)), c, d)
    elif kind == 3:
        weight = f.net.op("Cast", f.net.stored(f.net.random(c, d).astype(np.float16)), to=1)
    else:
        weight = f.net.op("Gather", f.net.weight(c + 1, d), f.net.ints(*f.draw_permutation(range(c + 1))[:c]))
    f.new(f.net.op("MatMul", name, weight), *shape[:-1], d)


OPERATORS: list[Callable[[Fuzz], None]] = [
    lookup, attention_operator, multi_head, packed, fused, skip_norm, recurrent, recurrent, chosen_positions,
    made_of_constants,
]  # fmt: skip
