"""Attention, rotary embedding and the key-value cache of opsets 23 and later."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .ops_elementwise import resolve
from .registry import register


def split_heads(x: Tensor, heads: int | None) -> Tensor:
    """Return (batch, heads, length, size) of a tensor that may be (batch, length, heads * size)."""
    if x.dim() == 4:
        return x
    assert heads is not None
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Return (batch, length, heads * size) of (batch, heads, length, size)."""
    return x.transpose(1, 2).flatten(2)


@register("Attention", several=True)
def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, lengths: Tensor | None = None, *, is_causal: int = 0,
    q_num_heads: int | None = None, kv_num_heads: int | None = None, scale: float | None = None, softcap: float = 0.0,
    qk_matmul_output_mode: int = 0, softmax_precision: Any = None, left_window_size: int = -1,
    right_window_size: int = -1, outputs: int, like: Tensor,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Attend: softmax(q k' scale + mask) v, with grouped heads, a cache, causal and windowed masks.

    Queries are (batch, heads, length, size) or (batch, length, heads * size). Returns the output in the same form, the
    keys and values with the past before them, and the scores at the stage asked for. The output is zero where a query
    may see nothing.
    """
    flat = q.dim() == 3
    q, k, v = split_heads(q, q_num_heads), split_heads(k, kv_num_heads), split_heads(v, kv_num_heads)
    offset: Any = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    elif lengths is not None:
        offset = lengths.reshape(-1, 1, 1, 1) - q.shape[2]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    repeats = q.shape[1] // k.shape[1]
    keys, values = (x.repeat_interleave(repeats, 1) if repeats > 1 else x for x in (k, v))
    raw = (q * math.sqrt(scale)) @ (keys * math.sqrt(scale)).transpose(2, 3)
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    window = (left_window_size, 0 if is_causal and right_window_size != 0 else right_window_size)
    bias = _bias(raw, mask, offset, lengths, window)
    scores = capped if bias is None else capped + bias
    dtype = raw.dtype if softmax_precision is None else resolve(softmax_precision, like)
    if bias is None:
        weights = torch.softmax(scores.to(dtype), -1).to(raw.dtype)
    else:  # a row of minus infinities has no softmax, nor a gradient
        blind = (bias == -math.inf).all(-1, keepdim=True)
        weights = torch.softmax(torch.where(blind, 0, scores).to(dtype), -1)
        weights = torch.where(blind, 0, weights).to(raw.dtype)
    y = weights @ values
    stage = (raw, capped, scores, weights)[qk_matmul_output_mode]
    return merge_heads(y) if flat else y, k, v, stage


def _bias(
    scores: Tensor, mask: Tensor | None, offset: Any, lengths: Tensor | None, window: tuple[int, int]
) -> Tensor | None:
    """Return what is added to the scores (batch, heads, queries, keys): minus infinity where nothing may be seen."""
    allowed: Tensor | None = None
    rows = torch.arange(scores.shape[2], device=scores.device)[:, None] + offset
    columns = torch.arange(scores.shape[3], device=scores.device)
    left, right = window
    if right >= 0:
        allowed = columns <= rows + right
    if left >= 0:
        allowed = _both(allowed, columns >= rows - left)
    if lengths is not None:
        allowed = _both(allowed, columns < lengths.reshape(-1, 1, 1, 1))
    if mask is not None:
        shorter = scores.shape[3] - mask.shape[-1]
        if mask.dtype == torch.bool:
            allowed = _both(allowed, F.pad(mask, (0, shorter)))
            mask = None
        else:
            mask = F.pad(mask, (0, shorter), value=-math.inf)
    if allowed is None:
        return mask
    bias = torch.zeros(allowed.shape, dtype=scores.dtype, device=scores.device).masked_fill(~allowed, -math.inf)
    return bias if mask is None else bias + mask


def _both(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a & b


@register("RotaryEmbedding")
def rotary_embedding(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None, *, interleaved: int = 0,
    num_heads: int = 0, rotary_embedding_dim: int = 0,
) -> Tensor:  # fmt: skip
    """Rotate pairs of entries of every head by the angles of their position."""
    flat = x.dim() == 3
    heads = split_heads(x, num_heads or None)
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    y = rotated(heads, cos.unsqueeze(1), sin.unsqueeze(1), rotary_embedding_dim or x.shape[-1] if not flat else
                rotary_embedding_dim or heads.shape[-1], bool(interleaved))  # fmt: skip
    return merge_heads(y) if flat else y


def rotated(x: Tensor, cos: Tensor, sin: Tensor, size: int, interleaved: bool) -> Tensor:
    """Rotate the first ``size`` entries of x (batch, heads, length, entries); the rest stays."""
    turning, rest = x[..., :size], x[..., size:]
    a, b = (turning[..., ::2], turning[..., 1::2]) if interleaved else turning.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    y = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    return torch.cat([y, rest], -1)


@register("TensorScatter")
def tensor_scatter(
    cache: Tensor, update: Tensor, starts: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """Write an update into a copy of a cache (batch, ...), at every sample's own place along an axis."""
    axis = axis % cache.dim()
    steps = torch.arange(update.shape[axis], device=cache.device)
    places = steps[None] if starts is None else steps + starts[:, None]
    places = places % cache.shape[axis] if mode == "circular" else places
    shape = [1] * cache.dim()
    shape[0], shape[axis] = places.shape
    return cache.scatter(axis, places.reshape(shape).expand(update.shape), update)
