"""Values flow back into the file: all of what changed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net, initializer

from graphprune.errors import ModelError, UsageError
from graphprune.interpret import from_torch, to_torch
from graphprune.runtime import real_inputs

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def plain() -> onnx.ModelProto:
    net = Net()
    x = net.input("n", 6, name="x")
    return net.model(net.gemm(net.op("Relu", net.linear(x, 6, 5, name="first")), 5, 3, name="second"))


def in_constants() -> onnx.ModelProto:
    net = Net()
    x = net.input("n", 6, name="x")
    y = net.op("Add", net.op("MatMul", x, net.constant(net.random(6, 5), "w")), net.constant(net.random(5), "b"))
    net.nodes.append(helper.make_node("Constant", [], ["scale"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0]))
    return net.model(net.op("Mul", y, "scale"))


def behind_a_chain() -> onnx.ModelProto:
    """Half precision, transposed, read under another name."""
    net = Net()
    x = net.input("n", 6, name="x")
    w = net.stored(net.random(5, 6).astype(np.float16), "w")
    w = net.transpose(net.op("Identity", net.op("Cast", w, to=TensorProto.FLOAT)), 1, 0)
    return net.model(net.op("MatMul", x, w))


def in_numbers() -> onnx.ModelProto:
    """Weights as lists of numbers instead of bytes."""
    model = plain()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, tensor.dims, values.ravel().tolist()))
    return model


def shared() -> onnx.ModelProto:
    """One weight for two layers, one of them transposed."""
    net = Net()
    x = net.input("n", 6, name="x")
    w = net.weight(6, 6, name="w")
    return net.model(net.op("MatMul", net.op("Tanh", net.op("MatMul", x, w)), net.transpose(w, 1, 0)))


def old() -> onnx.ModelProto:
    net = Net(opset=7)
    x = net.input("n", 6, name="x")
    return net.model(net.gemm(x, 6, 3))


def in_branches() -> onnx.ModelProto:
    """Weights of the same names in both branches of a condition on the data."""

    def body(scale: float) -> onnx.GraphProto:
        w = numpy_helper.from_array(np.full((6, 3), scale, np.float32) * np.arange(3, dtype=np.float32), "w")
        node = helper.make_node("MatMul", ["x", "w"], [f"out{scale}"])
        value = helper.make_tensor_value_info(f"out{scale}", TensorProto.FLOAT, None)
        return helper.make_graph([node], f"body{scale}", [], [value], [w])

    net = Net()
    x = net.input("n", 6, name="x")
    condition = net.op("Greater", net.op("ReduceSum", x, keepdims=0), net.scalar(0.0))
    return net.model(net.op("If", condition, then_branch=body(0.5), else_branch=body(-1.5)))


MODELS = [plain, in_constants, behind_a_chain, in_numbers, shared, old, in_branches]


def trained(module: Any, x: np.ndarray[Any, Any]) -> None:
    """Take one step."""
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    sum(y.square().sum() for y in module(torch.from_numpy(x))).backward()
    optimiser.step()
    module.eval()


@pytest.mark.parametrize("make", MODELS)
def test_without_training_every_byte_is_the_same(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    assert from_torch(to_torch(model), model).SerializeToString() == model.SerializeToString()
    assert from_torch(to_torch(model).double(), model).SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize("make", MODELS)
def test_after_a_step_the_file_computes_what_the_module_does(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    before = model.SerializeToString()
    module = to_torch(model)
    trained(module, X)
    back = from_torch(module, model)
    assert model.SerializeToString() == before
    assert back.SerializeToString() != before
    onnx.checker.check_model(back)
    for x in (X, -X):  # both branches, where there are two
        assert_same(back, {"x": x}, module=module, tolerance=2e-3 if make is behind_a_chain else 1e-5)
    blind, original = onnx.ModelProto(), onnx.ModelProto()
    blind.CopyFrom(back)
    original.CopyFrom(model)
    for m in (blind, original):
        forget_values(m.graph)
    assert blind.SerializeToString() == original.SerializeToString()


def forget_values(graph: onnx.GraphProto) -> None:
    """Clear every stored floating value, so that what is left must be equal."""
    for tensor in graph.initializer:
        for name in ("raw_data", "float_data"):
            tensor.ClearField(name)
    for node in graph.node:
        for attribute in node.attribute:
            attribute.t.ClearField("raw_data")
            if attribute.name == "value_floats":
                del attribute.floats[:]
            if attribute.HasField("g"):
                forget_values(attribute.g)


def test_only_what_changed_is_written() -> None:
    model = in_numbers()
    module = to_torch(model)
    with torch.no_grad():
        module.get_parameter("second.bias")[1] += 1.0
    back = from_torch(module, model)
    assert initializer(back, "second.bias")[1] == initializer(model, "second.bias")[1] + 1.0
    for one, other in zip(back.graph.initializer, model.graph.initializer, strict=True):
        assert (one.name == "second.bias") or one.SerializeToString() == other.SerializeToString()


def test_weights_that_lie_in_another_file(tmp_path: Path) -> None:
    model = plain()
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    module = to_torch(path)
    trained(module, X)
    assert_same(from_torch(module, path), {"x": X}, module=module, tolerance=1e-5)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files
    with pytest.raises(ModelError, match="another file"):
        to_torch(onnx.load(path, load_external_data=False))


def test_running_statistics_that_nodes_share_part_ways() -> None:
    """Exporters store equal tensors once; after training each normalisation has statistics of its own."""
    net = Net()
    x = net.input("n", 4, "h", name="x")
    gamma, zero, one = net.vector(4, "gamma"), net.stored(np.zeros(4, np.float32), "zero"), net.vector(4, "one", 1, 1)
    y = net.op("BatchNormalization", x, gamma, zero, zero, one)
    y = net.op("BatchNormalization", net.op("Sigmoid", y), gamma, zero, net.op("Identity", zero), one, name="last")
    model = net.model(y)
    module = to_torch(model)
    assert from_torch(module, model).SerializeToString() == model.SerializeToString()
    assert {n for n, _ in module.named_parameters()} == {"gamma", "zero"}
    wave = np.random.default_rng(1).standard_normal((5, 4, 7)).astype(np.float32) + 2
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(wave))
    back = from_torch(module, model)
    assert initializer(back, "zero").tolist() == [0, 0, 0, 0]  # still the bias of both
    assert len({n for node in back.graph.node if node.op_type == "BatchNormalization" for n in node.input[3:]}) == 4
    assert_same(back, {"x": wave}, module=module.eval(), tolerance=1e-5)


def test_a_parameter_that_is_missing_or_reshaped_is_named() -> None:
    model = plain()
    module = to_torch(model)
    module.get_submodule("second").register_parameter("bias", torch.nn.Parameter(torch.zeros(4)))
    with pytest.raises(ModelError, match=r"second\.bias: its shape is \[4\], in the model it is \[3\]"):
        from_torch(module, model)
    del module.get_submodule("second").bias
    with pytest.raises(ModelError, match=r"second\.bias: the module no longer has this parameter"):
        from_torch(module, model)


def test_another_model_or_module_is_refused() -> None:
    with pytest.raises(ModelError, match="stores no tensor"):
        from_torch(to_torch(plain()), shared())
    with pytest.raises(UsageError, match="not made by to_torch"):
        from_torch(torch.nn.Linear(2, 2), plain())


def test_functions_of_the_model_stay_functions() -> None:
    """A model's own function is inlined to be computed; its file keeps it, and its weights come from outside."""
    inner = helper.make_function(
        "local", "Dense", ["v", "m"], ["o"],
        [helper.make_node("Constant", [], ["two"], value_float=2.0), helper.make_node("MatMul", ["v", "m"], ["p"]),
         helper.make_node("Mul", ["p", "two"], ["o"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    weights = [numpy_helper.from_array(np.random.default_rng(k).random(s).astype(np.float32), n)
               for k, (n, s) in enumerate({"first": (6, 5), "second": (5, 2)}.items())]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Dense", ["x", "first"], ["h"], domain="local"),
         helper.make_node("Dense", ["h", "second"], ["y"], domain="local")],
        "g", [helper.make_tensor_value_info("x", 1, ["n", 6])], [helper.make_tensor_value_info("y", 1, ["n", 2])],
        weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[inner], ir_version=8)
    module = assert_same(model, {"x": X})
    assert {n for n, _ in module.named_parameters()} == {"first", "second"}
    assert from_torch(module, model).SerializeToString() == model.SerializeToString()
    trained(module, X)
    back = from_torch(module, model)
    assert back.functions == model.functions
    assert_same(back, {"x": X}, module=module)
    assert [i.name for i in real_inputs(back)] == ["x"]
