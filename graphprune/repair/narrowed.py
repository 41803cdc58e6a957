"""The order of a wide convolution's units from few directions of each unit's columns: errors are found out by others.

A convolution of 512 channels with kernels of 3 x 3 reads 4,608 columns, and taking its units out one by one costs as
much as running the network on a hundred pictures. What unit u adds to the outputs is W_u x_u. Of its columns those
directions are kept that matter most there: with the moments C_u they span the leading eigenvectors of C_u^1/2 W_u'W_u
C_u^1/2, which is the best approximation of its rank to W_u x_u in the mean square (Eckart and Young 1936). What the
order costs is not to be read off that: the other directions are what much of a fit is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..scores import FloatArray
from .layer import Blocks, Layer
from .nested import ordered

NARROW = 1024
"""Columns that are left of a layer, about; at most half of those of each unit."""
FLOOR = 1e-6
"""Part of the mean second moment that every direction is taken to have, so that constant units have directions too."""


def narrowed(layers: Sequence[Layer]) -> list[Layer]:
    """Return layers in few directions of each unit's columns where they are wide, and the same where they are not.

    A layer with columns that are no unit's stays as it is.
    """
    return [_narrowed(layer) for layer in layers]


def _narrowed(layer: Layer) -> Layer:
    blocks = Blocks.of(layer.unit)
    units, size = blocks.columns.shape if len(blocks.present) else (0, 0)
    count = max(NARROW // max(units, 1), 1)
    if 2 * count > size or units * size < len(layer.unit) or layer.targets is not None:
        return layer
    every = blocks.columns.ravel()
    gram = ordered(layer.gram, every)
    weights = layer.weights[:, every].reshape(-1, units, size).transpose(1, 2, 0)
    basis, back = directions(blocks.grams(layer.gram), weights @ weights.transpose(0, 2, 1), count)
    turned = basis.transpose(0, 2, 1).astype(gram.dtype)
    half = (turned @ gram.reshape(units, size, -1)).reshape(units * count, -1)
    inner = (turned @ np.ascontiguousarray(half.T).reshape(units, size, -1)).reshape(units * count, -1)
    made = (back.transpose(0, 2, 1) @ weights).reshape(units * count, -1).T
    mean = (basis.transpose(0, 2, 1) @ layer.mean[every].reshape(units, size, 1)).ravel()
    unit = np.repeat(blocks.present, count)
    return replace(layer, weights=made, second=inner, mean=mean, unit=unit, about_mean=layer.centred)


def directions(moments: FloatArray, weights: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Return for each unit the directions B that matter most for W x, and the way back, D, so that x is about D B'x.

    ``moments`` C and ``weights`` W'W have shape (units, size, size), B and D (units, size, count). The columns of B are
    orthonormal, and D is what least squares gives.
    """
    size = moments.shape[1]
    floor = FLOOR * float(np.trace(moments, axis1=1, axis2=2).mean()) / size or 1.0
    own = moments + floor * np.eye(size)
    values, vectors = np.linalg.eigh(own)
    roots = np.sqrt(np.maximum(values, floor))[:, None, :]
    root, inverse = ((vectors * v) @ vectors.transpose(0, 2, 1) for v in (roots, 1 / roots))
    leading = np.linalg.eigh(root @ weights @ root)[1][:, :, -count:]
    basis = np.asarray(np.linalg.qr(inverse @ leading)[0], np.float64)
    spread = own @ basis
    back = np.linalg.solve(basis.transpose(0, 2, 1) @ spread, spread.transpose(0, 2, 1))
    return basis, np.asarray(back, np.float64).transpose(0, 2, 1)
