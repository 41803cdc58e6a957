"""Consumer weights and producer rows as arrays: what they mean, the way back, and why some cannot be had."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from folds import difference, normalised, outputs, values
from gated_nets import MODELS, opened
from models import mlp, residual_cnn
from onnx_models import Net
from torch import Tensor, nn
from torch_models import ARCHITECTURES, made

from graphprune.coupling import couple
from graphprune.errors import UsageError
from graphprune.folding import batch_norm_folded, consumers_of, producers_of, scaled, with_consumers
from graphprune.frontends.fx.trace import trace
from graphprune.graph import Graph
from graphprune.runtime import session

ONNX_MODELS: dict[str, Any] = {**MODELS, "mlp": mlp, "residual": residual_cnn, "normalised": normalised}


def intermediate(model: onnx.ModelProto, names: list[str], data: dict[str, Any]) -> list[Any]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return list(session(copy, optimise=False).run(names, data))


# Consumers ------------------------------------------------------------------------------------------------------------


def test_columns_are_kernels_and_places_of_a_flattened_map() -> None:
    graph, groups = opened(residual_cnn(8))
    found = consumers_of(graph, groups)
    convolution, classifier = found["stem"].parts
    assert convolution.parameter == "block.first.weight"
    np.testing.assert_array_equal(convolution.read(graph), graph.parameter("block.first.weight").reshape(8, 8, 9))
    np.testing.assert_array_equal(classifier.read(graph), graph.parameter("fc.weight")[:, :, None])
    graph, groups = opened(MODELS["flattened"]())
    (hidden,) = consumers_of(graph, groups)["conv"].parts
    weight = graph.parameter("hidden.weight")
    flat, pooled = weight[:, :80].reshape(9, 5, 16), weight[:, 80:].reshape(9, 5, 1)
    np.testing.assert_array_equal(hidden.read(graph), np.concatenate([flat, pooled], axis=2))


def test_units_within_groups_of_a_convolution() -> None:
    graph, groups = opened(MODELS["grouped"]())
    found = consumers_of(graph, groups)
    (grouped,) = found["depthwise"].parts
    weight = graph.parameter("grouped.weight").reshape(12, 2, 2)
    np.testing.assert_array_equal(grouped.read(graph), weight.transpose(0, 2, 1))
    (up,) = found["stem"].parts
    assert (up.parameter, up.read(graph).shape) == ("up.weight", (8, 3, 4))
    stored = graph.parameter("up.weight").reshape(4, 3, 2, 4)
    np.testing.assert_array_equal(up.read(graph), stored.transpose(0, 2, 1, 3).reshape(8, 3, 4))


def test_heads_and_head_dimensions_of_an_einsum() -> None:
    graph, groups = opened(MODELS["fused_attention"]())
    (heads,) = (g.id for g in groups.groups if g.kind == "head" or g.size == 3)
    (out,) = consumers_of(graph, groups)[heads].parts
    np.testing.assert_array_equal(out.read(graph), graph.parameter("o").transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ONNX_MODELS)
def test_scaling_the_arrays_is_scaling_the_units(kind: str) -> None:
    graph, groups = opened(ONNX_MODELS[kind]())
    possible = {n: c.parts for n, c in consumers_of(graph, groups).items() if c.parts}
    for name, parts in possible.items():
        scales = values(groups)[name]
        by_hand = with_consumers(graph, [(p, p.read(graph) * scales[:, None]) for p in parts])
        wanted = scaled(graph, groups, {name: scales})
        assert difference(outputs(wanted), outputs(by_hand)) < 1e-6
        assert couple(by_hand).fingerprint == groups.fingerprint
    assert possible.keys() == groups.keys() - UNFOLDABLE.get(kind, set())


UNFOLDABLE = {
    "attention": {"q#2"}, "fused_attention": {"qkv#2"}, "shared": {"Gather_1"}, "outer_product": {"conv"},
    "unused": {"unused"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["resnet_basic", "densenet", "shufflenet", "vit_fused"])
def test_arrays_of_torch_modules(kind: str) -> None:
    graph = trace(*made(kind))
    groups = couple(graph)
    for name, found in consumers_of(graph, groups).items():
        for part in found.parts:
            weights = np.random.default_rng(0).standard_normal(part.read(graph).shape).astype(np.float32)
            changed = with_consumers(graph, [(part, weights)])
            np.testing.assert_array_equal(part.read(changed), weights, err_msg=name)


def test_several_groups_may_be_written_into_one_tensor() -> None:
    graph, groups = opened(MODELS["concatenations"]())
    found = consumers_of(graph, groups)
    parts = [p for n in ("stem", "grow") for p in found[n].parts if p.parameter == "left.weight"]
    assert [p.read(graph).shape for p in parts] == [(3, 6, 1), (3, 3, 1)]
    changed = with_consumers(graph, [(p, np.full(p.read(graph).shape, 1.0 + k)) for k, p in enumerate(parts)])
    np.testing.assert_array_equal(changed.parameter("left.weight")[0].ravel(), [1] * 6 + [2] * 3)


class Shared(nn.Module):
    """A layer called for two maps alike, behind a transpose of a stored weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(4, 6)
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(self.a(x)) @ self.weight.t(), torch.tanh(self.b(x)) @ self.weight.t()


