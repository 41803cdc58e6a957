"""What a module made from a model is like: names, inputs, copies, devices and types, and what cannot be made."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, difference, reference
from onnx import TensorProto, helper
from onnx_models import IR_OF_OPSET, Net
from torch import fx, nn

import graphprune as gp
from graphprune.errors import ModelError, UsageError
from graphprune.interpret import register, run, to_torch
from graphprune.interpret.registry import operators

X = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)


def small() -> onnx.ModelProto:
    net = Net()
    x = net.input("n", 3, "h", "w", name="image")
    y = net.op("Relu", net.batch_norm(net.conv(x, 3, 4, 3, name="stem.0"), 4, name="stem.1"))
    y = net.op("Add", net.conv(y, 4, 4, 3, name="body"), y)
    y = net.op("Flatten", net.op("GlobalAveragePool", y, name="pooled"))
    return net.model(net.gemm(y, 4, 5, name="head"))


def test_names_are_the_file_s() -> None:
    model = small()
    module = to_torch(model)
    stored = {t.name for t in model.graph.initializer}
    assert set(module.state_dict()) == stored
    assert set(module.onnx_names.values()) == stored
    assert module.get_parameter("stem.0.weight").shape == (4, 3, 3, 3)
    assert {n for n, _ in module.named_buffers()} == {"stem.1.mean", "stem.1.var", "operators.like"}
    assert module.onnx_inputs == {"image": "image"}
    assert module.onnx_outputs == ("head",)


def test_every_tensor_says_which_it_is() -> None:
    model = small()
    module = to_torch(model)
    made = {name: node for node in module.graph.nodes for name in node.meta.get("onnx", ())}
    wanted = [o for n in model.graph.node for o in n.output] + ["image", "stem.0.weight"]
    assert set(wanted) <= set(made)
    seen = {}

    class Watch(fx.Interpreter):
        def run_node(self, node: fx.Node) -> object:
            result = super().run_node(node)
            seen.update(dict.fromkeys(node.meta.get("onnx", ()), result))
            return result

    Watch(module.eval()).run(torch.from_numpy(X))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.ValueInfoProto(name="pooled"))
    assert difference(seen["pooled"].detach().numpy(), reference(probe, {"image": X})["pooled"]) < 1e-5


def test_inputs_by_position_by_keyword_and_by_name() -> None:
    module = to_torch(small()).eval()
    x = torch.from_numpy(X)
    (first,) = module(x)
    assert torch.equal(first, module(image=x)[0])
    assert torch.equal(first, run(module, {"image": X})["head"])
    with pytest.raises(UsageError, match="'image' is missing"):
        run(module, {})
    with pytest.raises(UsageError, match="no input 'picture'"):
        run(module, {"image": X, "picture": X})


def test_a_path_a_model_and_a_graph_are_the_same(tmp_path: Path) -> None:
    model = small()
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    for source in (path, str(path), model, gp.trace(model, input_shapes={"image": [1, 3, 6, 6]})):
        assert_same(model, {"image": X}, module=to_torch(source).eval())


@pytest.mark.parametrize("opset", sorted(IR_OF_OPSET))
def test_every_opset(opset: int) -> None:
    """Where meanings and ways of saying have changed: softmax, clip, dropout, squeeze, reductions, slices, padding."""
    net = Net(opset=opset)
    x = net.input("n", 3, 8, 8, name="image")

    def said(op: str, x: str, name: str, *values: int, since: int, **attrs: int) -> str:
        if opset < since:
            return net.op(op, x, **{name: list(values)}, **attrs)
        return net.op(op, x, net.ints(*values), **attrs)

    y = net.op("Relu", net.batch_norm(net.conv(x, 3, 4, 3), 4))
    y = net.op("Clip", y, min=0.0, max=6.0) if opset < 11 else net.op("Clip", y, net.scalar(0), net.scalar(6))
    y = said("Pad", y, "pads", 0, 0, 1, 0, 0, 0, 0, 1, since=11)
    y = net.op("Dropout", net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    y = said("Squeeze", said("Unsqueeze", y, "axes", 2, since=13), "axes", 2, since=13)
    z = said("ReduceSum", said("ReduceMean", y, "axes", 3, since=18, keepdims=0), "axes", 2, since=13, keepdims=0)
    z = net.op("Slice", z, starts=[1], ends=[4], axes=[1]) if opset < 10 else net.op(
        "Slice", z, net.ints(1), net.ints(4), net.ints(1))  # fmt: skip
    made = net.op("Concat", net.op("Softmax", y, axis=1), net.op("LogSoftmax", y, axis=2), axis=1)
    assert_same(net.model(made, z), {"image": np.random.default_rng(opset).random((2, 3, 8, 8), np.float32)})


def test_names_that_torch_cannot_spell() -> None:
    net = Net()
    x = net.input(2, 3, name="x:0")
    names = [
        "a",
        "a.b",
        "forward",
        "c..d",
        ".e",
        "for",
        "a_",
        "layer.weight",
        "Conv/weight:0",
        "training",
        "operators.like",
    ]
    for name in names:
        x = net.op("Mul", x, net.vector(3, name))
    model = net.model(x)
    module = assert_same(model, {"x:0": X[0, 0, :2, :3].copy()})
    assert sorted(module.onnx_names.values()) == sorted(names)
    assert len(set(module.onnx_names)) == len(names)
    for path, name in module.onnx_names.items():
        assert path.replace("_", "").replace(".", "") == name.replace("_", "").replace(".", "")
        assert np.array_equal(module.get_parameter(path).detach(), onnx.numpy_helper.to_array(
            next(t for t in model.graph.initializer if t.name == name)))  # fmt: skip
    assert module.onnx_names["layer.weight"] == "layer.weight"
    assert module.onnx_inputs == {"x_0": "x:0"}


def test_copies_are_whole_and_independent() -> None:
    module = to_torch(small())
    other = copy.deepcopy(module)
    assert (other.onnx_names, other.onnx_inputs) == (module.onnx_names, module.onnx_inputs)
    assert list(other.state_dict()) == list(module.state_dict())
    with torch.no_grad():
        other.get_parameter("head.bias").add_(1)
    x = torch.from_numpy(X)
    assert torch.allclose(module.eval()(x)[0] + 1, other.eval()(x)[0])
    module.load_state_dict(other.state_dict())
    assert torch.equal(module(x)[0], other(x)[0])


def test_nothing_is_shared_with_the_model() -> None:
    model = small()
    before = model.SerializeToString()
    module = to_torch(model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert model.SerializeToString() == before


def casting() -> onnx.ModelProto:
    """A mask that becomes floats, zeros made from nothing, and a count: all must follow the module's type."""
    net = Net()
    x = net.input("n", 4, name="x")
    mask = net.op("Cast", net.op("Greater", x, net.scalar(0.0)), to=TensorProto.FLOAT)
    zeros = net.op("ConstantOfShape", net.op("Shape", x))
    count = net.op("Cast", net.op("Range", net.stored(np.array(0)), net.op("Size", x), net.stored(np.array(1))), to=1)
    total = net.op("ReduceSum", count, net.ints(0), keepdims=0)
    return net.model(net.linear(net.op("Add", net.op("Mul", mask, total), net.op("Add", zeros, x)), 4, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_moves_between_types(dtype: torch.dtype) -> None:
    x = X[0, 0, :, :4].copy()
    module = assert_same(casting(), {"x": x})
    expected = module(torch.from_numpy(x))[0]
    (y,) = module.to(dtype)(torch.from_numpy(x).to(dtype))
    assert y.dtype == dtype
    assert torch.allclose(y.to(torch.float32), expected, rtol=0.05, atol=0.3)


def test_moves_to_another_device() -> None:
    """On the meta device nothing can be computed, but a tensor that stayed behind would be an error."""
    for model, shape in ((casting(), (2, 4)), (small(), (2, 3, 6, 6))):
        module = to_torch(model).eval().to("meta")
        (y,) = module(torch.empty(shape, device="meta"))
        assert y.device.type == "meta"


def test_compiles_without_breaks_at_any_size() -> None:
    net = Net()
    x = net.input("n", "t", 6, name="x")
    shape = net.op("Shape", x)
    one = net.op("Gather", shape, net.stored(np.array(0)))
    two = net.op("Gather", shape, net.stored(np.array(1)))
    parts = [net.op("Unsqueeze", n, net.ints(0)) for n in (one, two)]
    y = net.op("Reshape", net.linear(x, 6, 6), net.op("Concat", *parts, net.ints(2), net.ints(-1), axis=0))
    module = to_torch(net.model(net.transpose(y, 0, 2, 1, 3))).eval()
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    for n, t in ((2, 5), (3, 7)):
        x_ = torch.randn(n, t, 6)
        assert torch.allclose(compiled(x_)[0], module(x_)[0])


# What cannot be made --------------------------------------------------------------------------------------------------


def strange() -> onnx.ModelProto:
    net = Net()
    x = net.input(2, 3, name="x")
    net.domains["acme"] = 1
    node = helper.make_node("Frobnicate", [x], ["y"], name="odd_one", domain="acme", strength=2.0)
    net.nodes.append(node)
    graph = helper.make_graph(net.nodes, "g", net.inputs, [helper.make_tensor_value_info("y", 1, [2, 3])])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)], ir_version=8,
        functions=[],
    )  # fmt: skip


