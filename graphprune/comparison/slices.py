"""Which slice of an array is another one: found by the values, which in a trained network are hardly ever equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kept = Mapping[int, tuple[int, ...]]


def slice_of(whole: Array, part: Array) -> Kept | None:
    """Return by axis which indices of ``whole``, ascending, give ``part`` to the last bit; None where none are found.

    Only axes that are shorter in the part are named. Arrays are of the same rank and element type.
    """
    if whole.ndim != part.ndim or any(n < m for n, m in zip(whole.shape, part.shape, strict=True)):
        return None
    axes = [axis for axis, (n, m) in enumerate(zip(whole.shape, part.shape, strict=True)) if n != m]
    if not part.size or not axes:
        return dict.fromkeys(axes, ()) if not part.size and all(part.shape[a] == 0 for a in axes) else None
    kept = _along_one(whole, part, axes[0]) if len(axes) == 1 else _by_places(whole, part, axes)
    return kept if kept is not None and _equal(taken(whole, kept), part) else None


def taken(whole: Array, kept: Kept) -> Array:
    """Return the part of an array that keeps these indices along these axes."""
    for axis, index in kept.items():
        whole = whole.take(np.asarray(index, np.int64), axis=axis)
    return whole


def _equal(a: Array, b: Array) -> bool:
    """Tell whether two arrays hold the same bits."""
    return a.shape == b.shape and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _rows(array: Array, axis: int) -> list[bytes]:
    """Return the slices along an axis, each as bytes."""
    flat = np.ascontiguousarray(np.moveaxis(array, axis, 0)).reshape(array.shape[axis], -1)
    return [row.tobytes() for row in flat]


def _along_one(whole: Array, part: Array, axis: int) -> Kept | None:
    """Find the part's slices among the whole's, in order: the first place that each can have."""
    rows, wanted, found = _rows(whole, axis), _rows(part, axis), []
    at = 0
    for want in wanted:
        try:
            at = rows.index(want, at)
        except ValueError:
            return None
        found.append(at)
        at += 1
    return {axis: tuple(found)}


def _by_places(whole: Array, part: Array, axes: list[int]) -> Kept | None:
    """Look up where every value of the part is in the whole, and let each slice take the index met most often."""
    flat = np.ascontiguousarray(whole).reshape(-1)
    order = np.argsort(flat, kind="stable")
    at = np.searchsorted(flat, part.reshape(-1), sorter=order)
    places = order[np.minimum(at, len(order) - 1)].reshape(part.shape)
    kept = {}
    for axis, index in zip(axes, (np.unravel_index(places, whole.shape)[a] for a in axes), strict=True):
        votes = np.moveaxis(index, axis, 0).reshape(part.shape[axis], -1)
        counts = np.zeros((len(votes), whole.shape[axis]), np.int64)
        np.add.at(counts, (np.arange(len(votes))[:, None], votes), 1)
        kept[axis] = tuple(counts.argmax(axis=1).tolist())
    return kept if all(np.all(np.diff(index) > 0) for index in kept.values()) else None
