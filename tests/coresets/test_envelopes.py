"""Envelopes: as published for fully connected layers, and never exceeded by what networks compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from coreset_nets import MODELS, inputs_of
from models import mlp
from onnx import numpy_helper
from onnx_models import Net
from torch_models import made

import graphprune as gp
from graphprune.coresets.observe import fetch
from graphprune.coresets.radius import interval_radii
from graphprune.coresets.sensitivity import Sensitivity, sensitivities
from graphprune.coresets.takers import Kernel
from graphprune.data import open_samples
from graphprune.folding import batch_norm_folded
from graphprune.statistics.running import network

TORCH = ["resnet_basic", "efficientnet", "resnext", "vit", "yolo"]


def opened(model: Any, *args: Any) -> tuple[gp.Graph, gp.Groups]:
    graph = gp.trace(model, *args)
    return graph, gp.couple(graph)


def stored(model: onnx.ModelProto) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


def check_never_exceeded(graph: gp.Graph, found: dict[str, Sensitivity], data: Any) -> int:
    """Compare every unit's largest activation in front of every sum with its envelope; return how many were."""
    model = network(graph)
    samples = open_samples(data, model.specs)
    tensors = {t.tensor for s in found.values() for t in s.consumers}
    values = fetch(model, sorted(tensors), samples)
    compared = 0
    for one in found.values():
        for taker in one.consumers if one.guarantee != "none" else ():
            seen = np.abs(np.concatenate(values[taker.tensor]).astype(np.float64))
            most = seen.max(axis=tuple(k for k in range(seen.ndim) if k != taker.axis % seen.ndim))
            units = np.zeros(taker.units + 1)
            np.maximum.at(units, taker.factor.index, most)
            assert (units[:-1] <= one.envelope[taker.tensor] * (1 + 1e-5) + 1e-6).all(), (one.group, taker.tensor)
            compared += taker.units
    return compared


@pytest.mark.parametrize("name", MODELS)
def test_no_activation_exceeds_its_envelope(name: str) -> None:
    model = MODELS[name]()
    graph, groups = opened(model)
    found = sensitivities(graph, groups, beta=interval_radii(graph, groups, 2.0).__getitem__)
    assert all(s.guarantee != "none" for s in found.values())
    assert check_never_exceeded(graph, found, {"x": inputs_of(model)}) > 10


@pytest.mark.parametrize("name", TORCH)
def test_no_activation_of_a_module_exceeds_its_envelope(name: str) -> None:
    module, args = made(name)
    graph, groups = opened(module, args)
    largest = float(args[0].abs().max())
    found = sensitivities(graph, groups, beta=interval_radii(graph, groups, largest).__getitem__)
    assert check_never_exceeded(graph, found, args[0]) > 20


def test_envelopes_are_reached_in_a_single_layer() -> None:
    """The bound is no larger than it must be: the input along a row, of norm one, reaches |p| but for the bias."""
    net = Net(seed=5)
    h = net.op("Relu", net.op("MatMul", net.input("n", 6, name="x"), net.weight(6, 8, name="w")))
    model = net.model(net.gemm(h, 8, 3, "head"))
    graph, groups = opened(model)
    (one,) = sensitivities(graph, groups).values()
    w = stored(model)["w"]
    along = w / np.linalg.norm(w, axis=0)
    assert one.envelope[h] == pytest.approx(np.maximum(along.T @ w, 0).diagonal(), rel=1e-6)


@pytest.mark.parametrize("beta", [1.0, 3.5])
def test_fully_connected_layers_as_published(beta: float) -> None:
    """s(p) = max_i |w_i(p)| phi(beta |[row; bias]|)."""
    model = mlp(12)
    graph, groups = opened(model)
    w = stored(model)
    for (_, found), row, bias, out in zip(
        sensitivities(graph, groups, beta=beta).items(), ("w1", "w2"), ("b1", "b2"), ("w2", "w3"), strict=True
    ):
        norm = np.sqrt(np.square(w[row]).sum(axis=1) + np.square(w[bias]))
        assert found.values == pytest.approx(np.abs(w[out]).max(axis=0) * beta * norm)
        assert found.guarantee == "theorem"
        assert found.reasons == ()
        assert (found.dimension, found.outputs) == (w[row].shape[1] + 1, len(w[out]))


