"""Pooling, with ONNX' paddings and both roundings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .ops_conv import padded, pads_of
from .registry import register

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@register("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """Average all spatial axes, which stay with size one."""
    return x.mean([*range(2, x.dim())], keepdim=True)


@register("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """Take the largest of all spatial axes, which stay with size one."""
    return x.amax([*range(2, x.dim())], keepdim=True)


@register("GlobalLpPool")
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """Take the p-norm over all spatial axes, which stay with size one."""
    return x.abs().pow(p).sum([*range(2, x.dim())], keepdim=True).pow(1 / p)


@dataclass(frozen=True)
class Window:
    """How a window moves over the spatial axes; ``extra`` entries at the ends let the rounding up fit."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    extra: list[int]

    @property
    def plain(self) -> bool:
        """Tell whether torch can do the padding: the same on both sides, at most half a window, nothing extra."""
        rank = len(self.kernel)
        even = self.pads[:rank] == self.pads[rank:] and not any(self.extra)
        return even and all(2 * p <= k for p, k in zip(self.pads[:rank], self.kernel, strict=True))

    @property
    def all_pads(self) -> list[int]:
        """Return the pads with the extra entries at the ends."""
        rank = len(self.kernel)
        ends = [p + e for p, e in zip(self.pads[rank:], self.extra, strict=True)]
        return [*self.pads[:rank], *ends]


def window_of(
    x: Tensor, kernel: list[int], strides: list[int] | None, dilations: list[int] | None, pads: list[int] | None,
    auto_pad: str, ceil_mode: int,
) -> Window:  # fmt: skip
    """Return the window over x (N, C, *S) that a pooling node describes."""
    rank = len(kernel)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads_of(auto_pad, pads, x.shape[2:], kernel, strides, dilations)
    extra = [0] * rank
    for k in range(rank if ceil_mode else 0):
        span = (kernel[k] - 1) * dilations[k] + 1
        room = x.shape[2 + k] + pads[k] + pads[k + rank] - span
        steps = -(-room // strides[k])
        if steps * strides[k] >= x.shape[2 + k] + pads[k]:  # a last window wholly in the padding does not count
            steps -= 1
        extra[k] = max(steps * strides[k] - room, 0)
    return Window(kernel, strides, dilations, pads, extra)


@register("MaxPool", several=True)
def max_pool(
    x: Tensor, *, kernel_shape: list[int], strides: list[int] | None = None, dilations: list[int] | None = None,
    pads: list[int] | None = None, auto_pad: str = "NOTSET", ceil_mode: int = 0, storage_order: int = 0, outputs: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Take the largest entry of every window, and where it lies if that is an output."""
    if not x.is_floating_point():
        y = max_pool(
            x.to(torch.float64), kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads,
            auto_pad=auto_pad, ceil_mode=ceil_mode, storage_order=storage_order, outputs=outputs,
        )  # fmt: skip
        return y[0].to(x.dtype), *y[1:]
    rank = len(kernel_shape)
    window = window_of(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    if window.plain and outputs == 1:
        return (_MAX[rank](x, kernel_shape, window.strides, window.pads[:rank], window.dilations),)
    pads = window.all_pads
    padded_x = padded(x, pads, float("-inf"))
    if outputs == 1:
        return (_MAX[rank](padded_x, kernel_shape, window.strides, 0, window.dilations),)
    y, index = _MAX[rank](padded_x, kernel_shape, window.strides, 0, window.dilations, return_indices=True)
    return y, _flat_index(index, x, list(padded_x.shape[2:]), pads[:rank], storage_order)


def _flat_index(index: Tensor, x: Tensor, sizes: list[int], begins: list[int], column_major: int) -> Tensor:
    """Turn indices into one padded map into indices into the whole of x."""
    places = []
    for n, begin in zip(reversed(sizes), reversed(begins), strict=True):
        places.append(index % n - begin)
        index = index // n
    within = torch.zeros_like(index)
    order = zip(
        places if column_major else reversed(places), x.shape[:1:-1] if column_major else x.shape[2:], strict=True
    )
    for place, n in order:
        within = within * n + place
    maps = torch.arange(x.shape[0] * x.shape[1], device=x.device) * x.shape[2:].numel()
    return within + maps.reshape(x.shape[0], x.shape[1], *[1] * (x.dim() - 2))


@register("AveragePool")
def average_pool(
    x: Tensor, *, kernel_shape: list[int], strides: list[int] | None = None, dilations: list[int] | None = None,
    pads: list[int] | None = None, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
) -> Tensor:  # fmt: skip
    """Average every window, over its entries that are in the image (or in the padding, with ``count_include_pad``)."""
    rank = len(kernel_shape)
    window = window_of(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    if window.plain and set(window.dilations) == {1}:
        return _AVERAGE[rank](x, kernel_shape, window.strides, window.pads[:rank], False, bool(count_include_pad))
    ones = torch.ones_like(x[:1, :1])
    inside = padded(padded(ones, window.pads, 1.0 if count_include_pad else 0.0), [0] * rank + window.extra)
    return _window_sum(padded(x, window.all_pads), window) / _window_sum(inside, window)


def _window_sum(x: Tensor, window: Window) -> Tensor:
    """Add up every window of a padded x (N, C, *S), each channel by itself."""
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(window.kernel)]
    ones = torch.ones([1, 1, *window.kernel], dtype=x.dtype, device=x.device)
    y = convolve(x.reshape(-1, 1, *x.shape[2:]), ones, None, window.strides, 0, window.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


@register("LpPool")
def lp_pool(
    x: Tensor, *, kernel_shape: list[int], p: int = 2, strides: list[int] | None = None,
    dilations: list[int] | None = None, pads: list[int] | None = None, auto_pad: str = "NOTSET", ceil_mode: int = 0,
) -> Tensor:  # fmt: skip
    """Take the p-norm of every window."""
    window = window_of(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return _window_sum(padded(x.abs().pow(p), window.all_pads), window).pow(1 / p)


@register("MaxUnpool", host=["output_shape"])
def max_unpool(
    x: Tensor, index: Tensor, output_shape: list[int] | None = None, *, kernel_shape: list[int],
    strides: list[int] | None = None, pads: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """Put entries back where max pooling took them from; the rest is zero."""
    rank = len(kernel_shape)
    strides, pads = strides or [1] * rank, pads or [0] * (2 * rank)
    smallest = [
        (n - 1) * s + k - pads[a] - pads[a + rank]
        for a, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel_shape, strict=True))
    ]
    y = x.new_zeros([*x.shape[:2], *smallest]).flatten().scatter(0, index.flatten(), x.flatten())
    y = y.reshape(*x.shape[:2], *smallest)
    if output_shape is None:
        return y
    return padded(y, [0] * rank + [n - m for n, m in zip(output_shape[2:], smallest, strict=True)])
