"""Outputs scaled to their old variance, and which layers that concerns; against arrays and small models."""

from __future__ import annotations

import numpy as np
import onnx
from onnx_models import Net

from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import trace
from graphprune.layout import kept_by
from graphprune.plan import Plan
from graphprune.repair.apply import cuts_of
from graphprune.repair.behind import behind, inside
from graphprune.repair.fit import Fit, least_squares
from graphprune.repair.layer import Layer, Targets
from graphprune.repair.restored import MOST, restored
from graphprune.scores import FloatArray
from graphprune.statistics.consumers import consumers_of


def layer_of(x: FloatArray, y: FloatArray, own: FloatArray | None, *, centred: bool = True) -> Layer:
    """A layer with weights of ones that is to give y, shape (rows, outputs), for x, shape (rows, columns)."""
    rows, columns = x.shape
    targets = Targets(y.T @ x / rows, y.mean(axis=0), np.square(y).mean(axis=0), own)
    none = np.full(columns, -1, np.int64)
    weights = np.ones((y.shape[1], columns))
    return Layer(weights, x.T @ x / rows, x.mean(axis=0), none, 0, centred, targets, rows)


def drawn() -> tuple[FloatArray, FloatArray]:
    """Inputs, and outputs of which they tell a part, with means that are not zero."""
    stream = np.random.default_rng(3)
    x = stream.standard_normal((400, 5)) + 2
    return x, x @ stream.standard_normal((5, 3)) + 2 * stream.standard_normal((400, 3)) - 1


def fitted(layer: Layer) -> Fit:
    return least_squares(layer, np.zeros(layer.weights.shape[1], np.bool_), 0.1)


def test_means_stay_and_variances_come_back() -> None:
    x, y = drawn()
    layer = layer_of(x, y, np.array([2.0, 7.0, 0.5]))
    fit = restored(layer, fitted(layer))
    made = x @ fit.weights.T + fit.shift
    assert np.allclose(made.var(axis=0), [2.0, 7.0, 0.5])
    assert np.allclose(made.mean(axis=0), y.mean(axis=0))
    assert np.isclose(fit.after, np.square(made - y).sum() / np.square(y - y.mean(axis=0)).sum())


def test_no_output_is_scaled_beyond_reason() -> None:
    x, y = drawn()
    plain = fitted(layer_of(x, y, None))
    for variance, factor in ((1e9, MOST), (0.0, 1 / MOST)):
        layer = layer_of(x, y, np.full(3, variance))
        assert np.allclose(restored(layer, fitted(layer)).weights, factor * plain.weights)


def test_layers_without_a_bias_or_a_known_variance_stay() -> None:
    x, y = drawn()
    for layer in (layer_of(x, y, None), layer_of(x, y, np.ones(3), centred=False)):
        fit = fitted(layer)
        assert restored(layer, fit) is fit


def two_heads() -> onnx.ModelProto:
    """Dense layers a, b and c in a row, and d beside b and c: c and d make the outputs."""
    net = Net(seed=5)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 8, "a"))
    first = net.gemm(net.op("Relu", net.gemm(h, 8, 10, "b")), 10, 3, "c")
    return net.model(net.op("Softmax", first, axis=1), net.gemm(h, 8, 2, "d"))


def test_layers_behind_a_cut_and_layers_that_others_read() -> None:
    graph = trace(two_heads())
    groups = couple(graph)
    consumers = list(consumers_of(graph, groups))
    names = {c.node: graph.nodes[c.node].name for c in consumers}
    assert {names[n] for n in inside(graph, consumers)} == {"b"}
    for size, lost, more in ((8, {"b", "d"}, {"c"}), (10, {"c"}, set[str]())):
        keep = {g.id: tuple(range(4 if g.size == size else g.size)) for g in groups.groups}
        plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
        cuts = list(cuts_of(graph, groups, kept_by(groups, plan)))
        assert {names[c.consumer.node] for c in cuts} == lost
        found = list(behind(graph, consumers, cuts))
        assert {names[c.consumer.node] for c in found} == more
        assert not any(c.removed.any() for c in found)
