"""Concrete shapes of every tensor of an ONNX model, and the small values that shapes are made of.

One walk over the nodes computes the arithmetic on shapes (onnx_values) and applies the commonest operators' rules
(onnx_sizes). onnx infers the nodes left over one by one, and where that fails the whole model, without its weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper

from ...graph import Array
from ..files.mapped import plain_array
from .context import Context, Control, Operation, Shape
from .control import choose, enter, leave, unstable
from .shapes import elements, set_input_shapes, shape_of, without_weights
from .sizes import output_shapes, output_types
from .values import KERNELS, MAX_INTEGERS, may_be_shape, split, worth_knowing

if TYPE_CHECKING:
    from .expand import Expansion


@dataclass
class Shapes:
    """What one walk found: shapes (absent: unknown), element types, small values, and which values a shape entered.

    ``unsure`` are tensors whose rank depends on which branch of an If is taken, ``loose`` those for which any size may
    (both with all that is made of them); ``asleep`` gives (If, position) of
    branches that are not taken at these sizes, ``trips`` how often bodies run at most (None: not known) and ``sure``
    whether they run so often, by the position where they begin; ``unstable`` are states of bodies that change their
    shape.
    """

    shape: dict[str, Shape] = field(default_factory=dict)
    dtype: dict[str, int] = field(default_factory=dict)
    known: dict[str, Array] = field(default_factory=dict)
    from_shape: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    asleep: set[tuple[str, int]] = field(default_factory=set)
    trips: dict[int, int | None] = field(default_factory=dict)
    sure: set[int] = field(default_factory=set)
    unstable: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Walked:
    """A model with what every walk over it needs: constants by name, its nodes read, small constants decoded."""

    model: onnx.ModelProto
    constants: Mapping[str, TensorProto]
    nodes: Sequence[Operation]
    small: dict[str, Array | None] = field(default_factory=dict)
    expansion: Expansion | None = None
    """How bodies and functions were laid out among the nodes, where the model has any."""

    @classmethod
    def of(
        cls, model: onnx.ModelProto, constants: Mapping[str, TensorProto], expansion: Expansion | None = None
    ) -> Walked:
        """Read all nodes. With an expansion, ``model`` is the equal flat one, whose constants these are."""
        if expansion is not None:
            return cls(model, constants, expansion.operations, expansion=expansion)
        opsets = {o.domain: o.version for o in model.opset_import}
        opsets.setdefault("", opsets.get("ai.onnx", 1))
        return cls(model, constants, [Operation.read(node, opsets) for node in model.graph.node])

    @cached_property
    def stored_shapes(self) -> dict[str, Shape]:
        """The sizes of every constant."""
        return {name: tuple(tensor.dims) for name, tensor in self.constants.items()}

    @cached_property
    def stored_types(self) -> dict[str, int]:
        """The element type of every constant."""
        return {name: tensor.data_type for name, tensor in self.constants.items()}

    def constant(self, name: str) -> Array | None:
        """Return a constant that is small enough to compute with."""
        if name not in self.small:
            tensor = self.constants.get(name)
            large = tensor is None or elements(tensor) > MAX_INTEGERS or tensor.data_location == TensorProto.EXTERNAL
            self.small[name] = None if large else plain_array(tensor)
        return self.small[name]


class _Walk:
    """One pass over the nodes in order; not to be reused."""

    def __init__(self, walked: Walked, sizes: Mapping[str, Shape], found: Shapes) -> None:
        self.walked, self.sizes, self.found = walked, sizes, found
        self.types: dict[str, TypeProto] = {}
        """Types that are not those of a tensor of known shape."""
        self.asked = False

    def run(self) -> Shapes:
        graph = self.walked.model.graph
        for value in graph.input:
            self._learn(value.name, value.type)
        self.found.shape.update(self.sizes)
        self.found.shape.update(self.walked.stored_shapes)
        self.found.dtype.update(self.walked.stored_types)
        for sparse in graph.sparse_initializer:
            self.found.shape[sparse.values.name] = tuple(sparse.dims)
            self.found.dtype[sparse.values.name] = sparse.values.data_type
        for k in range(len(self.walked.nodes)):
            self._step(k)
        return self.found

    def _step(self, k: int) -> None:
        node = self.walked.nodes[k]
        if node.control is not None:
            self._control(k, node, node.control)
        elif node.op != "Constant" or node.outputs[0] not in self.walked.constants:
            self._visit(node)
            for uncertain in (self.found.unsure, self.found.loose):
                if uncertain and not uncertain.isdisjoint(node.inputs):
                    uncertain.update(node.outputs)

    def _control(self, k: int, node: Operation, control: Control) -> None:
        if control.kind == "choose":
            choose(node, self.found, self._value)
        elif control.kind == "enter":
            enter(node, self.found)
        else:
            begin = self.walked.nodes[control.begin]
            while changing := unstable(node, begin, self.found):
                self.found.unstable.update(changing)
                self._forget(self.walked.nodes[control.begin : k])
                for inner in range(control.begin, k):
                    self._step(inner)
            leave(node, begin, self.found, self._value)

    def _forget(self, nodes: Sequence[Operation]) -> None:
        """Forget what a walk through a body found, for another walk."""
        names = {name for node in nodes for name in node.outputs if name}
        for table in (self.found.shape, self.found.dtype, self.found.known, self.types):
            for name in names & set(table):
                del table[name]
        self.found.from_shape -= names
        self.found.unsure -= names
        self.found.loose -= names

    def _learn(self, name: str, kind: TypeProto) -> None:
        shape = None
        if kind.HasField("tensor_type"):
            self.found.dtype[name] = kind.tensor_type.elem_type
            shape = shape_of(kind)
        if shape is not None:
            self.found.shape[name] = shape
        else:
            self.types[name] = kind

    def _visit(self, node: Operation) -> None:
        value = self._compute(node) if node.domain == "" else None
        if value is not None:
            self._know(node, value)
        elif node.op == "Split" and node.domain == "" and self._split_value(node):
            pass
        elif not self._is_known(node) and not self._apply_rule(node):
            self._infer(node)
            if not self.asked and not self._is_known(node):
                self._infer_model()
                self._visit(node)

    def _is_known(self, node: Operation) -> bool:
        return all(name in self.found.shape for name in node.outputs if name)

    def _apply_rule(self, node: Operation) -> bool:
        """Infer one of the commonest nodes; False for all others."""
        shapes = output_shapes(Context(node, self.found.shape, self._value, _at_this_size))
        kinds = output_types(node, self.found.dtype) if shapes is not None else []
        if shapes is None or None in kinds:
            return False
        for name, shape, kind in zip(node.outputs, shapes, kinds, strict=False):
            assert kind is not None
            self.found.shape[name], self.found.dtype[name] = shape, kind
        return True

    def _compute(self, node: Operation) -> Array | None:
        if node.op in ("Shape", "Size"):
            return self._shape_value(node)
        if node.op not in KERNELS:
            return None
        values: list[Array | None] = []
        for name in node.inputs:
            value = self._value(name) if name else None
            if value is None and name:
                return None
            values.append(value)
        try:
            result = KERNELS[node.op](values, node.attrs)
        except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError):
            return None
        if result is None or not worth_knowing(result):
            return None
        # Floats and bytes made of stored ones are weights, not shapes.
        traced = not self.found.from_shape.isdisjoint(node.inputs)
        return result if traced or may_be_shape(result) else None

    def _shape_value(self, node: Operation) -> Array | None:
        shape = self.found.shape.get(node.inputs[0])
        if shape is None:
            return None
        if node.op == "Size":
            return np.array(prod(shape), np.int64)
        return np.array(shape[node.attrs.get("start", 0) : node.attrs.get("end")], np.int64)

    def _know(self, node: Operation, value: Array, name: str = "") -> None:
        name = name or node.outputs[0]
        self.found.known[name] = value
        self.found.shape[name] = value.shape
        self.found.dtype[name] = _element(value.dtype)
        if node.op in ("Shape", "Size") or not self.found.from_shape.isdisjoint(node.inputs):
            self.found.from_shape.add(name)

    def _split_value(self, node: Operation) -> bool:
        """Learn the parts of a shape that is taken apart by Split, as onnxruntime's optimiser does it."""
        values = [self._value(name) if name else None for name in node.inputs]
        if (
            node.inputs[0] not in self.found.from_shape
            or "" in node.outputs
            or any(v is None and name for v, name in zip(values, node.inputs, strict=True))
        ):
            return False
        try:
            parts = split(values, node.attrs, len(node.outputs))
        except (ValueError, IndexError, TypeError):
            return False
        for name, part in zip(node.outputs, parts, strict=True):
            self._know(node, part, name)
        return True

    def _value(self, name: str) -> Array | None:
        value = self.found.known.get(name)
        return self.walked.constant(name) if value is None else value

    def _infer(self, node: Operation) -> None:
        """Infer one node with the values known by now, where onnx has a schema for it."""
        model = self.walked.model
        try:
            schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
        except onnx.defs.SchemaError:
            return
        types = {name: self._type(name) for name in node.inputs if name}
        if any(kind is None for kind in types.values()):
            return
        data = {}
        for name in types:
            value = self._value(name)
            if value is not None:
                data[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, node.proto, types, data, None, list(model.opset_import), model.ir_version
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
            return
        for name, kind in inferred.items():
            self._learn(name, kind)

    def _type(self, name: str) -> TypeProto | None:
        shape, dtype = self.found.shape.get(name), self.found.dtype.get(name)
        if shape is not None and dtype is not None:
            return helper.make_tensor_type_proto(dtype, shape)
        return self.types.get(name)

    def _infer_model(self) -> None:
        """Infer the whole model, for what cannot be inferred node by node (functions, for one)."""
        self.asked = True
        light = without_weights(self.walked.model)
        set_input_shapes(light, self.sizes)
        try:
            graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return
        for value in (*graph.value_info, *graph.output):
            if value.name not in self.found.shape:
                self._learn(value.name, value.type)


def infer(walked: Walked, sizes: Mapping[str, Shape], more: Mapping[str, tuple[Shape, int]] | None = None) -> Shapes:
    """Find the shapes at these input sizes; ``more`` gives shapes and element types that are known from elsewhere."""
    given = more or {}
    found = Shapes({n: shape for n, (shape, _) in given.items()}, {n: kind for n, (_, kind) in given.items()})
    return _Walk(walked, sizes, found).run()


@cache
def _element(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def _at_this_size(_name: str) -> bool:
    return True


def missing(found: Shapes, nodes: Iterable[Operation]) -> list[str]:
    """Return the tensors whose shape was not found, in order."""
    return [name for node in nodes for name in node.outputs if name and name not in found.shape]
