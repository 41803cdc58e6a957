"""What exporters of other frameworks write: scalers before a network, transposes within it."""

from __future__ import annotations

import numpy as np
from checks import check_equivalence
from onnx_models import Net

ML = "ai.onnx.ml"


def test_a_network_behind_a_scaler_of_scikit_learn_prunes() -> None:
    """onnx infers no shape for Scaler, so what comes after it must not seem to follow the model's input."""
    net = Net()
    offset, scale = net.rng.standard_normal((2, 12)).astype(np.float32)
    x = net.op("Scaler", net.input("batch", 12, name="x"), domain=ML, offset=offset.tolist(), scale=scale.tolist())
    y = net.op("Relu", net.linear(x, 12, 16, name="first"))
    y = net.linear(y, 16, 4, name="second")
    case = check_equivalence(net.model(y), others=[{"x": (5, 12)}])
    assert case.groups_of("second.weight", 0) == {"first"}
    assert "Scaler" in case.why_frozen("first.weight", 0)


def test_a_norm_of_rows_before_a_network_prunes() -> None:
    net = Net()
    x = net.op("Normalizer", net.input("batch", 6, name="x"), domain=ML, norm="L2")
    y = net.linear(net.op("Tanh", net.linear(x, 6, 10, name="first")), 10, 3, name="second")
    case = check_equivalence(net.model(y), others=[{"x": (4, 6)}])
    assert case.size_of("first.weight", 1) == 10


def test_channels_last_between_transposes() -> None:
    """As tf2onnx writes it: images come channels last, and a bias or a sum over the image is left channels last too."""
    net = Net()
    x = net.transpose(net.input("batch", 8, 8, 3, name="x"), 0, 3, 1, 2)
    first = net.transpose(net.conv(x, 3, 8, 3, bias=False, name="first"), 0, 2, 3, 1)
    first = net.op("Relu", net.op("Add", first, net.vector(8, "first.shift")))
    side = net.conv(net.transpose(first, 0, 3, 1, 2), 8, 8, 3, name="side")
    both = net.op("Add", net.transpose(side, 0, 2, 3, 1), first)
    pooled = net.op("ReduceMean", both, axes=[1, 2], keepdims=0)
    case = check_equivalence(net.model(net.linear(pooled, 8, 5, name="head")), others=[{"x": (3, 8, 8, 3)}])
    assert case.groups_of("first.shift", 0) == case.groups_of("side.weight", 0) == case.groups_of("head.weight", 0)


def test_deformable_attention_folds_its_heads_into_the_batch() -> None:
    """GridSample takes a grid for every sample: where the heads are samples, they go from both or stay in both."""
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6, name="x"), 3, 8, 3, name="stem")
    values = net.reshape(net.conv(x, 8, 12, name="values"), 3, 4, 6, 6)
    pooled = net.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    places = net.op("Tanh", net.reshape(net.linear(pooled, 8, 3 * 5 * 2 * 2, name="places"), 3, 5, 2, 2))
    found = net.op("GridSample", values, places, mode="bilinear", align_corners=0)
    summed = net.op("ReduceSum", found, net.ints(3), keepdims=0)
    tokens = net.transpose(net.reshape(summed, 1, 12, 5), 0, 2, 1)
    case = check_equivalence(net.model(net.linear(tokens, 12, 4, name="head")))
    heads = case.groups_of("places.weight", 1)
    assert {case.groups[h].size for h in heads} == {3}
    assert heads < case.groups_of("values.weight", 0) == case.groups_of("head.weight", 0)
