"""Fourier transforms of signals."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .ops_elementwise import resolve
from .registry import register


def _number(value: Any) -> int | None:
    if value is None:
        return None
    return int(value[0] if isinstance(value, list) else value)


def _transform(x: Tensor, length: int | None, axis: int, inverse: int, onesided: int) -> Tensor:
    """Transform x (..., 1 or 2): real, or real and imaginary parts; an inverse onesided one is real again."""
    values = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]
    if inverse and onesided:
        return torch.fft.irfft(values, length, axis)[..., None]
    if inverse:
        return torch.view_as_real(torch.fft.ifft(values, length, axis))
    if onesided:
        return torch.view_as_real(torch.fft.rfft(values, length, axis))
    return torch.view_as_real(torch.fft.fft(values, length, axis))


@register("DFT", since=20, host=["dft_length", "axis"])
def dft(x: Tensor, dft_length: Any = None, axis: Any = None, *, inverse: int = 0, onesided: int = 0) -> Tensor:
    """Transform along an axis, cut or padded to a length."""
    axis = -2 if axis is None else _number(axis)
    return _transform(x, _number(dft_length), int(axis or 0) % x.dim(), inverse, onesided)


@register("DFT", host=["dft_length"])
def dft_17(x: Tensor, dft_length: Any = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Tensor:
    """Transform along an axis, as before opset 20."""
    return _transform(x, _number(dft_length), axis % x.dim(), inverse, onesided)


@register("STFT", host=["frame_step", "frame_length"], fixed=["window"])
def stft(
    x: Tensor, frame_step: Any, window: Tensor | None = None, frame_length: Any = None, *, onesided: int = 1
) -> Tensor:
    """Transform windows of a signal (batch, length, 1 or 2): (batch, frames, frequencies, 2)."""
    size = (
        _number(frame_length) if frame_length is not None else (window.shape[0] if window is not None else x.shape[1])
    )
    frames = x.unfold(1, int(size or 1), int(_number(frame_step) or 1)).transpose(2, 3)
    if window is not None:
        frames = frames * window[:, None]
    return _transform(frames, None, 2, 0, onesided)


def _register_window(name: str, weights: tuple[float, ...]) -> None:
    """Register a window: a sum of cosines, alternating in sign; periodic, or symmetric."""

    @register(name, host=["size"])
    def window(size: Any, *, output_datatype: Any = "main", periodic: int = 1, like: Tensor) -> Tensor:
        count = int(_number(size) or 0)
        angle = 2 * math.pi * torch.arange(count, device=like.device, dtype=torch.float64)
        angle = angle / (count if periodic else max(count - 1, 1))
        terms = [(-1) ** k * w * torch.cos(k * angle) for k, w in enumerate(weights)]
        total: Tensor = torch.stack(terms).sum(0)
        return total.to(resolve(output_datatype, like))

    window.__name__ = window.__qualname__ = name


for _name, _weights in {
    "HannWindow": (0.5, 0.5), "HammingWindow": (25 / 46, 21 / 46), "BlackmanWindow": (0.42, 0.5, 0.08),
}.items():  # fmt: skip
    _register_window(_name, _weights)
