"""What removed units leave behind: the model without them, its biases changed, computes what it did with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from folds import difference, fed, keeping, normalised, outputs, padded, sizes
from gated_nets import MODELS, opened
from models import mlp, residual_cnn
from onnx_models import Net, initializer, ops_of
from torch import Tensor, nn
from torch_models import made

from graphprune.coupling import couple
from graphprune.errors import ModelError, UsageError
from graphprune.folding import Constant, constants_left, scaled_at_producers, with_constants
from graphprune.frontends.fx.trace import trace
from graphprune.frontends.onnx.trace import trace as trace_onnx
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.runtime import session
from graphprune.worlds import rewrite

ONNX_MODELS: dict[str, Any] = {
    **{n: MODELS[n] for n in ("activations", "squeeze_excite", "concatenations", "grouped", "flattened", "unused")},
    "mlp": mlp, "residual": residual_cnn, "normalised": normalised, "padded": padded,
}  # fmt: skip


def gated_before_the_bias(graph: Graph, seed: int = 1) -> tuple[Graph, Groups, dict[str, Any]]:
    """Gates between zero and one before every bias, and which of them are zero."""
    groups, rng = couple(graph), np.random.default_rng(seed)
    removed = {g.id: rng.random(g.size) < 0.4 for g in groups.groups}
    for mask in removed.values():
        mask[0] = False
    gates = {n: np.where(m, 0.0, rng.uniform(0.3, 1, len(m))) for n, m in removed.items()}
    return scaled_at_producers(graph, groups, gates), groups, removed


def pruned(graph: Graph, removed: dict[str, Any]) -> Any:
    groups = couple(graph)
    return rewrite(graph, keeping(groups, removed), groups)


@pytest.mark.parametrize("kind", ONNX_MODELS)
def test_an_onnx_model_without_its_constant_units_computes_the_same(kind: str) -> None:
    model = ONNX_MODELS[kind]()
    before = model.SerializeToString()
    graph, groups = opened(model)
    constant, _, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    small = pruned(result, removed)
    wanted = outputs(constant)
    assert difference(wanted, outputs(graph, small)) < 1e-5
    assert difference(wanted, outputs(graph, pruned(constant, removed))) > 1e-2, "the constants matter"
    assert sizes(result) == sizes(graph)
    assert model.SerializeToString() == before
    onnx.checker.check_model(small, full_check=True)


@pytest.mark.parametrize("kind", ["mlp", "convnext", "mixer", "lstm"])
def test_a_torch_module_without_its_constant_units_computes_the_same(kind: str) -> None:
    graph = trace(*made(kind))
    constant, groups, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    assert type(result.source.module) is type(graph.source.module)
    small = pruned(result, removed)
    wanted = outputs(constant)
    assert difference(wanted, outputs(graph, small)) < 1e-5
    assert difference(wanted, outputs(graph, pruned(constant, removed))) > 1e-2
    assert sizes(result) == sizes(graph)


def test_gates_before_the_bias_multiply_rows_and_nothing_else() -> None:
    graph, groups = opened(mlp(8))
    scales = np.arange(8.0)
    result = scaled_at_producers(graph, groups, {"fc2": scales})
    wanted = (graph.parameter("w2") * scales[:, None]).astype(np.float32)
    np.testing.assert_array_equal(result.parameter("w2"), wanted)
    for name in ("w1", "b1", "b2", "w3", "b3"):
        np.testing.assert_array_equal(result.parameter(name), graph.parameter(name))


def test_the_constant_is_that_of_the_formula() -> None:
    """act(bias), summed over the kernel, in the consumer's bias (an unpadded convolution)."""
    graph, _ = opened(padded())
    gone = np.arange(6) == 2
    groups = couple(graph)
    zeros = scaled_at_producers(graph, groups, {"b": 1.0 - gone})
    (constant,) = constants_left(zeros, groups, {"b": gone})
    value = 1 / (1 + np.exp(-graph.parameter("b.bias")[2].astype(np.float64)))
    assert constant.value.shape == (1, 6, 1, 1)
    np.testing.assert_allclose(constant.value.ravel(), np.where(gone, value, 0), rtol=1e-6)
    result = with_constants(zeros, [constant])
    (name,) = (n.inputs[2] for n in result.nodes if n.name == "c")
    assert name is not None
    wanted = value * graph.parameter("c.weight")[:, 2].sum(axis=(1, 2))
    np.testing.assert_allclose(result.parameter(name), wanted, rtol=1e-5)
    assert ops_of(result.source.model) == ops_of(graph.source.model)


