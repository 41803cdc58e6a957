"""Operators of onnxruntime's own domain, which its optimisers write, in the families' terms.

What a fused operator does is what the operators do that it stands for: their patterns are put together here. Where it
cannot be said (packed keys and values, transposed batches), the operator is opaque, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .context import Context

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
    return "packed attention", {
        "pattern": "b s i, i n, n -> b s m",
        "heads": heads,
        "depths": tuple(n // heads for n in sizes),
        "scale": None if c.attrs.get("scale") else float(1 / np.sqrt(sizes[0] // heads)),
        "listed": "qkv_hidden_sizes" in c.attrs,
    }


def decoder_attention(c: Context) -> Lowered:
    """Attention of one position to a cache (DecoderMaskedMultiHeadAttention): the cache keeps all heads whole."""
    caches = [k for k, name in enumerate(n for n in c.node.outputs if n) if k in (1, 2)]
    places = [len(c.node.inputs) + k for k in caches] or [k for k in (1, 2) if c.has(k) and c.rank(k) == 4]
    macs = [[(0, 0), (0, 1), (0, 2), (place, 2)] for place in places]
    return "opaque", {"reason": f"{c.node.op} reads and writes a cache", "macs": macs}


def on_gpus_only(c: Context) -> Lowered:
    """Freeze what has no kernel for processors: the result could not be checked."""
    return "opaque", {"reason": f"{c.node.op} runs on GPUs only, where nothing is checked"}


# Positions and embeddings ---------------------------------------------------------------------------------------------


def embed_norm(c: Context) -> Lowered:
    """Look embeddings up, add and normalise them."""
    return "normalised lookup", {}


def rotary(c: Context, tables: tuple[int, int] = (2, 3)) -> Lowered:
    """Turn the pairs of every head by the angles of its position; its size may be the tables'."""
    folded = c.rank() == 3
    turned = c.attrs.get("rotary_embedding_dim") or 2 * c.shape(tables[0])[-1]
    given = c.attrs.get("num_heads", 0)
    heads = (given or c.shape()[2] // turned) if folded else c.shape()[1]
    attributes = {"num_heads": "heads"} if given else {}
    if c.attrs.get("rotary_embedding_dim"):
        attributes["rotary_embedding_dim"] = "turned"
    return "rotary", {
        "heads": heads,
        "depth": c.shape()[2] // heads if folded else c.shape()[3],
        "turned": turned,
        "interleaved": bool(c.attrs.get("interleaved", 0)),
        "tables": tables,
        "attributes": attributes,
    }


def standard_rotary(c: Context) -> Lowered:
    """As ``rotary``; the operator of opset 23 has its tables before the positions."""
    return rotary(c, (1, 2))