def test_an_unknown_operator_is_named_and_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.interpret import build, registry

    model = strange()
    monkeypatch.setattr(build, "model_of", lambda m: m)  # onnxruntime, asked by the check, does not know it either
    with pytest.raises(ModelError) as caught:
        to_torch(model)
    told = str(caught.value)
    assert all(w in told for w in ("acme::Frobnicate", "odd_one", 'register("Frobnicate", domain="acme")'))
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))

    @register("Frobnicate", domain="acme")
    def frobnicate(x: torch.Tensor, *, strength: float) -> torch.Tensor:
        return x * strength

    x = torch.randn(2, 3)
    assert torch.equal(to_torch(model)(x)[0], 2 * x)
    assert ("acme", "Frobnicate") in operators()


def test_a_misspelt_operator_is_guessed() -> None:
    from graphprune.interpret.registry import find

    with pytest.raises(ModelError, match="did you mean HardSwish"):
        find("", "HardSwisch", 17, "node")


def test_a_newer_meaning_replaces_an_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.interpret import registry

    monkeypatch.setattr(registry, "_TABLE", {})
    register("Thing", since=5)(lambda x: x)
    register("Thing", since=9)(lambda x: -x)
    assert registry.find("", "Thing", 8, "n").since == 5
    assert registry.find("", "Thing", 9, "n").since == 9
    with pytest.raises(ModelError, match="opset 4"):
        registry.find("", "Thing", 4, "n")


def test_an_unknown_attribute_is_not_ignored() -> None:
    from graphprune.interpret import build

    model = small()
    model.graph.node[2].attribute.append(helper.make_attribute("surprise", 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "model_of", lambda m: m)
        with pytest.raises(ModelError, match="'surprise' of Relu"):
            to_torch(model)


def test_without_torch_one_error_says_what_to_install() -> None:
    words = (
        "import sys; sys.modules['torch'] = None\n"
        "from graphprune.errors import GraphpruneError\n"
        "try:\n    import graphprune.interpret\n"
        "except GraphpruneError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert "needs torch" in done.stdout
    assert "graphprune[torch]" in done.stdout


def test_text_is_refused() -> None:
    net = Net()
    x = net.input(2, name="x", dtype=TensorProto.STRING)
    with pytest.raises(ModelError, match="StringNormalizer"):
        to_torch(net.model(net.op("StringNormalizer", x), **{"StringNormalizer_1": TensorProto.STRING}))


def test_a_module_of_torch_is_no_model() -> None:
    with pytest.raises((ModelError, UsageError, TypeError)):
        to_torch(nn.Linear(2, 2))
