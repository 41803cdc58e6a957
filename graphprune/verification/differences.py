"""How far two sets of outputs are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Outputs = list[Any]

TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
"""Largest allowed difference by element type, relative to the largest value of the output."""


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference, the same relative to the largest value, and how much of that is allowed."""

    absolute: float
    relative: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Tell whether the difference is allowed (NaN is not)."""
        return self.relative <= self.tolerance


def difference(a: Any, b: Any, allowed: float = 0.0) -> Difference:
    """Compare an output with what it should be; other shapes or other non-finite positions are infinitely far.

    The tolerance is that of the element type, or ``allowed`` if that is more. Sequences are compared tensor by tensor,
    maps by their values, and infinitely far where they have other keys.
    """
    if isinstance(b, (list, dict)) and type(a) is type(b) and len(a) == len(b) and len(b):
        return _parts(a, b, allowed)
    tolerance = max(TOLERANCE.get(b.dtype.name if isinstance(b, np.ndarray) else "", TOLERANCE["float32"]), allowed)
    nothing, everything = Difference(0.0, 0.0, tolerance), Difference(np.inf, np.inf, tolerance)
    if not isinstance(b, np.ndarray) or b.dtype.kind in "OSU":
        return nothing if str(a) == str(b) else everything
    if a.shape != b.shape:
        return everything
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(y)
    if not np.array_equal(finite, np.isfinite(x)):
        return everything
    absolute = float(np.abs(x[finite] - y[finite]).max(initial=0.0))
    scale = float(np.abs(y)[finite].max(initial=0.0))
    return Difference(absolute, absolute / scale if scale else absolute, tolerance)


def _parts(a: Any, b: Any, allowed: float) -> Difference:
    """Compare two sequences, or two maps, of the same length."""
    if isinstance(b, list):
        pairs = zip(a, b, strict=True)
    elif all(isinstance(v, float) for v in b.values()) and a.keys() == b.keys():
        pairs = zip(*([np.array([m[key] for key in b], np.float32)] for m in (a, b)), strict=True)
    else:
        pairs = zip([str(a)], [str(b)], strict=True)
    return max((difference(x, y, allowed) for x, y in pairs), key=lambda d: d.relative / d.tolerance)


def worst(mine: Outputs, wanted: Outputs, binding: Sequence[bool], allowed: Sequence[float] = ()) -> Difference:
    """Return the largest difference, measured by its tolerance, over the outputs that have to agree.

    ``allowed`` gives, output by output, a tolerance below which that of the element type is not taken.
    """
    floors = allowed or [0.0] * len(binding)
    triples = zip(mine, wanted, floors, strict=True)
    found = [difference(a, b, floor) for (a, b, floor), binds in zip(triples, binding, strict=True) if binds]
    return max(found, key=lambda d: d.relative / d.tolerance, default=Difference(0.0, 0.0, TOLERANCE["float32"]))


def agreement(mine: Outputs, original: Outputs) -> float | None:
    """Return the mean cosine between the floating outputs of two models; None if there are none."""
    cosines = []
    for a, b in zip(mine, original, strict=True):
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.shape == b.shape and np.isfinite(a).all():
            u, v = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
            scale = float(np.linalg.norm(u) * np.linalg.norm(v))
            if scale and np.isfinite(scale):
                cosines.append(float(u @ v) / scale)
    return float(np.mean(cosines)) if cosines else None


def says_something(output: Any) -> bool:
    """Tell whether an output has at least one finite number (or holds no numbers)."""
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fc" or not output.size:
        return True
    return bool(np.isfinite(output).any())
