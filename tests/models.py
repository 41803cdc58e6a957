"""Small ONNX models made by hand, deterministic, with names that tests can point at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def weight(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    """Gaussian weights, scaled so that activations keep their size."""
    fan_in = max(1, int(np.prod(shape[1:])))
    return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto],
    tensors: Sequence[onnx.TensorProto], opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(list(nodes), "small", list(inputs), list(outputs), list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def mlp(width: int = 32, batch: int | str = 1, seed: int = 0) -> onnx.ModelProto:
    """16 -> width -> width -> 10, with ReLU between."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], "fc1", transB=1),
        helper.make_node("Relu", ["h1"], ["r1"], "relu1"),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["h2"], "fc2", transB=1),
        helper.make_node("Relu", ["h2"], ["r2"], "relu2"),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["y"], "fc3", transB=1),
    ]
    tensors = [
        weight(rng, "w1", width, 16),
        weight(rng, "b1", width),
        weight(rng, "w2", width, width),
        weight(rng, "b2", width),
        weight(rng, "w3", 10, width),
        weight(rng, "b3", 10),
    ]
    return model_of(nodes, [floats("x", batch, 16)], [floats("y", batch, 10)], tensors)


def residual_cnn(width: int = 16, batch: int | str = 1, seed: int = 0) -> onnx.ModelProto:
    """conv-bn-relu, a residual block of two more convolutions, global pooling and a classifier; inputs 3 x 8 x 8."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def conv_bn(x: str, tag: str, channels: int) -> str:
        tensors.append(weight(rng, f"{tag}.weight", width, channels, 3, 3))
        nodes.append(helper.make_node("Conv", [x, f"{tag}.weight"], [f"{tag}.out"], tag, pads=[1] * 4))
        for part in ("gamma", "beta", "mean", "var"):
            values = rng.uniform(0.5, 1.5, width) if part in ("gamma", "var") else rng.standard_normal(width)
            tensors.append(numpy_helper.from_array(values.astype(np.float32), f"{tag}.{part}"))
        names = [f"{tag}.{part}" for part in ("gamma", "beta", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", [f"{tag}.out", *names], [f"{tag}.bn"], f"{tag}.norm"))
        return f"{tag}.bn"

    def relu(x: str, out: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [out], f"make_{out}"))
        return out

    stem = relu(conv_bn("x", "stem", 3), "stem.relu")
    inner = relu(conv_bn(stem, "block.first", width), "block.relu")
    last = conv_bn(inner, "block.second", width)
    nodes.append(helper.make_node("Add", [last, stem], ["sum"], "add"))
    nodes.append(helper.make_node("GlobalAveragePool", [relu("sum", "sum.relu")], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    tensors += [weight(rng, "fc.weight", 10, width), weight(rng, "fc.bias", 10)]
    nodes.append(helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], "fc", transB=1))
    return model_of(nodes, [floats("x", batch, 3, 8, 8)], [floats("y", batch, 10)], tensors)
