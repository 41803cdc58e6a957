"""Concrete shapes of every tensor of an ONNX model, and the small values that shapes are made of.

onnx's own inference does most of it on a copy without weights. Where a shape is computed at run time, one walk over
the nodes computes the arithmetic (onnx_values) and infers the nodes left over one by one; onnxruntime runs the model
for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper

from ..graph import Array
from .onnx_values import KERNELS, MAX_INTEGERS, attributes, worth_knowing

Shape = tuple[int, ...]
SMALL = 1024
"""Constants up to this many elements keep their data in the copy that shape inference sees."""
BROADCASTING = {
    "Abs", "Add", "Clip", "Div", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Neg", "Pow", "Relu",
    "Sigmoid", "Softmax", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
"""Operators whose output has the type of the first input and the shape that all inputs broadcast to."""
BY_SHAPES = {"BatchNormalization", "Concat", "Conv", "Gemm", "LayerNormalization", "MatMul"}
"""Operators whose output sizes follow from sizes alone: what a small bias holds does not matter."""


@dataclass
class Shapes:
    """What one walk found: shapes (absent: unknown), element types, small values, and which values a shape entered."""

    shape: dict[str, Shape] = field(default_factory=dict)
    dtype: dict[str, int] = field(default_factory=dict)
    known: dict[str, Array] = field(default_factory=dict)
    from_shape: set[str] = field(default_factory=set)


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
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(model.graph.input)
    graph.output.extend(onnx.ValueInfoProto(name=o.name, type=o.type) for o in model.graph.output)
    for tensor in model.graph.initializer:
        graph.initializer.append(_lightened(tensor))
    for node in model.graph.node:
        constant = constant_of(node) if node.op_type == "Constant" else None
        if constant is None or elements(constant) <= SMALL:
            graph.node.append(node)
        else:
            graph.node.append(helper.make_node("Constant", [], list(node.output), value=_lightened(constant)))
    return light


def _lightened(tensor: TensorProto) -> TensorProto:
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


class _Walk:
    """One pass over the nodes in order; not to be reused."""

    def __init__(self, light: onnx.ModelProto, constants: Mapping[str, TensorProto]) -> None:
        self.light = light
        self.constants = constants
        self.opsets = {o.domain: o.version for o in light.opset_import}
        self.types: dict[str, TypeProto] = {}
        self.complete: set[str] = set()
        self.found = Shapes()
        self.values: dict[str, Array] = {}

    def run(self) -> Shapes:
        inferred = onnx.shape_inference.infer_shapes(self.light, data_prop=True).graph
        for value in [*inferred.input, *inferred.value_info, *inferred.output]:
            self._learn(value.name, value.type)
        for name, tensor in self.constants.items():
            self.found.shape[name] = tuple(tensor.dims)
            self.found.dtype[name] = tensor.data_type
        for node in self.light.graph.node:
            if node.op_type != "Constant":
                self._visit(node)
        return self.found

    def _learn(self, name: str, kind: TypeProto) -> None:
        self.types[name] = kind
        if kind.HasField("tensor_type"):
            self.found.dtype[name] = kind.tensor_type.elem_type
            shape = shape_of(kind)
            if shape is not None:
                self.found.shape[name] = shape
                self.complete.add(name)

    def _visit(self, node: onnx.NodeProto) -> None:
        if node.domain in ("", "ai.onnx"):
            value = self._compute(node)
            if value is not None:
                self._know(node, value)
                return
        if any(name and name not in self.found.shape for name in node.output) and not self._infer_by_broadcast(node):
            self._infer(node)

    def _infer_by_broadcast(self, node: onnx.NodeProto) -> bool:
        """Infer the commonest nodes without onnx, which takes its time for each; False for all others."""
        shapes = [self.found.shape.get(name) for name in node.input]
        if node.op_type not in BROADCASTING or node.domain not in ("", "ai.onnx") or None in shapes:
            return False
        if self.opsets.get("", 7) < 7 or node.input[0] not in self.found.dtype:
            return False
        try:
            self.found.shape[node.output[0]] = np.broadcast_shapes(*filter(None, shapes)) if shapes else ()
        except ValueError:
            return False
        self.found.dtype[node.output[0]] = self.found.dtype[node.input[0]]
        return True

    def _compute(self, node: onnx.NodeProto) -> Array | None:
        if node.op_type in ("Shape", "Size"):
            return self._shape_value(node)
        if node.op_type not in KERNELS:
            return None
        values = [self._value(name) if name else None for name in node.input]
        if any(v is None and name for v, name in zip(values, node.input, strict=True)):
            return None
        try:
            result = KERNELS[node.op_type](values, attributes(node))
        except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError):
            return None
        if result is None or not worth_knowing(result):
            return None
        # Floats made of stored floats are weights, not shapes.
        traced = any(name in self.found.from_shape for name in node.input)
        return result if traced or result.dtype.kind in "iub" else None

    def _shape_value(self, node: onnx.NodeProto) -> Array | None:
        shape = self.found.shape.get(node.input[0])
        if shape is None:
            return None
        attrs = attributes(node)
        if node.op_type == "Size":
            return np.array(int(np.prod(shape)), np.int64)
        return np.array(shape[attrs.get("start", 0) : attrs.get("end")], np.int64)

    def _know(self, node: onnx.NodeProto, value: Array) -> None:
        name = node.output[0]
        self.found.known[name] = self.values[name] = value
        self.found.shape[name] = value.shape
        self.found.dtype.setdefault(name, helper.np_dtype_to_tensor_dtype(value.dtype))
        if node.op_type in ("Shape", "Size") or any(n in self.found.from_shape for n in node.input):
            self.found.from_shape.add(name)

    def _value(self, name: str) -> Array | None:
        if name not in self.values and name in self.constants:
            tensor = self.constants[name]
            if elements(tensor) <= MAX_INTEGERS and tensor.data_location != TensorProto.EXTERNAL:
                self.values[name] = numpy_helper.to_array(tensor)
        return self.values.get(name)

    def _infer(self, node: onnx.NodeProto) -> None:
        """Infer one node with the values known by now, where onnx has a schema for it."""
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            return
        types = {name: self._type(name) for name in node.input if name}
        if any(kind is None for kind in types.values()):
            return
        data = {}
        for name in node.input if node.op_type not in BY_SHAPES else ():
            value = self._value(name) if name else None
            if value is not None:
                data[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, None, list(self.light.opset_import), self.light.ir_version
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
            return
        for name, kind in inferred.items():
            self._learn(name, kind)

    def _type(self, name: str) -> TypeProto | None:
        if name in self.complete:
            return self.types[name]
        shape, dtype = self.found.shape.get(name), self.found.dtype.get(name)
        if shape is not None and dtype is not None:
            return helper.make_tensor_type_proto(dtype, shape)
        return self.types.get(name)


def infer(light: onnx.ModelProto, constants: Mapping[str, TensorProto], sizes: Mapping[str, Shape]) -> Shapes:
    """Find the shapes at these input sizes. Changes the inputs of ``light``."""
    set_input_shapes(light, sizes)
    return _Walk(light, constants).run()


def run_for_shapes(
    model: onnx.ModelProto, names: Sequence[str], sizes: Mapping[str, Shape]
) -> dict[str, tuple[Shape, int]]:
    """Run the model on noise and return the shapes and element types of these tensors; empty where it cannot run."""
    from ..runtime import RUNTIME_ERRORS, feeds, session

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


def complete(
    light: onnx.ModelProto, constants: Mapping[str, TensorProto], more: Mapping[str, tuple[Shape, int]]
) -> Shapes:
    """Walk again with some shapes given from outside."""
    walk = _Walk(light, constants)
    for name, (shape, dtype) in more.items():
        walk.found.shape[name], walk.found.dtype[name] = shape, dtype
    return walk.run()


def missing(found: Shapes, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Return the tensors whose shape was not found, in order."""
    return [name for node in nodes for name in node.output if name and name not in found.shape]
