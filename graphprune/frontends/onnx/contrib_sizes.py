"""Shapes and element types of what onnxruntime's own operators give: onnx does not infer them for that domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from .context import Context, Operation, Shape

Sizes = list[Shape] | None


def _same(c: Context) -> Sizes:
    return [c.shape()]


def _matmul(c: Context) -> Sizes:
    a, b = list(c.shape()), list(c.shape(1))
    if min(len(a), len(b)) < 2 or c.attrs.get("transBatchA") or c.attrs.get("transBatchB"):
        return None
    (m, k) = a[-2:][:: -1 if c.attrs.get("transA") else 1]
    (p, n) = b[-2:][:: -1 if c.attrs.get("transB") else 1]
    return [(*np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2])), m, n)] if k == p else None


def _skip_norm(c: Context) -> Sizes:
    shape = c.shape()
    statistics = (*shape[:-1], 1)
    return [shape, statistics, statistics, shape]


def _embed_norm(c: Context) -> Sizes:
    (batch, length), hidden = c.shape(), c.shape(2)[1]
    return [(batch, length, hidden), (batch,), (batch, length, hidden)]


def _packed_attention(c: Context) -> Sizes:
    """Output (batch, length, values), cache of keys and values (2, batch, heads, all lengths, depth)."""
    widths = c.attrs.get("qkv_hidden_sizes") or [c.shape(1)[1] // 3] * 3
    (batch, length), heads = c.shape()[:2], c.attrs["num_heads"]
    past = c.shape(4)[3] if c.has(4) else 0
    if c.attrs.get("past_present_share_buffer"):
        return None
    return [(batch, length, widths[2]), (2, batch, heads, past + length, widths[2] // heads)]


def _separate_attention(c: Context) -> Sizes:
    """Output (batch, length, values), caches of keys and of values (batch, heads, all lengths, depth)."""
    if not c.has(2) or c.rank(2) != 3 or c.rank(1) != 3:
        return None
    heads = c.attrs["num_heads"]
    past = c.shape(6)[2] if c.has(6) else 0
    batch, total = c.shape()[0], past + c.shape(1)[1]
    caches = [(batch, heads, total, c.shape(place)[2] // heads) for place in (1, 2)]
    return [(*c.shape()[:2], c.shape(2)[2]), *caches]


def _decoder_attention(c: Context) -> Sizes:
    heads = c.attrs["num_heads"]
    values = c.shape(2)[2] if c.rank(2) == 3 else c.shape(2)[1] * c.shape(2)[3]
    made: Sizes = [(*c.shape()[:2], values)]
    if c.has(5) and c.rank(1) == 3 and made is not None:
        shared = c.attrs.get("past_present_share_buffer", 0)
        total = c.shape(5)[2] + (0 if shared else c.shape(1)[1])
        made += [(c.shape()[0], heads, total, c.shape(place)[2] // heads) for place in (1, 2)]
    return made


def _halved(c: Context) -> Sizes:
    return [(*c.shape()[:-1], c.shape()[-1] // 2)]


SIZES: dict[str, Callable[[Context], Sizes]] = {
    "Attention": _packed_attention,
    "BiasAdd": _same,
    "BiasSplitGelu": _halved,
    "DecoderMaskedMultiHeadAttention": _decoder_attention,
    "EmbedLayerNormalization": _embed_norm,
    "FusedMatMul": _matmul,
    "GroupNorm": _same,
    "GroupQueryAttention": lambda c: [c.shape()] if c.has(1) else None,
    "MultiHeadAttention": _separate_attention,
    "PackedMultiHeadAttention": lambda c: [(c.shape()[0], c.shape(2)[1])] if c.has(2) and c.rank(2) == 2 else None,
    "RotaryEmbedding": _same,
    "SkipGroupNorm": lambda c: [c.shape(), c.shape()],
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "TransposeMatMul": _matmul,
}
"""Operator → the shapes of its outputs, None where they are not known."""
ALIKE = {
    **dict.fromkeys(["BiasGelu", "FastGelu", "Gelu", "QuickGelu"], "Gelu"),
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
    "SimplifiedLayerNormalization": "LayerNormalization",
}
"""Operators whose outputs have the shapes of a standard operator's."""


def output_types(node: Operation, types: Mapping[str, int]) -> list[int | None] | None:
    """Return the element types of a node's outputs one by one where they differ, None where one holds for all."""
    if node.op == "EmbedLayerNormalization":
        kind = types.get(node.inputs[2])
        return [kind, int(TensorProto.INT32), kind]
    return None
