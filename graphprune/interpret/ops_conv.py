"""Convolution and transposed convolution in one to three dimensions, with ONNX' paddings."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .registry import register

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], upper: bool
) -> list[int]:
    """Return pads (all begins, then all ends) for outputs of ceil(size / stride); ``upper``: the odd one at the end."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, strides, spans, strict=True)]
    less = [t // 2 for t in totals]
    more = [t - t // 2 for t in totals]
    return [*less, *more] if upper else [*more, *less]


def pads_of(
    auto_pad: str, pads: Sequence[int] | None, sizes: Sequence[int],
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
) -> list[int]:  # fmt: skip
    """Return the explicit pads: all begins, then all ends."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return same_pads(sizes, kernel, strides, dilations, auto_pad == "SAME_UPPER")
    return [0] * (2 * len(kernel)) if auto_pad == "VALID" or pads is None else list(pads)


def padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the spatial axes by ONNX pads."""
    half = len(pads) // 2
    widths = [n for k in reversed(range(half)) for n in (pads[k], pads[k + half])]
    return F.pad(x, widths, value=value)


@register("Conv")
def conv(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, auto_pad: str = "NOTSET", dilations: list[int] | None = None,
    group: int = 1, kernel_shape: list[int] | None = None, pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """Convolve x (N, C, *S) with w (M, C / group, *K)."""
    rank = x.dim() - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads_of(auto_pad, pads, x.shape[2:], w.shape[2:], strides, dilations)
    if pads[:rank] != pads[rank:]:
        x, pads = padded(x, pads), [0] * rank
    return _CONV[rank](x, w, b, strides, pads[:rank], dilations, group)


@register("ConvTranspose")
def conv_transpose(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, auto_pad: str = "NOTSET", dilations: list[int] | None = None,
    group: int = 1, kernel_shape: list[int] | None = None, output_padding: list[int] | None = None,
    output_shape: list[int] | None = None, pads: list[int] | None = None, strides: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """Convolve transposed: x (N, C, *S), w (C, M / group, *K).

    The whole output is computed and cut to what pads or ``output_shape`` leave of it, so pads may be uneven.
    """
    rank = x.dim() - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    extra = output_padding or [0] * rank
    if output_shape is None and auto_pad in ("NOTSET", "VALID") and (not pads or pads[:rank] == pads[rank:]):
        even = [0] * rank if not pads or auto_pad == "VALID" else pads[:rank]
        if all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
            return _TRANSPOSED[rank](x, w, b, strides, even, extra, group, dilations)
    full = _TRANSPOSED[rank](x, w, None, strides, 0, 0, group, dilations)
    full = padded(full, [0] * rank + extra)
    total = _trims(x, full, strides, auto_pad, pads, output_shape)
    for axis, (begin, end) in enumerate(zip(total[:rank], total[rank:], strict=True)):
        full = _trimmed(full, axis + 2, begin, end)
    return full if b is None else full + b.reshape(-1, *[1] * rank)


def _trimmed(x: Tensor, axis: int, begin: int, end: int) -> Tensor:
    """Cut entries off both ends, or add zeros where there are fewer than none to cut."""
    if begin < 0 or end < 0:
        widths = [0, 0] * (x.dim() - 1 - axis) + [max(-begin, 0), max(-end, 0)]
        x = F.pad(x, widths)
        begin, end = max(begin, 0), max(end, 0)
    return x.narrow(axis, begin, x.shape[axis] - begin - end)


def _trims(
    x: Tensor, full: Tensor, strides: list[int], auto_pad: str, pads: list[int] | None, output_shape: list[int] | None
) -> list[int]:
    """Return what to cut off the whole output: all begins, then all ends."""
    rank = len(strides)
    if output_shape is None and auto_pad in ("NOTSET", "VALID"):
        return [0] * (2 * rank) if pads is None or auto_pad == "VALID" else pads
    if output_shape is None:
        output_shape = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    totals = [n - m for n, m in zip(full.shape[2:], output_shape[-rank:], strict=True)]
    # What is missing is added at the end.
    less, more = [max(t, 0) // 2 for t in totals], [max(t, 0) - max(t, 0) // 2 for t in totals]
    begins = less if auto_pad == "SAME_UPPER" else more
    return [*begins, *(t - b for t, b in zip(totals, begins, strict=True))]