def test_saturating_activations_depend_on_beta() -> None:
    net = Net(seed=6)
    h = net.op("Sigmoid", net.gemm(net.input("n", 6, name="x"), 6, 8, "one"))
    model = net.model(net.gemm(h, 8, 3, "two"))
    w = stored(model)
    norm = np.sqrt(np.square(w["one.weight"]).sum(axis=1) + np.square(w["one.bias"]))
    for beta in (0.5, 20.0):
        (found,) = sensitivities(*opened(model), beta=beta).values()
        assert found.values == pytest.approx(np.abs(w["two.weight"]).max(axis=0) / (1 + np.exp(-beta * norm)))


def test_batch_norm_is_folded_and_kernels_are_added_up() -> None:
    net = Net(seed=7)
    h = net.conv(net.input("n", 3, 8, 8, name="x"), 3, 6, 3, name="one")
    h = net.op("Relu", net.batch_norm(h, 6, "bn"))
    model = net.model(net.conv(h, 6, 4, 3, name="two"))
    w = stored(model)
    factor = w["bn.gamma"] / np.sqrt(w["bn.var"] + 1e-5)
    rows = w["one.weight"].reshape(6, -1) * factor[:, None]
    bias = (w["one.bias"] - w["bn.mean"]) * factor + w["bn.beta"]
    norm = np.linalg.norm(np.concatenate([rows, bias[:, None]], axis=1), axis=1)
    taken = np.abs(w["two.weight"])
    graph, groups = opened(model)
    (found,) = sensitivities(graph, groups).values()
    assert found.values == pytest.approx(taken.sum(axis=(2, 3)).max(axis=0) * norm)
    (follow_up,) = sensitivities(graph, groups, kernel="max").values()
    assert follow_up.values == pytest.approx(taken.max(axis=(0, 2, 3)) * norm)


def test_a_unit_behind_a_flatten_owns_several_columns() -> None:
    net = Net(seed=8)
    h = net.op("Relu", net.conv(net.input("n", 2, 2, 2, name="x"), 2, 5, name="one"))
    model = net.model(net.gemm(net.op("Flatten", h), 20, 3, "two"))
    (found,) = sensitivities(*opened(model)).values()
    w = stored(model)
    norm = np.sqrt(np.square(w["one.weight"]).sum(axis=(1, 2, 3)) + np.square(w["one.bias"]))
    assert found.values == pytest.approx(np.abs(w["two.weight"]).reshape(3, 5, 4).sum(axis=2).max(axis=0) * norm)


def test_several_consumers_count_by_the_largest() -> None:
    net = Net(seed=9)
    h = net.op("Relu", net.gemm(net.input("n", 4, name="x"), 4, 6, "one"))
    model = net.model(net.gemm(h, 6, 3, "left"), net.gemm(h, 6, 5, "right"))
    (found,) = sensitivities(*opened(model)).values()
    w = stored(model)
    norm = np.sqrt(np.square(w["one.weight"]).sum(axis=1) + np.square(w["one.bias"]))
    both = np.concatenate([w["left.weight"], w["right.weight"]])
    assert found.values == pytest.approx(np.abs(both).max(axis=0) * norm)
    assert found.guarantee == "theorem"
    assert found.outputs == 8, "a bound on all outputs is on those of both"


