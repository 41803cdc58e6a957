"""A small builder of ONNX models, so that a test can write a graph as it would be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphprune.runtime import feeds, session

Array = NDArray[Any]
IR_OF_OPSET = {7: 3, 8: 3, 9: 4, 11: 6, 13: 7, 15: 8, 17: 8, 18: 8, 20: 9, 21: 10, 23: 11, 24: 12}


class Net:
    """Collects nodes and constants; ``op`` and its kin return the names of the tensors they make."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.domains: dict[str, int] = {}
        self.count = 0

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}_{self.count}"

    # Leaves -------------------------------------------------------------------------------------------------------

    def input(self, *shape: int | str | None, name: str = "", dtype: int = TensorProto.FLOAT) -> str:
        name = name or self.name("x")
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def stored(self, array: Array, name: str = "") -> str:
        """An initializer."""
        name = name or self.name("w")
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def constant(self, array: Array, name: str = "") -> str:
        """What a Constant node holds."""
        name = name or self.name("c")
        tensor = numpy_helper.from_array(np.asarray(array))
        self.nodes.append(helper.make_node("Constant", [], [name], name=f"{name}_node", value=tensor))
        return name

    def random(self, *shape: int, name: str = "") -> Array:
        """Weights that keep the scale of what they multiply."""
        fan_in = max(int(np.prod(shape[1:])), 1)
        made: Array = (self.rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        return made

    def weight(self, *shape: int, name: str = "") -> str:
        return self.stored(self.random(*shape), name)

    def vector(self, size: int, name: str = "", low: float = -0.5, high: float = 0.5) -> str:
        return self.stored(self.rng.uniform(low, high, size).astype(np.float32), name)

    def ints(self, *values: int, name: str = "") -> str:
        return self.stored(np.array(values, np.int64), name)

    def scalar(self, value: float, name: str = "") -> str:
        return self.stored(np.array(value, np.float32), name)

    # Nodes --------------------------------------------------------------------------------------------------------

    def ops(self, op: str, *inputs: str, outputs: int, name: str = "", domain: str = "", **attrs: Any) -> list[str]:
        """Add a node of several outputs."""
        name = name or self.name(op)
        made = [name if outputs == 1 else f"{name}.{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, domain=domain, **attrs))
        if domain:
            self.domains[domain] = 1
        return made

    def op(self, op: str, *inputs: str, name: str = "", domain: str = "", **attrs: Any) -> str:
        return self.ops(op, *inputs, outputs=1, name=name, domain=domain, **attrs)[0]

    def conv(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        groups: int = 1,
        *,
        bias: bool = True,
        name: str = "",
        **attrs: Any,
    ) -> str:
        """A 2-D convolution that keeps the size of the map."""
        name = name or self.name("conv")
        operands = [x, self.weight(c_out, c_in // groups, kernel, kernel, name=f"{name}.weight")]
        operands += [self.vector(c_out, name=f"{name}.bias")] if bias else []
        attrs.setdefault("pads", [kernel // 2] * 4)
        return self.op("Conv", *operands, name=name, kernel_shape=[kernel, kernel], group=groups, **attrs)

    def batch_norm(self, x: str, channels: int, name: str = "") -> str:
        name = name or self.name("bn")
        statistics = [self.vector(channels, f"{name}.{part}") for part in ("beta", "mean")]
        gamma, var = (self.vector(channels, f"{name}.{part}", 0.5, 1.5) for part in ("gamma", "var"))
        return self.op("BatchNormalization", x, gamma, *statistics, var, name=name)

    def linear(self, x: str, c_in: int, c_out: int, *, bias: bool = True, name: str = "") -> str:
        """MatMul and Add, on tokens of any rank."""
        name = name or self.name("linear")
        y = self.op("MatMul", x, self.stored(self.random(c_out, c_in).T.copy(), f"{name}.weight"), name=name)
        return self.op("Add", y, self.vector(c_out, f"{name}.bias"), name=f"{name}.add") if bias else y

    def gemm(self, x: str, c_in: int, c_out: int, name: str = "") -> str:
        name = name or self.name("gemm")
        weight, bias = self.weight(c_out, c_in, name=f"{name}.weight"), self.vector(c_out, f"{name}.bias")
        return self.op("Gemm", x, weight, bias, name=name, transB=1)

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.ints(*shape))

    def transpose(self, x: str, *perm: int) -> str:
        return self.op("Transpose", x, perm=list(perm))

    # The model ----------------------------------------------------------------------------------------------------

    def model(self, *outputs: str, **types: int) -> onnx.ModelProto:
        """Finish; an output's element type is float unless ``types`` says otherwise."""
        values = [onnx.ValueInfoProto(name=o, type=helper.make_tensor_type_proto(types.get(o, TensorProto.FLOAT), None))
                  for o in outputs]  # fmt: skip
        old = [] if IR_OF_OPSET[self.opset] > 3 else [
            helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.initializers
        ]  # fmt: skip
        graph = helper.make_graph(self.nodes, "net", [*self.inputs, *old], values, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, v) for d, v in self.domains.items())]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_OF_OPSET[self.opset])
        inferred = {o.name: o for o in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output}
        for value in model.graph.output:
            value.CopyFrom(inferred[value.name])
            if not value.type.tensor_type.HasField("shape"):  # the checker wants at least the rank
                shape = [None] * _rank_at_runtime(model, value.name)
                value.type.CopyFrom(helper.make_tensor_type_proto(value.type.tensor_type.elem_type, shape))
        return model


def _rank_at_runtime(model: onnx.ModelProto, name: str) -> int:
    sizes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return int(session(model).run([name], feeds(model, sizes, 0))[0].ndim)


def initializer(model: onnx.ModelProto, name: str) -> Any:
    """A stored tensor's array: an initializer, or the value of the Constant node that makes it."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            return numpy_helper.to_array(node.attribute[0].t)
    raise KeyError(name)


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def attribute(made: onnx.NodeProto, name: str) -> Any:
    return next(helper.get_attribute_value(a) for a in made.attribute if a.name == name)


def ops_of(model: onnx.ModelProto) -> Sequence[str]:
    return [n.op_type for n in model.graph.node]
