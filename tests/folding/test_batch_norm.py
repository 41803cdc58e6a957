"""Batch norms folded into the layers before them: the same function, the same groups, no norm left."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from folds import difference, normalised, outputs, sizes
from gated_nets import opened
from models import residual_cnn
from onnx import helper
from onnx_models import Net, ops_of
from torch import Tensor, nn
from torch_models import ARCHITECTURES, made

from graphprune.coupling import couple
from graphprune.folding import batch_norm_folded
from graphprune.frontends.fx.trace import trace


@pytest.mark.parametrize("make", [residual_cnn, normalised], ids=["residual", "normalised"])
def test_norms_of_an_onnx_model_disappear(make: Any) -> None:
    model = make()
    before = model.SerializeToString()
    graph, _ = opened(model)
    result = batch_norm_folded(graph)
    small = result.source.model
    assert "BatchNormalization" not in ops_of(small)
    assert difference(outputs(graph), outputs(graph, small)) < 1e-5
    assert sizes(result) == sizes(graph)
    assert model.SerializeToString() == before
    onnx.checker.check_model(small, full_check=True)
    used = {n for node in small.graph.node for n in node.input}
    assert {t.name for t in small.graph.initializer} <= used, "what the norms stored is gone"


def test_weight_and_bias_are_those_of_the_formula() -> None:
    graph, _ = opened(residual_cnn(8))
    gamma, beta, mean, var = (graph.parameter(f"stem.{n}").astype(np.float64) for n in ("gamma", "beta", "mean", "var"))
    factor = gamma / np.sqrt(var + 1e-5)
    result = batch_norm_folded(graph)
    wanted = graph.parameter("stem.weight") * factor[:, None, None, None]
    np.testing.assert_allclose(result.parameter("stem.weight"), wanted, rtol=1e-6)
    (bias,) = (n.inputs[2] for n in result.nodes if n.name == "stem")
    assert bias is not None
    np.testing.assert_allclose(result.parameter(bias), beta - factor * mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_epsilon_counts(epsilon: float) -> None:
    net = Net()
    x = net.batch_norm(net.conv(net.input(1, 3, 4, 4), 3, 4, name="a"), 4)
    net.nodes[-1].attribute.append(helper.make_attribute("epsilon", epsilon))
    graph, _ = opened(net.model(x))
    assert difference(outputs(graph), outputs(batch_norm_folded(graph))) < 1e-5
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=epsilon)).eval()
    graph = trace(module, torch.randn(2, 3, 4, 4))
    assert difference(outputs(graph), outputs(batch_norm_folded(graph))) < 1e-5


def test_a_bias_that_is_a_repeated_zero() -> None:
    """As torch's newer exporter writes a missing bias, with the weight's shape, and the input's type."""
    net = Net()
    x, weight = net.input(1, 3, 4, 4), net.weight(4, 3, 1, 1, name="weight")
    size = net.op("Slice", net.op("Shape", weight), net.ints(0), net.ints(1))
    bias = net.op("Expand", net.op("CastLike", net.scalar(0.25), x), size)
    model = net.model(net.conv(net.batch_norm(net.op("Conv", x, weight, bias, name="a"), 4), 4, 2, name="b"))
    graph, _ = opened(model)
    result = batch_norm_folded(graph)
    assert ops_of(result.source.model) == ["Conv", "Conv"]
    assert difference(outputs(graph), outputs(result)) < 1e-5


def test_nodes_without_names_keep_the_ids_of_groups() -> None:
    model = residual_cnn(8)
    for node in model.graph.node:
        node.name = ""
    graph, _ = opened(model)
    assert sizes(batch_norm_folded(graph)) == sizes(graph)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_norms_of_a_torch_module_become_the_identity(kind: str) -> None:
    module, inputs = made(kind)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    graph = trace(module, inputs)
    result = batch_norm_folded(graph)
    folded = result.source.module
    assert type(folded) is type(module)
    assert difference(outputs(graph), outputs(graph, folded)) < 1e-5
    assert sizes(result) == sizes(graph)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    layers = [n for n, m in module.named_modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for name in layers if kind in ("resnet_basic", "mobilenet_v2", "mlp") else ():
        norm = folded.get_submodule(name)
        assert not norm.running_mean.any(), name
        assert not norm.bias.any(), f"{name}: the layer before it has the offset"
        assert torch.allclose(norm.weight / torch.sqrt(norm.running_var + norm.eps), torch.ones(1))


class Kept(nn.Module):
    """Norms that cannot be folded: before the layer, behind two layers, called twice, of the batch's own statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.sum, self.twice = (nn.BatchNorm2d(n) for n in (3, 4, 4))
        self.own = nn.BatchNorm2d(4, track_running_stats=False)
        self.a, self.b, self.c, self.d = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        for norm in (self.first, self.sum, self.twice):
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(self.sum(self.a(x) + self.b(x)))
        x = torch.relu(self.twice(self.c(x)))
        return self.own(self.twice(self.d(x)))


class Seen(nn.Module):
    """A norm whose input is used otherwise, and a weight that two layers share, each with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.shared = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.one, self.two, self.three = (nn.BatchNorm2d(4) for _ in range(3))
        for norm in (self.one, self.two, self.three):
            nn.init.uniform_(norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.two(self.shared(self.one(x))) + self.three(self.shared(torch.relu(x)))


@pytest.mark.parametrize("kind", [Kept, Seen])
def test_norms_that_cannot_be_folded_stay(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    graph = trace(module, torch.randn(2, 3, 4, 4))
    assert batch_norm_folded(graph) is graph
    graph.source.module.train()
    assert batch_norm_folded(trace(module, torch.randn(2, 3, 4, 4))).source.module.training


def test_shared_weights_and_inputs_seen_elsewhere_in_onnx() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 4, name="a")
    weight = net.weight(4, 4, 1, 1, name="shared")
    one, two = (net.op("Conv", net.op("Relu", net.batch_norm(x, 4)), weight, name=n) for n in ("b", "c"))
    model = net.model(net.op("Add", net.batch_norm(one, 4), net.batch_norm(two, 4)))
    graph, _ = opened(model)
    assert ops_of(batch_norm_folded(graph).source.model).count("BatchNormalization") == 4


class Functional(nn.Module):
    """A convolution of its own making, which cannot be given a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.norm, self.head = nn.Parameter(torch.randn(5, 3, 3, 3)), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(nn.functional.conv2d(x, self.weight))))


def test_the_norm_keeps_the_offset_where_there_is_no_bias() -> None:
    torch.manual_seed(0)
    graph = trace(Functional().eval(), torch.randn(2, 3, 5, 5))
    result = batch_norm_folded(graph)
    norm = result.source.module.norm
    assert norm.bias.abs().min() > 0
    assert not norm.running_mean.any()
    assert difference(outputs(graph), outputs(graph, result.source.module)) < 1e-5
    assert couple(result).fingerprint == couple(graph).fingerprint
