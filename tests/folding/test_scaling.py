"""Scaled models compute what gates at the consumers compute, in both worlds; nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from folds import difference, fed, gated, normalised, outputs, sizes, values
from fuzzing_models import in_ci, random_models
from gated_nets import MODELS, opened
from hypothesis import given
from models import mlp, residual_cnn
from onnx import TensorProto, helper
from onnx_models import Net, initializer, ops_of
from torch import Tensor, nn
from torch_models import ARCHITECTURES, made

from graphprune.coupling import couple
from graphprune.errors import ModelError, UsageError
from graphprune.folding import scaled
from graphprune.folding.scaling import not_scalable
from graphprune.frontends.fx.trace import trace
from graphprune.interpret import run, to_torch
from graphprune.interpret.gates import insert_gates
from graphprune.runtime import feeds, session
from graphprune.verification.verify import integer_limits

ONNX_MODELS: dict[str, Any] = {**MODELS, "mlp": mlp, "residual": residual_cnn, "normalised": normalised}


@pytest.mark.parametrize("kind", ONNX_MODELS)
def test_an_onnx_model_computes_what_its_gates_compute(kind: str) -> None:
    model = ONNX_MODELS[kind]()
    before = model.SerializeToString()
    graph, groups = opened(model)
    scales = values(groups)
    result = scaled(graph, groups, scales)
    assert difference(gated(graph, groups, scales), outputs(graph, result.source.model)) < 1e-5
    assert difference(outputs(graph), outputs(graph, result.source.model)) > 1e-2
    assert sizes(result) == sizes(graph)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.source.model, full_check=True)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_torch_module_computes_what_its_gates_compute(kind: str) -> None:
    module, inputs = made(kind)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    graph = trace(module, inputs)
    groups = couple(graph)
    scales = values(groups)
    result = scaled(graph, groups, scales)
    small = result.source.module
    assert type(small) is type(module)
    assert small.state_dict().keys() == before.keys()
    assert difference(gated(graph, groups, scales), outputs(graph, small)) < 1e-5
    assert difference(outputs(graph), outputs(graph, small)) > 1e-2
    assert couple(result).fingerprint == groups.fingerprint
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())


@in_ci(12)
@given(random_models())
def test_random_models(model: onnx.ModelProto) -> None:
    graph, groups = opened(model)
    data = feeds(graph.source.model, graph.source.input_sizes, 0, integer_limits(graph))
    scales = values(groups, 0)
    made = insert_gates(to_torch(graph).eval(), graph, groups)
    with torch.no_grad():
        for name, vector in made.vectors.items():
            vector.copy_(torch.tensor(scales[name]))
        wanted = [x.numpy() for x in run(made.module, data).values()]
    result = scaled(graph, groups, scales)
    for a, b in zip(wanted, session(result.source.model, optimise=False).run(None, data), strict=True):
        assert np.abs(a - b).max(initial=0) <= 1e-4 * max(np.abs(a).max(initial=0), 1e-3)
    assert sizes(result) == sizes(graph)


def test_numbers_go_into_the_columns_of_the_consumer() -> None:
    graph, groups = opened(mlp(8))
    result = scaled(graph, groups, {"fc1": np.arange(8.0)})
    wanted = graph.parameter("w2") * np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(result.parameter("w2"), wanted)
    for name in ("w1", "b1", "b2", "w3", "b3"):
        np.testing.assert_array_equal(result.parameter(name), graph.parameter(name))
    assert couple(result).fingerprint == groups.fingerprint


def test_ones_change_no_byte() -> None:
    graph, groups = opened(residual_cnn(8))
    result = scaled(graph, groups, {g.id: np.ones(g.size) for g in groups.groups})
    assert result.source.model.SerializeToString() == graph.source.model.SerializeToString()


def test_queries_are_scaled_where_they_are_made() -> None:
    """No multiplication is added for a sum of two data; the keys stay."""
    graph, groups = opened(MODELS["attention"]())
    scales = values(groups)
    (head_dim,) = (g.id for g in groups.groups if g.kind == "head-dim" and g.size == 4)
    result = scaled(graph, groups, {head_dim: scales[head_dim]})
    assert ops_of(result.source.model) == ops_of(graph.source.model)
    columns = np.tile(scales[head_dim], 3)
    np.testing.assert_allclose(result.parameter("q.weight"), graph.parameter("q.weight") * columns, rtol=1e-6)
    np.testing.assert_allclose(result.parameter("q.bias"), graph.parameter("q.bias") * columns, rtol=1e-6)
    np.testing.assert_array_equal(result.parameter("k.weight"), graph.parameter("k.weight"))


@pytest.mark.parametrize("between", ["nothing", "same for all", "sum", "number", "rounding", "relu"])
def test_what_happens_to_queries_before_the_product(between: str) -> None:
    """What does not commute with factors is not passed by: the product is then scaled itself."""
    net = Net()
    x = net.input(1, 5, 6)
    q, k = net.linear(x, 6, 8, name="q"), net.linear(x, 6, 8, name="k")
    if between == "sum":
        q = net.op("Sub", net.op("Mul", q, net.stored(net.random(5, 8))), net.op("Neg", q))
    elif between == "number":
        q = net.op("Add", q, net.scalar(0.7))
    elif between in ("rounding", "relu"):
        q = net.op("Floor" if between == "rounding" else "Relu", q)
    graph, groups = opened(net.model(net.op("MatMul", q, net.transpose(k, 0, 2, 1))))
    scales = {n: np.full(8, -1.5) for n in groups} if between == "same for all" else values(groups)
    result = scaled(graph, groups, scales)
    added = len(result.nodes) - len(graph.nodes)
    assert added == (0 if between in ("nothing", "same for all", "sum") else 1)
    assert difference(gated(graph, groups, scales), outputs(graph, result.source.model)) < 1e-5
    assert sizes(result) == sizes(graph)


def seen_twice() -> onnx.ModelProto:
    """Queries that are an output of the model's too, so that they may not change where they are made."""
    net = Net()
    x = net.input(1, 5, 6)
    heads = {n: net.transpose(net.reshape(net.linear(x, 6, 12, name=n), 1, 5, 3, 4), 0, 2, 1, 3) for n in "qk"}
    scores = net.op("Softmax", net.op("MatMul", heads["q"], net.transpose(heads["k"], 0, 1, 3, 2)), axis=-1)
    seen = net.linear(net.reshape(net.transpose(heads["q"], 0, 2, 1, 3), 1, 5, 12), 12, 3, name="seen")
    return net.model(scores, seen)


