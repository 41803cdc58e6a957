"""Images that are none, but have what natural ones have in common: a spectrum that falls as 1/f, and grey colours.

The amplitude of natural images falls with frequency f as f^-a, a near 1 (Field 1987; Ruderman and Bialek 1994), and
most of their variance is brightness, less yellow against blue, least red against green (Ruderman, Cronin and Chiao
1998). Phases are random: there are no edges and no things.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..folding.operands import Operands
from ..graph import Graph

Range = Literal["standardised", "from 0 to 1", "bytes"]
COLOURS = np.array([[0.577, 0.577, 0.577], [0.408, 0.408, -0.816], [0.707, -0.707, 0.0]])
"""Brightness, yellow against blue, red against green."""
SPREAD = np.array([1.0, 0.28, 0.13])
"""Their standard deviations, relative to the first."""
AT_ONCE = 32


def natural(count: int, channels: int, sides: tuple[int, int], stream: np.random.Generator) -> NDArray[np.float32]:
    """Return images of mean 0 and variance about 1 over all of them, shape (count, channels, height, width)."""
    made = np.empty((count, channels, *sides), np.float32)
    for first in range(0, count, AT_ONCE):
        part = made[first : first + AT_ONCE]
        part[...] = _some(len(part), channels, sides, stream)
    return np.asarray(np.clip(made, -2.1, 2.6), np.float32)


def _some(count: int, channels: int, sides: tuple[int, int], stream: np.random.Generator) -> NDArray[np.float64]:
    height, width = sides
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # the mean is drawn by itself
    slope = stream.uniform(0.8, 1.4, (count, 1, 1, 1))
    noise = stream.standard_normal((count, channels, height, width))
    spectrum = np.fft.rfft2(noise) * frequency**-slope
    plain = np.fft.irfft2(spectrum, s=sides)
    plain /= plain.std(axis=(2, 3), keepdims=True) + 1e-12
    contrast = stream.uniform(0.4, 1.2, (count, 1, 1, 1))
    plain = contrast * plain + 0.5 * stream.standard_normal((count, channels, 1, 1))
    if channels == 1:
        return np.asarray(plain)
    scaled = plain * SPREAD[:, None, None]
    mixed = np.einsum("nkhw,kc->nchw", scaled, COLOURS)
    return np.asarray(mixed / np.sqrt(np.square(SPREAD) @ np.square(COLOURS)).reshape(1, -1, 1, 1))


def as_fed(images: NDArray[np.float32], wanted: Range) -> NDArray[np.float32]:
    """Return images in the range that a model is fed with, from those of mean 0 and variance 1."""
    if wanted == "standardised":
        return images
    unit = np.clip(0.45 + 0.225 * images, 0.0, 1.0)
    return np.asarray(unit if wanted == "from 0 to 1" else np.round(255 * unit), np.float32)


def range_of(graph: Graph, name: str) -> Range:
    """Return the range that a model wants its images in, by the constants that it begins with.

    A division by about 255, or a mean of about 100 that is subtracted, tells of bytes, a mean of less than 1 of numbers
    from 0 to 1; without any, images are taken to be standardised by whoever feeds the model.
    """
    operands = Operands(graph)
    bytes_, unit = False, False
    while True:
        readers = [k for k, place in operands.readers.get(name, []) if k >= 0]
        node = graph.nodes[readers[0]] if len(readers) == 1 else None
        if node is None or node.family not in ("elementwise", "transpose"):
            break
        op = node.op.split(".")[0].lower().rstrip("_")
        size = _typical(graph, operands, [n for n in node.inputs if n and n != name])
        if size is not None and op in ("div", "mul"):
            factor = size if op == "mul" else 1 / max(size, 1e-30)
            bytes_ |= factor < 0.03
            unit |= factor >= 0.03 and factor > 2
        elif size is not None and op in ("sub", "add"):
            bytes_ |= size > 20
            unit |= 0.05 < size < 1
        name = node.outputs[0]
    return "bytes" if bytes_ else "from 0 to 1" if unit else "standardised"


def _typical(graph: Graph, operands: Operands, names: list[str]) -> float | None:
    """Return the mean size of the numbers in the one constant among some tensors."""
    for name in names:
        held = graph.known[name].value if name in graph.known else operands.constant(name)
        if held is not None and np.asarray(held).size:
            return float(np.abs(np.asarray(held, np.float64)).mean())
    return None