def test_zero_padding_needs_a_map() -> None:
    graph, _ = opened(padded())
    constant, groups, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    assert ops_of(result.source.model).count("Add") == 1, "one convolution behind is padded and no depthwise one"
    (added,) = (n for n in result.nodes if n.op == "Add")
    (stored,) = (n for n in added.inputs if n in result.source.constants)
    assert result.shape(stored) == (1, 6, 8, 8)
    field = result.parameter(stored)[0]
    assert np.ptp(field[:, 2:-2, 2:-2], axis=(1, 2)).max() < 1e-5, "away from the borders it is one number"
    assert np.ptp(field, axis=(1, 2)).max() > 1e-2


def test_the_interior_is_right_away_from_the_borders() -> None:
    """A single padded convolution behind the removed units: one row and column at each border are approximate."""
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input(1, 3, "H", "W"), 3, 6, 1, name="a"))
    model = net.model(net.conv(x, 6, 4, 3, name="b"))
    graph = trace_onnx(model, input_shapes={"x_1": (1, 3, 8, 8)})
    constant, groups, removed = gated_before_the_bias(graph)
    left = constants_left(constant, groups, removed)
    with pytest.raises(ModelError, match="size follows the model's input") as error:
        with_constants(constant, left)
    assert error.value.code == "constant-not-foldable"
    result = with_constants(constant, left, borders="interior")
    (wanted,), (found,) = outputs(constant), outputs(graph, pruned(result, removed))
    np.testing.assert_allclose(found[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    assert np.abs(found - wanted).max() > 1e-2


def test_unpadded_models_of_any_size() -> None:
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input("N", 3, "H", "W"), 3, 6, 1, name="a"))
    model = net.model(net.conv(x, 6, 4, 3, pads=[0] * 4, name="b"))
    graph = trace_onnx(model, input_shapes={"x_1": (1, 3, 8, 8)})
    constant, groups, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    small = pruned(result, removed)
    data = {"x_1": np.random.default_rng(0).standard_normal((2, 3, 11, 7)).astype(np.float32)}
    wanted, found = (session(m, optimise=False).run(None, data) for m in (constant.source.model, small))
    assert difference(wanted, found) < 1e-5


class Padded(nn.Module):
    """Two convolutions, the second padded, or not and without a bias."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 3, padding=padding, bias=padding > 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.sigmoid(self.a(x)))


def test_a_torch_module_cannot_take_a_map() -> None:
    torch.manual_seed(0)
    graph = trace(Padded(1).eval(), torch.randn(2, 3, 6, 6))
    constant, groups, removed = gated_before_the_bias(graph)
    left = constants_left(constant, groups, removed)
    with pytest.raises(ModelError, match="differs by position"):
        with_constants(constant, left)
    result = with_constants(constant, left, borders="interior")
    (wanted,), (found,) = outputs(constant), outputs(graph, pruned(result, removed))
    np.testing.assert_allclose(found[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_a_torch_layer_is_given_a_bias() -> None:
    torch.manual_seed(0)
    graph = trace(Padded(0).eval(), torch.randn(2, 3, 6, 6))
    constant, groups, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    assert isinstance(result.source.module.b.bias, nn.Parameter)
    assert graph.source.module.b.bias is None
    assert difference(outputs(constant), outputs(graph, pruned(result, removed))) < 1e-5


def test_means_of_removed_inputs_go_into_the_bias() -> None:
    """Any values may be given: bias += W[:, k] E[x_k], whatever the sum's bias is."""
    graph, _ = opened(mlp(8))
    means = np.zeros((1, 8))
    means[0, 3] = 1.7
    (node,) = (k for k, n in enumerate(graph.nodes) if n.name == "fc2")
    result = with_constants(graph, [Constant(node, 0, means)])
    wanted = graph.parameter("b2") + 1.7 * graph.parameter("w2")[:, 3]
    np.testing.assert_allclose(result.parameter("b2"), wanted, rtol=1e-5, atol=1e-7)
    assert initializer(result.source.model, "b2").dtype == np.float32