def test_a_multiplication_is_added_where_nothing_can_be_folded() -> None:
    graph, groups = opened(seen_twice())
    scales = values(groups)
    result = scaled(graph, groups, scales)
    assert ops_of(result.source.model).count("Mul") == 1
    assert difference(gated(graph, groups, scales), outputs(graph, result.source.model)) < 1e-5
    assert sizes(result) == sizes(graph)


def test_a_tied_table_is_not_doubled() -> None:
    graph, groups = opened(MODELS["shared"]())
    scales = values(groups)
    result = scaled(graph, groups, scales)
    np.testing.assert_array_equal(initializer(result.source.model, "table"), graph.parameter("table"))
    assert result.parameter("loop").shape == (8, 8)
    assert (result.parameter("loop") != graph.parameter("loop")).all(), "both uses want the same"


def test_hidden_units_of_a_recurrent_layer() -> None:
    """They are summed over by the layer itself at the next step, and by what follows."""
    net = Net()
    stored = [net.stored(net.random(1, 28, n), name) for n, name in ((6, "w"), (7, "r"))]
    y, _ = net.ops("LSTM", net.input(5, 1, 6), *stored, outputs=2, name="lstm", hidden_size=7)
    graph, groups = opened(net.model(net.linear(net.reshape(y, 5, 1, 7), 7, 3, name="head")))
    scales = values(groups)
    result = scaled(graph, groups, scales)
    np.testing.assert_allclose(result.parameter("r"), graph.parameter("r") * scales["lstm"], rtol=1e-6)
    assert difference(gated(graph, groups, scales), outputs(graph, result.source.model)) < 1e-5
    assert couple(result).fingerprint == groups.fingerprint


class Tied(nn.Module):
    """A weight used as it is, and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(x)) @ self.up.weight


class Twice(nn.Module):
    """A layer that is called for two maps alike."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(torch.relu(self.a(x))), self.head(torch.sigmoid(self.b(x)))


def test_a_weight_with_two_uses_is_refused_unless_both_want_the_same() -> None:
    graph = trace(Tied().eval(), torch.randn(2, 6))
    groups = couple(graph)
    assert len(groups) == 1
    with pytest.raises(ModelError, match="shared with something else") as error:
        scaled(graph, groups, values(groups))
    assert error.value.code == "scale-not-foldable"
    graph = trace(Twice().eval(), torch.randn(2, 3, 4, 4))
    groups = couple(graph)
    scales = values(groups)
    result = scaled(graph, groups, scales)
    assert difference(gated(graph, groups, scales), outputs(graph, result.source.module)) < 1e-5


class Outer(nn.Module):
    """Products of activations whose other use is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.seen = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = self.q(x)
        return q @ self.k(x).transpose(1, 2), self.seen(q)


def test_a_torch_module_is_refused_what_its_class_cannot_do() -> None:
    graph = trace(Outer().eval(), torch.randn(2, 4, 6))
    groups = couple(graph)
    with pytest.raises(ModelError, match="does not multiply a stored weight") as error:
        scaled(graph, groups, values(groups))
    assert error.value.code == "scale-not-foldable"


class Shifted(nn.Module):
    """Queries with a number added to them, or divided and rounded, which no weight can make up for."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.q, self.k, self.how = nn.Linear(6, 8), nn.Linear(6, 8), how

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x) + 1 if self.how == "number" else torch.div(self.q(x), 0.5, rounding_mode="floor")
        return q @ self.k(x).transpose(1, 2)


