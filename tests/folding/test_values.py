"""Other stored values: in initializers, Constant nodes, parameters and buffers; what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from folds import outputs
from gated_nets import opened
from models import mlp
from onnx_models import Net, initializer
from torch import Tensor, nn

from graphprune.backends.save import save
from graphprune.coupling import couple
from graphprune.errors import ModelError, UsageError
from graphprune.folding import with_values
from graphprune.frontends.files.load import load
from graphprune.frontends.fx.trace import trace
from graphprune.frontends.onnx.trace import trace as trace_onnx


def test_an_initializer_and_a_constant_node() -> None:
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 6, name="a"))
    constant = net.constant(net.random(2, 6, 1, 1), "b.weight")
    model = net.model(net.op("Conv", x, constant, name="b"))
    before = model.SerializeToString()
    graph, groups = opened(model)
    new = {"a.weight": np.ones((6, 3, 1, 1), np.float32), "b.weight": np.full((2, 6, 1, 1), 0.5)}
    result = with_values(graph, new)
    for name, value in new.items():
        np.testing.assert_array_equal(initializer(result.source.model, name), value)
        np.testing.assert_array_equal(result.parameter(name), value)
        assert result.parameter(name).dtype == np.float32
    np.testing.assert_array_equal(result.parameter("a.bias"), graph.parameter("a.bias"))
    assert couple(result).fingerprint == groups.fingerprint
    assert model.SerializeToString() == before
    assert [n.name for n in result.nodes] == [n.name for n in graph.nodes]
    onnx.checker.check_model(result.source.model, full_check=True)


def test_constant_nodes_of_other_kinds_and_names() -> None:
    """What a Constant node holds may bear the name of another tensor; small values may be lists of floats."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 6, name="a"))
    constant = net.constant(net.random(2, 6, 1, 1), "b.weight")
    net.nodes[-1].attribute[0].t.name = "a.weight"
    net.nodes.append(onnx.helper.make_node("Constant", [], ["b.bias"], value_floats=[0.5, -0.5]))
    graph, _ = opened(net.model(net.op("Conv", x, constant, "b.bias", name="b")))
    result = with_values(graph, {"a.weight": np.zeros((6, 3, 1, 1)), "b.bias": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(result.parameter("b.weight"), graph.parameter("b.weight"))
    np.testing.assert_array_equal(result.parameter("b.bias"), [1, 2])
    np.testing.assert_array_equal(result.parameter("a.weight"), np.zeros((6, 3, 1, 1)))
    onnx.checker.check_model(result.source.model, full_check=True)


def test_values_stored_as_lists_of_numbers() -> None:
    model = mlp(4)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values.ravel().tolist())
    graph, _ = opened(model)
    result = with_values(graph, {"b1": np.arange(4.0)})
    np.testing.assert_array_equal(initializer(result.source.model, "b1"), np.arange(4))


def test_what_was_loaded_from_a_file_can_still_be_saved(tmp_path: Any) -> None:
    onnx.save(mlp(8), tmp_path / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    graph = trace_onnx(load(tmp_path / "a.onnx"))
    result = with_values(graph, {"w1": np.zeros((8, 16))})
    source = result.source
    assert source.loaded.path == graph.source.loaded.path
    assert source.loaded.model is source.model
    save(source.model, tmp_path / "b.onnx", external=source.loaded.external)
    assert not initializer(onnx.load(tmp_path / "b.onnx"), "w1").any()
    assert initializer(onnx.load(tmp_path / "a.onnx"), "w1").any()


class Net2(nn.Module):
    """A tied weight, a buffer, a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("shift", torch.zeros(4))
        self.plain = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))) + self.shift * self.plain


def test_parameters_buffers_and_plain_tensors() -> None:
    module = Net2().train()
    graph = trace(module, torch.randn(2, 4))
    new = {"a.weight": np.eye(4), "shift": np.arange(4.0), "plain": np.full(4, 2.0)}
    result = with_values(graph, new)
    made = result.source.module
    assert made.training
    assert made.b.weight is made.a.weight
    assert torch.equal(made.a.weight, torch.eye(4))
    assert torch.equal(made.shift * made.plain, 2 * torch.arange(4.0))
    assert not module.shift.any()
    assert not torch.equal(module.a.weight, torch.eye(4))
    assert made.a.weight.requires_grad
    x = graph.source.args[0]
    np.testing.assert_array_equal(outputs(result)[0], made(x).detach().numpy())


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("nothing", np.ones(1), "unknown-parameter"), ("x", np.ones((1, 16)), "unknown-parameter"),
        ("b1", np.ones(7), "value-shape"), ("b1", np.ones(8, np.int64), "value-type"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(name: str, value: Any, code: str) -> None:
    graph, _ = opened(mlp(8))
    with pytest.raises(UsageError) as error:
        with_values(graph, {name: value})
    assert error.value.code == code


def test_an_exported_program_has_no_module_to_change() -> None:
    exported = torch.export.export(nn.Linear(3, 2), (torch.randn(2, 3),))
    with pytest.raises(ModelError, match="no module") as error:
        with_values(trace(exported), {"bias": np.ones(2)})
    assert error.value.code == "module-missing"


class Refusing(nn.Linear):
    """A module that cannot be copied."""

    def __deepcopy__(self, memo: Any) -> nn.Module:
        raise TypeError("no copies")


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    graph = trace(Refusing(3, 2).eval(), torch.randn(2, 3))
    with pytest.raises(ModelError, match="no copies") as error:
        with_values(graph, {"bias": np.ones(2)})
    assert error.value.code == "module-not-copied"
