"""Stored ONNX tensors as torch tensors and back, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import SparseTensorProto, TensorProto, numpy_helper
from torch import Tensor

from ..errors import ModelError
from ..graph import Array

DTYPES = {
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64, TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16, TensorProto.INT64: torch.int64, TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16, TensorProto.INT8: torch.int8, TensorProto.UINT64: torch.uint64,
    TensorProto.UINT32: torch.uint32, TensorProto.UINT16: torch.uint16, TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool, TensorProto.COMPLEX64: torch.complex64, TensorProto.COMPLEX128: torch.complex128,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn, TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz, TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.INT4: torch.int8, TensorProto.UINT4: torch.uint8,
}  # fmt: skip
"""ONNX element type → torch's. Four-bit integers are kept one a byte."""
_BY_BITS = {
    TensorProto.BFLOAT16: np.int16, TensorProto.FLOAT8E4M3FN: np.uint8, TensorProto.FLOAT8E5M2: np.uint8,
    TensorProto.FLOAT8E4M3FNUZ: np.uint8, TensorProto.FLOAT8E5M2FNUZ: np.uint8,
}  # fmt: skip
"""Types that NumPy has no own type for, and one of the same width."""


def dtype_of(element: int, where: str) -> torch.dtype:
    """Return torch's type for an ONNX element type. Raises ModelError where torch has none (text, four-bit floats)."""
    if element not in DTYPES:
        name = TensorProto.DataType.Name(element) if element in TensorProto.DataType.values() else str(element)
        raise ModelError(
            "type-unsupported", f"torch has no tensors of the ONNX type {name}", where=where,
            hint="cut this part off the model, or convert it to another type",
        )  # fmt: skip
    return DTYPES[element]


def to_tensor(proto: TensorProto, where: str) -> Tensor:
    """Return a stored tensor's values in memory of their own.

    Raises ModelError when torch has no such type, or the values lie in a file that was not read.
    """
    dtype = dtype_of(proto.data_type, where)
    if proto.data_location == TensorProto.EXTERNAL:
        raise ModelError(
            "external-data-missing", "its values lie in another file, which was not read", where=where,
            hint="give the model's path instead of the model in memory",
        )  # fmt: skip
    array = np.array(numpy_helper.to_array(proto))
    if proto.data_type in _BY_BITS:
        return torch.from_numpy(array.view(_BY_BITS[proto.data_type])).view(dtype)
    if proto.data_type in (TensorProto.INT4, TensorProto.UINT4):
        array = array.astype(np.int8 if proto.data_type == TensorProto.INT4 else np.uint8)
    return torch.from_numpy(array)


def to_array(tensor: Tensor, element: int) -> Array:
    """Return a tensor's values as NumPy's type for an ONNX element type (rounded where that is narrower)."""
    values = tensor.detach().cpu().to(DTYPES[element]).contiguous()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
    if element in _BY_BITS:
        bits = torch.int16 if _BY_BITS[element] is np.int16 else torch.uint8
        result: Array = values.view(bits).numpy().view(dtype)
        return result
    array: Array = values.numpy().astype(dtype, copy=False)
    return array


def dense(sparse: SparseTensorProto) -> TensorProto:
    """Return a sparse stored tensor with all its entries; indices are positions in the flattened tensor or along axes.

    It is a value only: what was learned does not flow back into it.
    """
    values, at = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(list(sparse.dims), values.dtype)
    if at.ndim == 1:
        array.reshape(-1)[at] = values
    else:
        array[tuple(at.T)] = values
    return numpy_helper.from_array(array, sparse.values.name)
