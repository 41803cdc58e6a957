"""Weights that stay in their files: a tensor says where its bytes lie, and they are read when they are asked for.

A mapped tensor names its file by an absolute path, and bears a mark. What a plan keeps of it is noted beside the place
(``kept``: axis and positions), so that a pruned tensor needs neither memory nor a file of its own: its value is taken
from the original's file whenever it is asked for. Such tensors exist in memory only; saving writes values.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .tensors import BITS, EXTERNAL

if TYPE_CHECKING:
    from ...graph import Array

Cut = tuple[tuple[int, bytes], ...]
"""(axis, kept positions along it as int64), for every axis that is cut."""
PACKED = frozenset(
    getattr(TensorProto, name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if hasattr(TensorProto, name)
)
"""Element types of which several share a byte; they are never mapped."""
RAW: Mapping[int, np.dtype[Any]] = {
    getattr(TensorProto, name): np.dtype(f"<{letters}")
    for name, letters in {
        "FLOAT": "f4", "DOUBLE": "f8", "FLOAT16": "f2", "INT64": "i8", "INT32": "i4", "INT16": "i2", "INT8": "i1",
        "UINT8": "u1", "BOOL": "?",
    }.items()
}  # fmt: skip
"""The commonest element types as they lie in ``raw_data``."""
PIECE = 1 << 24
"""Bytes written at a time."""
KEPT, FULL = "kept", "full"
MARK = f"graphprune-{secrets.token_hex(8)}"
"""The key that tells a mapped tensor: no file can have it, so none can name files outside its folder this way."""


def is_mapped(tensor: TensorProto) -> bool:
    """Tell whether a tensor's bytes are read from a file when they are asked for."""
    return tensor.data_location == EXTERNAL and any(pair.key == MARK for pair in tensor.external_data)


def point(tensor: TensorProto, stated: Mapping[str, Any]) -> None:
    """Turn a tensor into a reference to bytes elsewhere."""
    for name in ("raw_data", "external_data"):
        tensor.ClearField(name)
    tensor.data_location = EXTERNAL
    for key, value in stated.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def map_to(tensor: TensorProto, file: Path, offset: int, length: int) -> None:
    """Let a tensor's bytes stay in a file."""
    point(tensor, {"location": file.resolve(), "offset": offset, "length": length, MARK: ""})


def write_cut(source: TensorProto, target: TensorProto, cut: Cut) -> None:
    """Point an empty tensor at the kept part of a mapped one, and give it the part's dimensions."""
    stated = _stated(source)
    kept = {axis: np.frombuffer(raw, np.int64) for axis, raw in cut}
    dims = [len(kept[axis]) if axis in kept else n for axis, n in enumerate(source.dims)]
    for axis, before in _kept(stated).items():
        kept[axis] = before[kept[axis]] if axis in kept else before
    stated.setdefault(FULL, json.dumps(list(source.dims)))
    stated[KEPT] = json.dumps({axis: base64.b64encode(index.tobytes()).decode() for axis, index in kept.items()})
    point(target, stated)
    target.dims.extend(dims)


def array_of(tensor: TensorProto) -> Array:
    """Return a stored tensor's value; a mapped one that is whole is a view of its file, which costs no memory.

    Raises ValueError for a tensor whose bytes lie elsewhere and were neither read nor mapped.
    """
    if tensor.data_location != EXTERNAL:
        return plain_array(tensor)
    if not is_mapped(tensor):
        elsewhere: Array = numpy_helper.to_array(tensor)
        return elsewhere
    stated = _stated(tensor)
    array = _whole(tensor, stated)
    # Whole rows first: they are contiguous, and the later axes then have less to move.
    for axis, index in sorted(_kept(stated).items()):
        array = array.take(index, axis=axis)
    return array


def plain_array(tensor: TensorProto) -> Array:
    """Return the value of a tensor that holds its own bytes; a model has many, most of them small.

    onnx asks more questions of each, and takes nearly twice as long for a vector.
    """
    kind = RAW.get(tensor.data_type)
    if kind is None or not tensor.HasField("raw_data") or tensor.HasField("segment"):
        array: Array = numpy_helper.to_array(tensor)
        return array
    return np.frombuffer(tensor.raw_data, kind).reshape(tuple(tensor.dims))


def pieces_of(tensor: TensorProto) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a stored tensor as a file has them, a part at a time."""
    if not is_mapped(tensor):
        yield tensor.raw_data
        return
    array = array_of(tensor)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, len(flat), PIECE):
        yield flat[start : start + PIECE].data


def byte_count(tensor: TensorProto) -> int:
    """Return how many bytes ``pieces_of`` gives, without reading any."""
    return bytes_of_type(tensor.data_type, tensor.dims) if is_mapped(tensor) else len(tensor.raw_data)


def bytes_of_type(element: int, dims: Iterable[int]) -> int:
    """Return the bytes that a tensor of an element type (``TensorProto.DataType``) and these sizes takes in a file."""
    return -(-prod(dims) * BITS[element] // 8)


def origin_of(tensor: TensorProto) -> tuple[str, ...]:
    """Return what two mapped tensors of equal bytes have in common: file, place, and what is kept."""
    return tuple(f"{key}={value}" for key, value in sorted(_stated(tensor).items()))


def _stated(tensor: TensorProto) -> dict[str, str]:
    return {pair.key: pair.value for pair in tensor.external_data}


def _kept(stated: Mapping[str, str]) -> dict[int, np.ndarray[Any, np.dtype[np.int64]]]:
    noted = json.loads(stated.get(KEPT, "{}"))
    return {int(axis): np.frombuffer(base64.b64decode(text), np.int64) for axis, text in noted.items()}


def _whole(tensor: TensorProto, stated: Mapping[str, str]) -> Array:
    """Return the value of the tensor in the file, before anything was cut."""
    dims = tuple(json.loads(stated[FULL])) if FULL in stated else tuple(tensor.dims)
    file, offset = stated["location"], int(stated["offset"])
    if not prod(dims):
        return np.zeros(dims, helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return np.memmap(file, helper.tensor_dtype_to_np_dtype(tensor.data_type), "r", offset, dims).view(np.ndarray)
