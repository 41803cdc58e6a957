"""Attention as onnxruntime's own domain has it: packed projections, key masks, caches, rotary embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .ops_attention import merge_heads, rotated, split_heads
from .ops_contrib import DOMAIN
from .registry import register


def _weighed(q: Tensor, k: Tensor, v: Tensor, scale: float | None, mask: Tensor | None) -> Tensor:
    """Attend with (batch, heads, length, size); ``mask`` tells what may be seen, or is added."""
    scores = (q @ k.transpose(2, 3)) * (scale or 1 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    return merge_heads(torch.softmax(scores, -1) @ v)


def _key_mask(mask: Tensor | None, keys: int) -> Tensor | None:
    """Return what may be seen: from lengths (batch,), or ones and zeros (batch, keys), (batch, queries, keys), ..."""
    if mask is None:
        return None
    if mask.dim() == 1:
        return (torch.arange(keys, device=mask.device) < mask[:, None])[:, None, None]
    shape = {2: (slice(None), None, None), 3: (slice(None), None)}.get(mask.dim(), (slice(None),))
    return mask[shape] != 0


def _together(bias: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if bias is None or mask is None:
        return bias if mask is None else mask
    return torch.where(mask, bias, torch.full((), torch.finfo(dtype).min, dtype=dtype, device=bias.device))


def _causal(queries: int, keys: int, like: Tensor) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool, device=like.device).tril(keys - queries)


@register("MultiHeadAttention", DOMAIN, several=True)
def multi_head_attention(
    q: Tensor, k: Tensor | None = None, v: Tensor | None = None, bias: Tensor | None = None, mask: Tensor | None = None,
    attention_bias: Tensor | None = None, past_key: Tensor | None = None, past_value: Tensor | None = None, *,
    num_heads: int, scale: float | None = None, mask_filter_value: float = -10000.0, unidirectional: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Attend with projected queries, keys and values, (batch, length, heads * size), or packed ones."""
    if k is None:
        q, k, v = q.unbind(3) if q.dim() == 5 else q.chunk(3, -1)
        q, k, v = q.flatten(2), k.flatten(2), v.flatten(2)
    elif v is None:
        k, v = (x.flatten(2) for x in k.unbind(3))
    if bias is not None:
        qb, kb, vb = bias.split([q.shape[-1], q.shape[-1], bias.shape[0] - 2 * q.shape[-1]])
        q, k, v = q + qb, k + kb if k.dim() == 3 else k, v + vb if v.dim() == 3 else v
    heads_q, heads_k, heads_v = (split_heads(x, num_heads) for x in (q, k, v))
    if past_key is not None and past_value is not None:
        heads_k, heads_v = torch.cat([past_key, heads_k], 2), torch.cat([past_value, heads_v], 2)
    visible = _key_mask(mask, heads_k.shape[2])
    if unidirectional:
        causal = _causal(heads_q.shape[2], heads_k.shape[2], q)
        visible = causal if visible is None else visible & causal
    seen = _together(attention_bias, visible, q.dtype)
    return _weighed(heads_q, heads_k, heads_v, scale, seen), heads_k, heads_v


@register("Attention", DOMAIN, several=True)
def packed_attention(
    x: Tensor, w: Tensor, bias: Tensor | None = None, mask: Tensor | None = None, past: Tensor | None = None,
    attention_bias: Tensor | None = None, *, num_heads: int, qkv_hidden_sizes: list[int] | None = None,
    scale: float | None = None, unidirectional: int = 0, mask_filter_value: float = -10000.0, do_rotary: int = 0,
    past_present_share_buffer: int = 0, rotary_embedding_dim: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Project x (batch, length, hidden) to queries, keys and values by one matrix, and attend."""
    projected = x @ w if bias is None else x @ w + bias
    q, k, v = projected.split(qkv_hidden_sizes or [w.shape[1] // 3] * 3, -1)
    q, k, v = (split_heads(t, num_heads) for t in (q, k, v))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    visible = _key_mask(mask, k.shape[2])
    if unidirectional:
        causal = _causal(q.shape[2], k.shape[2], x)
        visible = causal if visible is None else visible & causal
    present = torch.stack([k, v]) if k.shape == v.shape else k
    return _weighed(q, k, v, scale, _together(attention_bias, visible, x.dtype)), present


@register("RotaryEmbedding", DOMAIN)
def rotary_embedding(
    x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, *, interleaved: int = 0, num_heads: int = 0,
    rotary_embedding_dim: int = 0, is_packed_batching: int = 0, scale: float = 1.0,
) -> Tensor:  # fmt: skip
    """Rotate pairs of entries of every head by the angles of their position; one position stands for the first."""
    flat = x.dim() == 3
    size = rotary_embedding_dim or 2 * cos.shape[-1]
    heads = split_heads(x, num_heads or (x.shape[-1] // size if flat else None))
    if positions.numel() == 1:
        positions = positions.reshape(1, 1) + torch.arange(heads.shape[2], device=x.device)
    y = rotated(heads, cos[positions].unsqueeze(1), sin[positions].unsqueeze(1), size, bool(interleaved))
    return merge_heads(y) if flat else y