@pytest.mark.parametrize("kernel", ["sum", "max"])
def test_a_batch_norm_behind_the_sum_is_folded_into_its_weights(kernel: Kernel) -> None:
    """So that a model whose norms were folded when it was exported is pruned as the one that has them."""
    net = Net(seed=10)
    h = net.op("Relu", net.batch_norm(net.conv(net.input("n", 3, 8, 8, name="x"), 3, 6, 3, name="one"), 6))
    h = net.op("Relu", net.batch_norm(net.conv(h, 6, 9, 3, name="two"), 9, "bn"))
    model = net.model(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", h)), 9, 4, "head"))
    w = stored(model)
    graph, groups = opened(model)
    found = sensitivities(graph, groups, kernel=kernel)["one"]
    taken = np.abs(w["two.weight"] * (w["bn.gamma"] / np.sqrt(w["bn.var"] + 1e-5))[:, None, None, None])
    strength = (taken.sum(axis=(2, 3)) if kernel == "sum" else taken.max(axis=(2, 3))).max(axis=0)
    (envelope,) = found.envelope.values()
    assert found.values == pytest.approx(strength * envelope)
    folded = batch_norm_folded(graph)
    again = sensitivities(folded, gp.couple(folded), kernel=kernel)
    for name, one in sensitivities(graph, groups, kernel=kernel).items():
        assert one.values == pytest.approx(again[name].values, rel=1e-5)


def test_a_unit_of_several_channels_is_bounded_by_its_largest() -> None:
    """Groups of a grouped convolution are units of two channels, which a batch norm scales each in its way."""
    net = Net(seed=11)
    h = net.op("Relu", net.batch_norm(net.conv(net.input("n", 6, 4, 4, name="x"), 6, 6, groups=3, name="one"), 6, "bn"))
    model = net.model(net.conv(h, 6, 4, groups=1, name="two"))
    w = stored(model)
    factor = w["bn.gamma"] / np.sqrt(w["bn.var"] + 1e-5)
    rows = w["one.weight"].reshape(6, -1) * factor[:, None]
    bias = (w["one.bias"] - w["bn.mean"]) * factor + w["bn.beta"]
    norm = np.linalg.norm(np.concatenate([rows, bias[:, None]], axis=1), axis=1)
    compared = 0
    for one in sensitivities(*opened(model)).values():
        for taker in one.consumers:
            for channel, unit in enumerate(taker.factor.index.tolist()):
                assert norm[channel] <= one.envelope[taker.tensor][unit] * (1 + 1e-6)
                compared += len(taker.factor.index) > taker.units
        assert one.guarantee == "bounded"
    assert compared == 6


def test_a_module_is_ranked_as_it_is_with_its_norms_folded() -> None:
    module, args = made("resnet_basic")
    graph, groups = opened(module, *args)
    folded = batch_norm_folded(graph)
    assert folded is not graph
    again = sensitivities(folded, gp.couple(folded))
    for group, one in sensitivities(graph, groups).items():
        assert one.values == pytest.approx(again[group].values, rel=1e-5)


@pytest.mark.parametrize(
    ("op", "guarantee"),
    [("Relu", "theorem"), ("Sigmoid", "theorem"), ("Softplus", "theorem"), ("Tanh", "bounded"),
     ("LeakyRelu", "bounded"), ("HardSwish", "bounded"), ("Identity", "bounded"), ("Sin", "none")],
)  # fmt: skip
def test_what_is_guaranteed_for_an_activation(op: str, guarantee: str) -> None:
    net = Net(seed=10)
    model = net.model(net.gemm(net.op(op, net.gemm(net.input("n", 4, name="x"), 4, 6, "one")), 6, 3, "two"))
    (found,) = sensitivities(*opened(model)).values()
    assert found.guarantee == guarantee
    assert bool(found.reasons) == (guarantee != "theorem")


def test_a_residual_stream_is_bounded_by_its_layers_together() -> None:
    model = MODELS["inverted_residual"]()
    found = sensitivities(*opened(model))
    stream = found["stem"]
    assert stream.guarantee == "bounded"
    assert any("several layers" in reason for reason in stream.reasons)
    assert {t.parameter for t in stream.consumers} == {"expand.weight", "head.weight"}


def test_units_without_stored_consumers_are_ranked_by_norm() -> None:
    """Dimensions of attention scores: both sides of the product are data."""
    net = Net(seed=11)
    x = net.input(1, 5, 6, name="x")
    q, k, v = (net.linear(x, 6, 8, name=n) for n in ("q", "k", "v"))
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 2, 1)), axis=-1)
    model = net.model(net.linear(net.op("MatMul", scores, v), 8, 4, name="o"))
    found = {tuple(sorted(t.parameter for t in s.consumers)): s for s in sensitivities(*opened(model)).values()}
    dims, values = found[()], found[("o.weight",)]
    assert dims.guarantee == "none"
    assert any("stored weights" in reason for reason in dims.reasons)
    w = stored(model)
    total = sum(np.square(np.atleast_2d(w[n])).sum(axis=0) for n in ("q.weight", "k.weight", "q.bias", "k.bias"))
    assert dims.values == pytest.approx(np.sqrt(total))
    assert values.guarantee == "bounded"  # averages of values, which may be negative
