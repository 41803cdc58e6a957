"""Operators of onnxruntime's own domain, which its optimisers write, in the families' terms.

What a fused operator does is what the operators do that it stands for: their patterns are put together here. Where it
cannot be said (packed keys and values, transposed batches), the operator is opaque, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .onnx_context import Context, Shape

Lowered = tuple[str, dict[str, Any]]
DOMAIN = "com.microsoft"


def _opaque(c: Context, why: str) -> Lowered:
    return "opaque", {"reason": f"{c.node.op} with {why} is not pruned"}


def fused_conv(plain: Callable[[Context], Lowered]) -> Callable[[Context], Lowered]:
    """Return how a convolution with an activation is lowered, and with a fourth input that is added before that."""

    def lower(c: Context) -> Lowered:
        family, attrs = plain(c)
        left, right = attrs["pattern"].split(" -> ")
        return family, {**attrs, "pattern": f"{left}, {right} -> {right}"}

    return lower


def fused_matmul(c: Context) -> Lowered:
    """Matrix product with either side transposed."""
    if c.attrs.get("transBatchA") or c.attrs.get("transBatchB"):
        return _opaque(c, "transposed batches")
    if min(c.rank(0), c.rank(1)) < 2:
        return _opaque(c, "a vector")
    a = "*b k m" if c.attrs.get("transA") else "*b m k"
    b = "*b n k" if c.attrs.get("transB") else "*b k n"
    return "contraction", {"pattern": f"{a}, {b} -> *b m n"}


def skip_norm(simplified: bool) -> Callable[[Context], Lowered]:
    """Return how a layer norm of a sum is lowered; its last output is the sum itself."""
    parameters = ["d", "d"] if simplified else ["d", "d", "d"]

    def lower(c: Context) -> Lowered:
        results = ["*b d", "*b 1", "*b 1", "*b d"]
        there = [k for k, name in enumerate(c.node.outputs) if name]
        pattern = f"{', '.join(['*b d', '*b d', *parameters])} -> {', '.join(results[k] for k in there)}"
        returned = [place for place, k in enumerate(there) if k in (1, 2)]
        return "norm", {"pattern": pattern, "statistics": ("d",), "scale": 2, "returned": returned}

    return lower


def multi_head_attention(c: Context) -> Lowered:
    """Attention of projected queries, keys and values, each with its heads folded into the last axis."""
    if not (c.has(1) and c.has(2)) or {c.rank(k) for k in range(3)} != {3}:
        return _opaque(c, "packed or cached keys and values")
    return "attention", _folded_heads(c, c.attrs["num_heads"], c.attrs["num_heads"]) | {
        "attributes": {"num_heads": "(g r)"}, "bias": 3, "mask": 5, "caches": (6, 7),
    }  # fmt: skip


def grouped_query_attention(c: Context) -> Lowered:
    """Attention in which several query heads share a head of keys and values; caches come with the input.

    Depths are multiples of 8 or 16 to its kernels, so they stay whole.
    """
    if not (c.has(1) and c.has(2)) or {c.rank(k) for k in range(3)} != {3}:
        return _opaque(c, "packed keys and values")
    heads, pairs = c.attrs["num_heads"], c.attrs["kv_num_heads"]
    return "attention", _folded_heads(c, heads, pairs) | {
        "attributes": {"num_heads": "(g r)", "kv_num_heads": "g"}, "mask": None, "caches": (3, 4),
        "whole_depth": True,
    }  # fmt: skip


def _folded_heads(c: Context, heads: int, pairs: int) -> dict[str, Any]:
    depth, value_depth = c.shape(0)[2] // heads, c.shape(2)[2] // pairs
    return {
        "pattern": "b s (g r d), b t (g d), b t (g e) -> b s (g r e)",
        "sizes": {"g": pairs, "r": heads // pairs, "d": depth, "e": value_depth},
        "scale": None if c.attrs.get("scale") else float(1 / np.sqrt(depth)),
        "depth_axis": 2,
    }


def packed_attention(c: Context) -> Lowered:
    """Attention that projects its input by one matrix to queries, keys and values: whole heads."""
    heads, hidden = c.attrs["num_heads"], c.shape(1)[1] // 3
    sizes = list(c.attrs.get("qkv_hidden_sizes") or [hidden] * 3)
    if c.has(4) or len([name for name in c.node.outputs if name]) > 1:
        return _opaque(c, "a cache")
    return "packed attention", {
        "pattern": "b s i, i n, n -> b s m",
        "heads": heads,
        "depths": tuple(n // heads for n in sizes),
        "scale": None if c.attrs.get("scale") else float(1 / np.sqrt(sizes[0] // heads)),
        "listed": "qkv_hidden_sizes" in c.attrs,
    }


# Shapes of outputs, which onnx does not infer for this domain ---------------------------------------------------------


def _matmul_sizes(c: Context) -> list[Shape] | None:
    a, b = list(c.shape()), list(c.shape(1))
    if min(len(a), len(b)) < 2 or c.attrs.get("transBatchA") or c.attrs.get("transBatchB"):
        return None
    (m, k) = a[-2:][:: -1 if c.attrs.get("transA") else 1]
    (p, n) = b[-2:][:: -1 if c.attrs.get("transB") else 1]
    return [(*np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2])), m, n)] if k == p else None


def _skip_norm_sizes(c: Context) -> list[Shape] | None:
    shape = c.shape()
    statistics = (*shape[:-1], 1)
    return [shape, statistics, statistics, shape]


def _projected_sizes(c: Context) -> list[Shape] | None:
    width = (c.attrs.get("qkv_hidden_sizes") or [c.shape(1)[1] // 3])[-1]
    return [(*c.shape()[:2], width)]


def _separate_sizes(c: Context) -> list[Shape] | None:
    return [(*c.shape()[:2], c.shape(2)[2])] if c.has(2) and c.rank(2) == 3 else None


SIZES: dict[str, Callable[[Context], list[Shape] | None]] = {
    "Attention": _projected_sizes,
    "FusedMatMul": _matmul_sizes,
    "GroupQueryAttention": lambda c: [c.shape()] if c.has(1) else None,
    "MultiHeadAttention": _separate_sizes,
    "SkipLayerNormalization": _skip_norm_sizes,
    "SkipSimplifiedLayerNormalization": _skip_norm_sizes,
}
"""Operator → the shapes of its outputs, None where they are not known."""
ALIKE = {
    **dict.fromkeys(["BiasGelu", "FastGelu", "Gelu", "QuickGelu"], "Gelu"),
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
    "SimplifiedLayerNormalization": "LayerNormalization",
}
"""Operators whose outputs have the shapes of a standard operator's."""