def test_a_bias_that_layers_share_is_split() -> None:
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input(1, 3, 4, 4), 3, 5, name="a"))
    bias = net.vector(4, "bias")
    parts = [net.op("Conv", x, net.weight(4, 5, 1, 1, name=f"{n}.weight"), bias, name=n) for n in "bc"]
    graph, groups = opened(net.model(*parts))
    constant, _, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    one, two = (result.parameter(n.inputs[2] or "") for n in result.nodes if n.name in "bc")
    assert np.abs(one - two).min() > 1e-3
    assert difference(outputs(constant), outputs(graph, pruned(result, removed))) < 1e-5


def test_gemms_with_factors_and_wide_biases() -> None:
    net = Net()
    x = net.op("Sigmoid", net.gemm(net.input(3, 4), 4, 6, "a"))
    y = net.op("Gemm", x, net.weight(6, 5, name="w"), net.stored(net.random(3, 5), "c"), name="b", alpha=0.5, beta=2.0)
    z = net.op("Gemm", net.op("Sigmoid", y), net.weight(5, 2, name="v"), net.scalar(0.3), name="d", beta=3.0)
    graph, groups = opened(net.model(z))
    constant, _, removed = gated_before_the_bias(graph)
    result = with_constants(constant, constants_left(constant, groups, removed))
    assert difference(outputs(constant), outputs(graph, pruned(result, removed))) < 1e-5
    assert fed(graph)


@pytest.mark.parametrize("kind", ["attention", "fused_attention"])
def test_products_of_data_are_refused(kind: str) -> None:
    graph, groups = opened(MODELS[kind]())
    constant, _, removed = gated_before_the_bias(graph)
    with pytest.raises(ModelError, match="does not multiply a stored weight"):
        with_constants(constant, constants_left(constant, groups, removed))


def test_units_that_are_not_constant_are_refused() -> None:
    graph, groups = opened(mlp(8))
    with pytest.raises(ModelError, match="are not zero") as error:
        constants_left(graph, groups, {"fc1": np.arange(8) == 1})
    assert error.value.code == "not-constant"
    graph = trace(*made("mlp"))
    groups = couple(graph)
    (name, *_) = groups
    with pytest.raises(ModelError, match="are not zero"):
        constants_left(graph, groups, {name: np.arange(groups[name].size) == 1})


class Noisy(nn.Module):
    """A unit of which weights are zero still follows the input through what it is multiplied by."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * x.sum(1, keepdim=True))


def test_constants_that_are_multiplied_by_data_are_none() -> None:
    graph = trace(Noisy().eval(), torch.randn(3, 4))
    constant, groups, removed = gated_before_the_bias(graph)
    with pytest.raises(ModelError, match="depends on the input"):
        constants_left(constant, groups, removed)


def test_what_does_not_fit_is_refused() -> None:
    graph, groups = opened(mlp(8))
    with pytest.raises(UsageError) as error:
        constants_left(graph, groups, {"fc1": np.ones(7, bool)})
    assert error.value.code == "bad-units"
    with pytest.raises(UsageError, match="does not fit an input of shape"):
        with_constants(graph, [Constant(2, 0, np.ones((1, 7)))])
    assert with_constants(graph, []) is graph
    assert constants_left(graph, groups, {}) == ()
