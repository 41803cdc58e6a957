"""What an ONNX model says of shapes: stored tensors, declared types, and what a run on noise shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper

from ..files.tensors import entry_size, growth
from .context import Shape

SMALL = 1024
"""Constants up to this many elements keep their data in the copy that shape inference sees."""


def constant_of(node: onnx.NodeProto) -> TensorProto | None:
    """Return the tensor a Constant node holds, made from its other forms where needed; None for strings."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), np.float32))
        if attribute.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), np.int64))
    return None


def elements(tensor: TensorProto) -> int:
    """Return the number of elements of a stored tensor."""
    count = 1
    for n in tensor.dims:
        count *= n
    return count


def stored_bytes(tensor: TensorProto) -> int:
    """Return how many bytes the data of a stored tensor takes in a file."""
    if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1):
        return (elements(tensor) + 1) // 2
    return elements(tensor) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model without the data of its large tensors, and without the shapes it claims for its tensors."""
    light = _frame(model)
    light.graph.initializer.extend(map(lightened, model.graph.initializer))
    light.graph.node.extend(map(light_node, model.graph.node))
    return light


def _frame(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy what is neither node nor stored tensor."""
    frame = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    frame.graph.name = model.graph.name or "graph"
    frame.graph.input.extend(model.graph.input)
    frame.graph.output.extend(onnx.ValueInfoProto(name=o.name, type=o.type) for o in model.graph.output)
    return frame


def light_size(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> int:
    """Return the bytes of ``without_weights``, with these nodes instead of the model's.

    Nodes and tensors are measured one by one: that is cheaper than copies of them.
    """
    rest = _frame(model)
    size = sum(map(entry_size, nodes)) + sum(map(entry_size, map(lightened, model.graph.initializer)))
    return int(rest.ByteSize()) + growth(size, rest.graph)


def light_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a node; one that holds a large constant without its data."""
    constant = constant_of(node) if node.op_type == "Constant" else None
    if constant is None or elements(constant) <= SMALL:
        return node
    return helper.make_node("Constant", [], list(node.output), value=lightened(constant))


def lightened(tensor: TensorProto) -> TensorProto:
    """Return a stored tensor, a large one without its data."""
    if elements(tensor) <= SMALL and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)


def set_input_shapes(light: onnx.ModelProto, sizes: Mapping[str, Shape]) -> None:
    """Write concrete sizes into the inputs, and take them off the outputs."""
    for value in light.graph.input:
        if value.name in sizes:
            del value.type.tensor_type.shape.dim[:]
            for n in sizes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = n
    for value in light.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def shape_of(value: TypeProto) -> Shape | None:
    """Return the shape of a tensor type when every size is known."""
    tensor = value.tensor_type
    if not tensor.HasField("shape"):
        return None
    shape = tuple([d.dim_value for d in tensor.shape.dim])
    # A size that is not known reads as 0, and few are: only then each is asked.
    known = 0 not in shape or all(d.HasField("dim_value") for d in tensor.shape.dim)
    return shape if known and min(shape, default=0) >= 0 else None


def run_for_shapes(
    model: onnx.ModelProto, names: Sequence[str], sizes: Mapping[str, Shape]
) -> dict[str, tuple[Shape, int]]:
    """Run the model on noise and return the shapes and element types of these tensors; empty where it cannot run."""
    from ...runtime import RUNTIME_ERRORS, feeds, session

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    have = {o.name for o in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    try:
        results = session(probe, optimise=False).run(list(names), feeds(model, sizes, seed=0))
    except RUNTIME_ERRORS:
        return {}
    arrays = {n: r for n, r in zip(names, results, strict=True) if isinstance(r, np.ndarray) and r.dtype.kind != "O"}
    return {n: (a.shape, helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in arrays.items()}


def declared_shapes(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, tuple[Shape, int]]:
    """Return the fixed shapes that a model which cannot run here claims for these tensors."""
    wanted, found = set(names), {}
    for value in (*model.graph.value_info, *model.graph.output):
        shape = shape_of(value.type)
        if value.name in wanted and shape is not None and 0 not in shape:
            found[value.name] = shape, value.type.tensor_type.elem_type
    return found