@pytest.mark.parametrize("how", ["number", "rounding"])
def test_numbers_in_between_are_noticed_in_torch(how: str) -> None:
    graph = trace(Shifted(how).eval(), torch.randn(2, 4, 6))
    groups = couple(graph)
    with pytest.raises(ModelError, match="does not multiply a stored weight"):
        scaled(graph, groups, values(groups))


def test_nodes_without_names_keep_the_ids_of_groups() -> None:
    model = seen_twice()
    for node in model.graph.node:
        node.name = ""
    graph, groups = opened(model)
    result = scaled(graph, groups, values(groups))
    assert len(result.nodes) == len(graph.nodes) + 1
    assert sizes(result) == sizes(graph)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_numbers_are_rounded_to_the_type_of_the_weight(kind: int) -> None:
    model = mlp(8)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    graph, groups = opened(model)
    scales = values(groups)
    result = scaled(graph, groups, scales)
    assert result.parameter("w2").dtype == graph.parameter("w2").dtype
    wanted = graph.parameter("w2").astype(np.float64) * scales["fc1"]
    np.testing.assert_array_equal(result.parameter("w2"), wanted.astype(graph.parameter("w2").dtype))


def quantised() -> onnx.ModelProto:
    """A weight stored as integers."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4), 3, 5, name="a"))
    rng = np.random.default_rng(0)
    stored = net.stored(rng.integers(-100, 100, (4, 5, 1, 1)).astype(np.int8), "b.weight")
    weight = net.op("DequantizeLinear", stored, net.scalar(0.01))
    return net.model(net.op("Conv", x, weight, name="b"))


def test_integer_weights_are_left_alone() -> None:
    graph, groups = opened(quantised())
    scales = values(groups)
    result = scaled(graph, groups, scales)
    np.testing.assert_array_equal(result.parameter("b.weight"), graph.parameter("b.weight"))
    assert difference(gated(graph, groups, scales), outputs(graph, result.source.model)) < 1e-5
    assert sizes(result) == sizes(graph)


@pytest.mark.parametrize(
    ("scales", "code"),
    [
        ({"nobody": np.ones(8)}, "unknown-group"), ({"fc1": np.ones(7)}, "bad-scales"),
        ({"fc1": np.full(8, np.nan)}, "bad-scales"),
    ],
)  # fmt: skip
def test_scales_that_do_not_fit_are_refused(scales: dict[str, Any], code: str) -> None:
    graph, groups = opened(mlp(8))
    with pytest.raises(UsageError) as error:
        scaled(graph, groups, scales)
    assert error.value.code == code


def test_dynamic_batches_stay_dynamic() -> None:
    graph, groups = opened(MODELS["activations"]("N"))
    result = scaled(graph, groups, values(groups))
    (value,) = result.source.model.graph.input
    assert value.type.tensor_type.shape.dim[0].dim_param == "N"
    (out,) = session(result.source.model).run(None, {"image": np.repeat(fed(graph)["image"], 3, axis=0)})
    assert len(out) == 3


def test_what_cannot_be_scaled_is_known_before() -> None:
    assert not_scalable(*opened(seen_twice())) == frozenset()
    for module, x in ((Tied(), torch.randn(2, 6)), (Outer(), torch.randn(2, 4, 6))):
        graph = trace(module.eval(), x)
        groups = couple(graph)
        refused = not_scalable(graph, groups)
        assert refused
        scaled(graph, groups, {n: s for n, s in values(groups).items() if n not in refused})
        for name in refused:
            with pytest.raises(ModelError):
                scaled(graph, groups, {name: values(groups)[name]})


def test_an_onnx_model_is_folded_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from models import residual_cnn; from graphprune.frontends.onnx.trace import trace\n"
        "from graphprune.coupling import couple; import numpy as np; from graphprune import folding\n"
        "graph = trace(residual_cnn(8)); groups = couple(graph)\n"
        "graph = folding.batch_norm_folded(graph); groups = couple(graph)\n"
        "folding.scaled(graph, groups, {g.id: np.full(g.size, 0.5) for g in groups.groups})\n"
        "folding.consumers_of(graph, groups), folding.producers_of(graph, groups)\n"
        "gone = {g.id: np.arange(g.size) == 0 for g in groups.groups}\n"
        "zeros = folding.scaled_at_producers(graph, groups, {n: 1.0 - m for n, m in gone.items()})\n"
        "folding.with_constants(zeros, folding.constants_left(zeros, groups, gone))\n"
    )
    folder = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
