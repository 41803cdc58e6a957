"""Small valid models that are spoiled: between them they hold every kind of thing a model file can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net


def convolutions() -> onnx.ModelProto:
    net = Net(opset=18)
    x = net.input("batch", 3, 8, 8, name="x")
    y = net.op("Relu", net.batch_norm(net.conv(x, 3, 8, 3), 8))
    z = net.op("Add", net.conv(net.op("MaxPool", y, kernel_shape=[3, 3], pads=[1] * 4), 8, 8, 3, groups=4), y)
    z = net.op("Concat", z, net.op("Slice", y, net.ints(1), net.ints(7), net.ints(1), net.ints(2)), axis=1)
    a, b = net.ops("Split", net.op("Pad", z, net.ints(0, 0, 1, 1, 0, 1, 0, 0)), net.ints(5, 7), outputs=2, axis=1)
    z = net.op("Resize", net.op("Concat", b, a, axis=1), "", net.stored(np.array([1, 1, 2, 2], np.float32)))
    z = net.op("DepthToSpace", net.conv(net.op("Sigmoid", net.conv(z, 12, 8)), 8, 12), blocksize=2)
    return net.model(net.gemm(net.op("ReduceMean", z, net.ints(2, 3), keepdims=0), 3, 5))


def tokens() -> onnx.ModelProto:
    net = Net(opset=17)
    ids = net.input("batch", 4, name="ids", dtype=TensorProto.INT64)
    x = net.op("Gather", net.weight(7, 6), ids)
    x = net.op("LayerNormalization", x, net.vector(6), net.vector(6), axis=-1)
    batch = net.op("Slice", net.op("Shape", x), net.ints(0), net.ints(1))
    split = net.op("Concat", batch, net.ints(4, 2, 3), axis=0)
    q, k, v = (net.transpose(net.op("Reshape", net.linear(x, 6, 6), split), 0, 2, 1, 3) for _ in range(3))
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), axis=-1)
    y = net.reshape(net.transpose(net.op("MatMul", scores, v), 0, 2, 1, 3), 0, 4, -1)
    y = net.op("Einsum", net.op("Tile", y, net.ints(1, 1, 2)), net.weight(12, 4), equation="btc,cd->btd")
    wanted = net.op("Concat", batch, net.ints(4, 4), axis=0)
    y = net.op("Add", y, net.op("Expand", net.vector(4), wanted))
    filled = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
    y = net.op("Mul", y, net.op("ConstantOfShape", wanted, value=filled))
    return net.model(net.ops("TopK", net.linear(y, 4, 3), net.ints(2), outputs=2, axis=-1)[0])


def bodies() -> onnx.ModelProto:
    """If, a Loop that ends by itself, a recurrent layer, a function of the model's own, a sparse initializer."""
    net = Net(opset=18)
    x = net.input(2, 3, 4, name="x")
    y = net.linear(net.op("Relu", net.linear(x, 4, 8)), 8, 4)
    y = net.ops("LSTM", y, net.weight(1, 20, 4), net.weight(1, 20, 5), outputs=2, hidden_size=5)[1]
    y = net.op("Squeeze", y, net.ints(0))
    branch = [_body([helper.make_node(op, ["capture"], [f"{op}_out"])], [f"{op}_out"]) for op in ("Relu", "Neg")]
    net.nodes[-1].output[0] = y = "capture"
    y = net.op("If", net.stored(np.array(True)), then_branch=branch[0], else_branch=branch[1])
    step = _body(
        [helper.make_node("Not", ["go_in"], ["go"]), helper.make_node("Add", ["state", "capture"], ["next"])],
        ["go", "next"],
        [("i", TensorProto.INT64, []), ("go_in", TensorProto.BOOL, []), ("state", TensorProto.FLOAT, [3, 5])],
    )
    y = net.op("Loop", net.stored(np.array(3)), net.stored(np.array(True)), y, body=step)
    y = net.linear(y, 5, 6)
    model = net.model(net.linear(net.op("Add", y, y, name="twice"), 6, 2))
    twice = next(n for n in model.graph.node if n.name == "twice")
    twice.CopyFrom(helper.make_node("Twice", [y], ["twice"], name="twice", domain="own"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    nodes = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], nodes, [helper.make_opsetid("", 18)]))
    values = numpy_helper.from_array(np.ones(2, np.float32), "sparse")
    places = numpy_helper.from_array(np.array([0, 3]), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [6]))
    return model


def _body(
    nodes: list[onnx.NodeProto],
    outputs: list[str],
    inputs: list[tuple[str, int, list[int]]] = [],  # noqa: B006
) -> onnx.GraphProto:
    kinds = {"go": (TensorProto.BOOL, [])}
    results = [helper.make_tensor_value_info(o, *kinds.get(o, (TensorProto.FLOAT, [3, 5]))) for o in outputs]
    return helper.make_graph(nodes, "body", [helper.make_tensor_value_info(*i) for i in inputs], results)


def quantised() -> onnx.ModelProto:
    net = Net(opset=13)
    x = net.input(1, 4, 6, 6, name="x")
    scale, zero = net.scalar(0.05), net.stored(np.array(3, np.uint8))
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale, zero), scale, zero)
    weight = net.stored(np.arange(-32, 32, dtype=np.int8).reshape(16, 4, 1, 1))
    scales, zeros = net.stored(np.full(16, 0.02, np.float32)), net.stored(np.zeros(16, np.int8))
    y = net.op("Conv", x, net.op("DequantizeLinear", weight, scales, zeros, axis=0), net.vector(16))
    y = net.op("FusedConv", y, net.weight(8, 16, 1, 1), net.vector(8), activation="Relu", domain="com.microsoft")
    y = net.transpose(
        net.reshape(net.op("ConvTranspose", y, net.weight(8, 6, 2, 2), strides=[2, 2]), 1, 6, -1), 0, 2, 1
    )
    y = net.op("MultiHeadAttention", *(net.linear(y, 6, 6) for _ in range(3)), num_heads=2, domain="com.microsoft")
    return net.model(net.linear(y, 6, 3))


VICTIMS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f for f in (convolutions, tokens, bodies, quantised)
}  # fmt: skip


def write(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path
