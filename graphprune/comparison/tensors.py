"""Every stored tensor of two models, matched by name: cut, changed, added, removed or the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from ..frontends.files.mapped import array_of
from ..frontends.files.tensors import stored_tensors
from .result import Change, TensorChange
from .slices import Kept, slice_of, taken

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

Array = NDArray[Any]
Told = Mapping[str, Mapping[str, Sequence[int]]]
"""What a report says was kept: by parameter and axis, as text, the indices."""


def tensor_changes(a: ModelProto, b: ModelProto, told: Told | None = None) -> tuple[TensorChange, ...]:
    """Compare the stored tensors of two models, in the order of the first, then those that only the second has.

    Keys are those of ``stored_tensors``. ``told`` is a report's ``kept``: with it values of tensors that were cut *and*
    changed (by repair, or by a method that trains) are laid side by side as well.
    """
    return tuple(_changes(dict(stored_tensors(a)), dict(stored_tensors(b)), told or {}))


def _changes(a: Mapping[str, TensorProto], b: Mapping[str, TensorProto], told: Told) -> Iterator[TensorChange]:
    for name, tensor in a.items():
        if name in b:
            yield _compared(name, tensor, b[name], told.get(name, {}))
        else:
            yield TensorChange(name, "removed", tuple(tensor.dims), None, (_kind(tensor), None))
    for name, tensor in b.items():
        if name not in a:
            yield TensorChange(name, "added", None, tuple(tensor.dims), (None, _kind(tensor)))


def _kind(tensor: TensorProto) -> str:
    """Return the element type as ``float32``."""
    word = helper.tensor_dtype_to_string(tensor.data_type).rpartition(".")[2].lower()
    return {"float": "float32", "double": "float64"}.get(word, str(word))


def _compared(name: str, a: TensorProto, b: TensorProto, told: Mapping[str, Sequence[int]]) -> TensorChange:
    before, after, kinds = tuple(a.dims), tuple(b.dims), (_kind(a), _kind(b))
    if kinds[0] != kinds[1]:
        return TensorChange(name, "retyped", before, after, kinds)
    x, y = array_of(a), array_of(b)
    if before == after:
        absolute, relative = apart(x, y)
        change: Change = "changed" if absolute or not _same(x, y) else "same"
        return TensorChange(name, change, before, after, kinds, absolute, relative)
    if len(before) != len(after) or any(m > n for n, m in zip(before, after, strict=True)):
        return TensorChange(name, "reshaped", before, after, kinds)
    kept = _as_told(before, after, told)
    if kept is None or not _same(taken(x, kept), y):
        kept = slice_of(x, y) or kept
    if kept is None:
        return TensorChange(name, "cut and changed", before, after, kinds)
    left = taken(x, kept)
    change = "cut" if _same(left, y) else "cut and changed"
    return TensorChange(name, change, before, after, kinds, *apart(left, y), kept)


def _same(x: Array, y: Array) -> bool:
    return bool(np.array_equal(x, y, equal_nan=x.dtype.kind in "fc"))


def _as_told(before: tuple[int, ...], after: tuple[int, ...], told: Mapping[str, Sequence[int]]) -> Kept | None:
    """Return what a report says was kept, where that explains the shapes."""
    kept = {int(axis): tuple(index) for axis, index in told.items()}
    sizes = [len(kept[axis]) if axis in kept else n for axis, n in enumerate(before)]
    inside = all(axis < len(before) and max(index, default=0) < before[axis] for axis, index in kept.items())
    return kept if inside and tuple(sizes) == after else None


def apart(x: Array, y: Array) -> tuple[float | None, float | None]:
    """Return the largest difference and the norm of the differences over the norm of ``x``; None for texts.

    Equal infinities are no difference; numbers on one side that are none on the other are an infinite one.
    """
    if x.dtype.kind in "OSU":
        return None, None
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    u, v = x.astype(wide), y.astype(wide)
    finite = np.isfinite(u) & np.isfinite(v)
    if not np.array_equal(u[~finite], v[~finite], equal_nan=True):
        return float("inf"), float("inf")
    difference, norm = np.abs(u - v, where=finite, out=np.zeros(u.shape)), float(np.linalg.norm(u[finite]))
    length = float(np.linalg.norm(difference))
    return float(difference.max(initial=0.0)), length / norm if norm else length
