"""What a module learned flows back into the ONNX model it came from; everything else stays byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from ..graph import Array, Graph
from .shared import Copy
from .source import model_of
from .stored import Holder, stored
from .tensors import to_array

_SAME = "write back to the model that the module was made from, with the parameters it had then"


def from_torch(module: nn.Module, model: str | Path | ModelProto | Graph) -> ModelProto:
    """Return a copy of the model with the values that the module's parameters and buffers have now.

    ``module`` is what ``to_torch`` made of ``model``, trained, moved or copied since. A tensor whose value is the same,
    bit for bit, is not touched, nor is anything else in the model; weights that lay in other files are in memory, as
    after loading. Values are rounded to the type the file has them in. Where nodes shared running statistics that have
    become different, each gets its own. Raises ModelError when a parameter is missing or has another shape, naming it,
    and UsageError when the module does not come from ``to_torch``.
    """
    names: Mapping[str, str] | None = getattr(module, "onnx_names", None)
    copies: Mapping[str, Copy] = getattr(module, "onnx_copies", {})
    if names is None:
        hint = "give the module that to_torch returned (of a compiled or distributed one, the module inside)"
        raise UsageError("not-interpreted", "this module was not made by to_torch", hint=hint)
    result = ModelProto()
    result.CopyFrom(model_of(model))
    holders = {s.key: s.holder for s in stored(result)}
    have = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for path, key in names.items():
        _check(path, key, have, holders)
        new = _new_value(holders[key], have[path])
        if new is not None and path in copies:
            _split_off(result, copies[path], new, key)
    for path, key in names.items():
        new = None if path in copies else _new_value(holders[key], have[path])
        if new is not None:
            _write(holders[key], new)
    return result


def _check(path: str, key: str, have: Mapping[str, Tensor], holders: Mapping[str, Holder]) -> None:
    """Check that module and model both have a tensor, in the same shape."""
    if path not in have:
        raise ModelError("parameter-missing", "the module no longer has this parameter", where=path, hint=_SAME)
    if key not in holders:
        words = f"the model stores no tensor {key!r}, which the module has as {path!r}"
        raise ModelError("parameter-unknown", words, where=path, hint=_SAME)
    was, now = list(_value(holders[key]).shape), list(have[path].shape)
    if was != now:
        raise ModelError("parameter-shape", f"its shape is {now}, in the model it is {was}", where=path, hint=_SAME)


def _new_value(holder: Holder, tensor: Tensor) -> Array | None:
    """Return what to store instead of what is there; None if that is the same."""
    new = to_array(tensor, holder.data_type if isinstance(holder, TensorProto) else _element(holder))
    return None if new.tobytes() == _value(holder).tobytes() else new


def _write(holder: Holder, new: Array) -> None:
    if isinstance(holder, TensorProto):
        _store(holder, new)
    elif holder.type == AttributeProto.FLOAT:
        holder.f = float(new)
    else:
        holder.floats[:] = new.tolist()


def _split_off(model: ModelProto, copy: Copy, value: Array, key: str) -> None:
    """Give a node an initializer of its own for what it shared with others."""
    node = next(n for n in model.graph.node if copy.output in n.output)
    taken = {t.name for t in model.graph.initializer} | {i.name for i in model.graph.input}
    taken |= {name for n in model.graph.node for name in n.output}
    name = f"{key}_{len(taken)}"
    while name in taken:
        name += "_"
    tensor = numpy_helper.from_array(value, name)
    model.graph.initializer.append(tensor)
    if model.ir_version < 4:  # until then every initializer had to be an input as well
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    node.input[copy.position] = name


def _value(holder: Holder) -> Array:
    if isinstance(holder, TensorProto):
        return np.asarray(numpy_helper.to_array(holder))
    return np.array(helper.get_attribute_value(holder), helper.tensor_dtype_to_np_dtype(_element(holder)))


def _element(attribute: AttributeProto) -> int:
    floating = attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS)
    return int(TensorProto.FLOAT if floating else TensorProto.INT64)


def _store(tensor: TensorProto, value: Array) -> None:
    """Put values into a stored tensor as raw bytes, whatever form they had."""
    made = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
    for name in ("float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
        tensor.ClearField(name)
    tensor.raw_data = made.raw_data
