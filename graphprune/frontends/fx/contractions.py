"""ATen operators that multiply and accumulate, in the families' terms."""

from __future__ import annotations

import math

from .context import Context, Lowering, Step
from .views import opaque


def _convolution(c: Context, groups: int, *, transposed: bool) -> list[Step]:
    """Lower a convolution over all axes behind the channels; a batch axis may be missing."""
    weight, batch = c.shape("weight"), "b " * (len(c.shape("input")) == len(c.shape("weight")))
    inner, outer = ("i o", "o") if transposed else ("o i", "o")
    if groups == 1:
        pattern, sizes, mended = f"{batch}i *s, {inner} *k, {outer} -> {batch}o *t", {}, {}
    else:
        first, second = weight[0] // groups, weight[1]
        sizes = {"g": groups, **({"i": first, "o": second} if transposed else {"o": first, "i": second})}
        stored = "(g i) o" if transposed else "(g o) i"
        pattern = f"{batch}(g i) *s, {stored} *k, (g o) -> {batch}(g o) *t"
        mended = {"groups": "g"}
    attrs = {
        "pattern": pattern, "sizes": sizes, "attributes": mended, "spatial": ("*s", "*k", "*t"),
        "uncounted": ("*t",) if transposed else ("*s",),
    }  # fmt: skip
    return c.by_argument("contraction", attrs, "input", "weight", "bias")


def _conv(c: Context) -> list[Step]:
    return _convolution(c, c.integer("groups", 1), transposed="transpose" in c.op or bool(c.args.get("transposed")))


def _linear(c: Context) -> list[Step]:
    out = "o" if len(c.shape("weight")) == 2 else ""
    pattern = f"*b i, {out} i, o -> *b {out}"
    return c.by_argument("contraction", {"pattern": pattern}, "input", "weight", "bias")


def matmul_pattern(left: int, right: int) -> str:
    """Return the pattern of a matrix product of two ranks."""
    a, b = {1: "k"}.get(left, "*b m k"), {1: "k"}.get(right, "*b k n")
    result = " ".join(["*b"] * (left > 1 or right > 1) + ["m"] * (left > 1) + ["n"] * (right > 1))
    return f"{a}, {b} -> {result}"


def _matmul(c: Context) -> list[Step]:
    a, b = c.tensors[:2]
    pattern = matmul_pattern(len(c.shape_of(a)), len(c.shape_of(b)))
    return c.one("contraction", {"pattern": pattern}, [a, b])


def _addmm(c: Context) -> list[Step]:
    bias = ["", "n", "m n"][len(c.shape())]
    return c.by_argument("contraction", {"pattern": f"m k, k n, {bias} -> m n"}, "mat1", "mat2", "self")


def _baddbmm(c: Context) -> list[Step]:
    left = c.name("batch1")
    assert left is not None
    product = c.temporary(c.out_shape(), left, "product")
    return [
        Step("contraction", {"pattern": "b m k, b k n -> b m n"}, (left, c.name("batch2")), (product,)),
        *c.one("elementwise", {"role": "producer"}, [product, c.name("self")]),
    ]


def _einsum(c: Context) -> list[Step]:
    equation = c.args["equation"].replace(" ", "")
    left, _, right = equation.partition("->")
    operands = left.split(",")
    if "->" not in equation:
        right = "".join(sorted(x for x in set(left) - {","} if left.count(x) == 1))
    if "." in equation or any(len(set(o)) != len(o) for o in operands):
        return opaque(c, f"einsum {equation!r} is not a plain contraction")
    spaced = ", ".join(" ".join(o) for o in operands)
    return c.one("contraction", {"pattern": f"{spaced} -> {' '.join(right)}"}, c.listed("tensors"))


def _attention(c: Context) -> list[Step]:
    """Scaled dot products of queries and keys, then sums of values."""
    queries, keys, values = c.shape("query"), c.shape("key"), c.shape("value")
    if not len(queries) == len(keys) == len(values) == 4 or queries[1] % max(keys[1], 1):
        rank = len(queries)
        rows = [*((0, k) for k in range(rank - 1)), (1, rank - 2)]
        macs = [[*rows, (0, rank - 1)], [*rows, (2, rank - 1)]]
        return opaque(c, f"attention over tensors of {rank} axes is not known to graphprune", macs)
    sizes = {"g": keys[1], "r": queries[1] // max(keys[1], 1), "d": queries[3], "e": values[3]}
    attrs = {
        "pattern": "b (g r) s d, b g t d, b g t e -> b (g r) s e", "sizes": sizes, "attributes": {},
        "scale": 1 / math.sqrt(queries[3]) if c.args.get("scale") is None else None, "depth_axis": 3,
    }  # fmt: skip
    mask = "attn_mask" if "attn_mask" in c.args else "attn_bias"
    return c.by_argument("attention", attrs, "query", "key", "value", mask)


def _recurrent(c: Context) -> list[Step]:
    """Recurrent layers freeze for now; their MACs count: every step multiplies both weights once."""
    first = len(c.tensors) - len([v for v in c.args["params"] if v is not None])
    weights = [k for k in range(first, len(c.tensors)) if len(c.shape_of(c.tensors[k])) == 2]
    steps = [(0, k) for k in range(len(c.shape_of(c.tensors[0])) - 1)]
    macs = [[*steps, (k, 0), (k, 1)] for k in weights]
    return opaque(c, f"hidden units of {c.op.upper()} are not pruned yet", macs)


CONTRACTIONS: dict[str, Lowering] = {
    **dict.fromkeys(
        ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution"], _conv
    ),
    "linear": _linear,
    **dict.fromkeys(["matmul", "mm", "bmm", "mv", "dot"], _matmul),
    "addmm": _addmm,
    "baddbmm": _baddbmm,
    "einsum": _einsum,
    **dict.fromkeys(["scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"], _attention),
    **dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], _recurrent),
}
"""Operators that cost multiply-accumulates → how they are lowered; their sizes must be known."""