def test_a_weight_that_two_layers_share_alike_is_one_consumer() -> None:
    graph = trace(Shared().eval(), torch.randn(2, 4))
    groups = couple(graph)
    ((name, found),) = consumers_of(graph, groups).items()
    (part,) = found.parts
    assert (len(part.nodes), part.parameter, name) == (2, "weight", "a")
    np.testing.assert_array_equal(part.read(graph), graph.parameter("weight")[:, :, None])
    changed = with_consumers(graph, [(part, 2 * part.read(graph))])
    np.testing.assert_array_equal(changed.parameter("weight"), 2 * graph.parameter("weight"))


def test_reasons() -> None:
    def reason(kind: str, group: str) -> str:
        graph, groups = opened(MODELS[kind]())
        found = consumers_of(graph, groups)[group]
        assert not found.parts
        return found.reason

    assert reason("attention", "q#2") == "MatMul MatMul_11: what multiplies its units is no stored weight"
    assert reason("shared", "Gather_1") == "table is shared with something else"
    assert reason("outer_product", "conv") == "MatMul fc: an index of it needs several of its units"
    assert reason("unused", "unused") == ""


def test_arrays_that_do_not_fit_are_refused() -> None:
    graph, groups = opened(mlp(8))
    (part,) = consumers_of(graph, groups)["fc1"].parts
    with pytest.raises(UsageError, match=r"the weights are \(8, 8, 1\)"):
        with_consumers(graph, [(part, np.ones((8, 7, 1)))])


# Producers ------------------------------------------------------------------------------------------------------------


def windows(image: Any, kernel: int) -> Any:
    """All windows of a zero-padded map, shape (positions, channels * kernel * kernel)."""
    pad = kernel // 2
    padded = np.pad(image, [(0, 0), (pad, pad), (pad, pad)])
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    return view.transpose(1, 2, 0, 3, 4).reshape(image.shape[1] * image.shape[2], -1)


def test_rows_times_windows_are_the_values_of_units() -> None:
    net = Net()
    x = net.input(1, 3, 5, 5, name="x")
    y = net.conv(x, 3, 7, 3, name="conv")
    model = net.model(net.conv(net.op("Relu", y), 7, 2, name="head"))
    graph, groups = opened(model)
    (producer,) = producers_of(graph, groups)["conv"].parts
    image = np.random.default_rng(0).standard_normal((1, 3, 5, 5)).astype(np.float32)
    patches = windows(image[0].astype(np.float64), 3)
    rows = producer.read(graph)
    found = rows @ np.concatenate([patches, np.ones((25, 1))], axis=1).T
    (wanted,) = intermediate(model, [y], {"x": image})
    np.testing.assert_allclose(found.reshape(7, 5, 5), wanted[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "gemm", "factors"])
def test_rows_of_dense_layers(kind: str) -> None:
    net = Net()
    x = net.input(4, 6, name="x")
    if kind == "factors":
        weight, bias = net.weight(6, 5, name="weight"), net.vector(5, "bias")
        y = net.op("Gemm", x, weight, bias, name="first", alpha=0.5, beta=-2.0)
    else:
        y = net.linear(x, 6, 5, name="first") if kind == "linear" else net.gemm(x, 6, 5, name="first")
    model = net.model(net.gemm(net.op("Tanh", y), 5, 2, "last"))
    graph, groups = opened(model)
    found = producers_of(graph, groups)["first"]
    data = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    (wanted,) = intermediate(model, [y], {"x": data})
    mine = np.concatenate([data, np.ones((4, 1))], axis=1) @ found.parts[0].read(graph).T
    np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
    assert [graph.nodes[k].op for k in found.between] == ["Tanh"]


def test_residual_streams_have_several_producers() -> None:
    graph, groups = opened(residual_cnn(8))
    found = producers_of(graph, groups)["stem"]
    assert [p.parameter for p in found.parts] == ["stem.weight", "block.second.weight"]
    assert [graph.nodes[k].op for k in found.between].count("BatchNormalization") == 2
    folded = batch_norm_folded(graph)
    after = producers_of(folded, couple(folded))["stem"]
    assert [folded.nodes[k].op for k in after.between] == ["Relu", "Add", "Relu", "GlobalAveragePool", "Flatten"]
    assert all(p.read(folded)[:, -1].any() for p in after.parts), "the bias is the norm's"


def test_reasons_of_producers() -> None:
    def reasons(kind: str) -> dict[str, str]:
        graph, groups = opened(MODELS[kind]())
        return {n: p.reason for n, p in producers_of(graph, groups).items() if p.reason}

    assert reasons("shared") == {"Gather_1": "Gather Gather_1: its units are looked up, not summed"}
    assert reasons("attention") == {
        "q": "MatMul q: a unit has 4 rows", "q#2": "MatMul q: a unit has 3 rows", "v": "MatMul v: a unit has 3 rows",
    }  # fmt: skip
    assert reasons("activations") == {}


@pytest.mark.parametrize("kind", [k for k in ARCHITECTURES if k not in ("swin", "unet")])
def test_every_architecture_has_arrays_or_reasons(kind: str) -> None:
    graph: Graph = trace(*made(kind))
    groups = couple(graph)
    for found in (*consumers_of(graph, groups).values(), *producers_of(graph, groups).values()):
        assert bool(found.parts) != bool(found.reason)
        for part in found.parts:
            array = part.read(graph)
            assert array.shape[0 if array.ndim == 2 else 1] == groups[found.group].size
            assert np.isfinite(array).all()
