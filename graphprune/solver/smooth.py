"""Costs as polynomials of real widths, for methods that need slopes: a line in place of every gauge with steps."""

from __future__ import annotations

import numpy as np

from ..cost import FloatArray, IntArray, Polynomial
from .readings import Readings


def smoothed(rows: Polynomial, readings: Readings) -> Polynomial:
    """Return polynomials over the widths: exact where readings are powers of them, and gauges as their lines."""
    n, (offset, slope) = len(readings.sizes), readings.line
    coefficient, row = rows.coefficient, rows.row
    factor: list[IntArray] = []
    sources = [*rows.factor.T]
    for k, source in enumerate(sources):
        lined = np.append(readings.power == 0, False)[source]
        coefficient, line = _with_lines(coefficient, source, lined, offset, slope)
        again = np.append(np.arange(len(source)), np.flatnonzero(lined))
        for later in range(k + 1, len(sources)):
            sources[later] = sources[later][again]
        source, row, factor = source[again], row[again], [f[again] for f in factor]
        group = np.append(readings.group, n)[source]
        power = np.append(readings.power, 0)[source]
        times = np.where(line, 1, power)
        factor += [np.where(times > p, group, n) for p in range(int(times.max(initial=1)))]
    table = np.sort(np.stack(factor, axis=1), axis=1)
    kept = coefficient > 0
    return Polynomial(coefficient[kept], table[kept], row[kept], rows.rows, n)


def _with_lines(
    coefficient: FloatArray, source: IntArray, lined: np.ndarray[tuple[int], np.dtype[np.bool_]], offset: FloatArray,
    slope: FloatArray,
) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.bool_]]]:  # fmt: skip
    """Split terms with a gauge in two: slope times the width where they stood, and the offset behind all others.

    Returns the coefficients, and which terms are those with the slope.
    """
    steep, flat = np.append(slope, 1.0)[source], np.append(offset, 0.0)[source[lined]]
    values = np.concatenate([coefficient * np.where(lined, steep, 1.0), coefficient[lined] * flat])
    return values, np.append(lined, np.zeros(int(lined.sum()), np.bool_))
