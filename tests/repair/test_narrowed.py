"""Few directions of units' columns: the best of their number, and an order nearly as good as that by all columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphprune.passes import Obs
from matrices import fits, system
from onnx_models import Net

import graphprune as gp
from graphprune.repair import narrowed as module
from graphprune.repair.elimination import eliminate
from graphprune.repair.layer import Layer
from graphprune.repair.narrowed import directions, narrowed
from graphprune.repair.nested import Nested
from graphprune.scores import FloatArray


def patches(rows: int, units: int, size: int) -> FloatArray:
    """Correlated patches with means, shape (rows, units, size)."""
    stream = np.random.default_rng(0)
    mixing = stream.standard_normal((units, size, size)) * np.geomspace(1, 0.05, size)
    return np.asarray(np.einsum("nub,uab->nua", stream.standard_normal((rows, units, size)), mixing) + 1.5)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_directions_miss_as_little_of_the_outputs_as_any_of_their_number(count: int) -> None:
    data, weight = patches(4000, 5, 9), np.random.default_rng(1).standard_normal((5, 7, 9))
    about = data - data.mean(axis=0)
    own = np.einsum("nua,nub->uab", about, about) / len(data)
    basis, back = directions(own, weight.transpose(0, 2, 1) @ weight, count)
    seen = np.einsum("nua,uak->nuk", about, basis)
    missed = np.einsum("uoa,nua->nuo", weight, about - np.einsum("uak,nuk->nua", back, seen))
    for u in range(5):
        # Eckart and Young: no approximation of that rank to W x misses less, in the mean square.
        singular = np.linalg.svd(weight[u] @ about[:, u].T / len(about) ** 0.5, compute_uv=False)
        assert np.square(missed[:, u]).sum() / len(about) == pytest.approx(np.square(singular[count:]).sum(), rel=1e-3)
    assert np.einsum("uak,ual->ukl", basis, basis) == pytest.approx(np.tile(np.eye(count), (5, 1, 1)))


def test_constant_units_have_directions_too() -> None:
    for moments in (np.zeros((4, 9, 9)), np.eye(9) * np.array([1.0, 0.0, 2.0, 0.0])[:, None, None]):
        assert all(np.isfinite(made).all() for made in directions(moments, np.ones((4, 9, 9)), 2))


@pytest.mark.parametrize("centred", [True, False])
def test_a_narrowed_layer_is_that_of_rows_in_the_directions(centred: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NARROW", 12)
    made = system(6, 9, 5, rows=300, centred=centred)
    (small,) = narrowed([made.layer])
    assert small.weights.shape == (5, 12)
    assert sorted(small.unit) == sorted([*range(6)] * 2)
    units = np.stack([np.flatnonzero(made.layer.unit == u) for u in range(6)])
    x = made.data[:, units]
    about = x - x.mean(axis=0) if centred else x
    inner = np.einsum("nua,nub->uab", about, about) / len(x)
    weights = made.layer.weights[:, units].transpose(1, 0, 2)
    basis, back = directions(inner, weights.transpose(0, 2, 1) @ weights, 2)
    seen = np.einsum("nua,uak->nuk", x, basis).reshape(len(x), -1)
    layer = Layer(
        np.einsum("uoa,uak->ouk", weights, back).reshape(5, -1), seen.T @ seen / len(x), seen.mean(axis=0),
        np.repeat(np.arange(6), 2), 6, centred,
    )  # fmt: skip
    assert np.abs(small.gram) == pytest.approx(np.abs(layer.gram), rel=1e-6, abs=1e-6)  # directions have no sign
    assert small.energy == pytest.approx(layer.energy, rel=1e-6)


def test_narrow_layers_and_those_with_other_columns_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NARROW", 12)
    for layer in (system(6, 3, 5, rows=90).layer, system(6, 9, 5, rows=90, always=2).layer):
        assert narrowed([layer])[0] is layer


def test_the_order_is_nearly_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NARROW", 80)
    layer = system(40, 9, 30, rows=4000).layer
    weights = layer.weights * np.exp(np.random.default_rng(2).standard_normal(40))[layer.unit]
    layer = replace(layer, weights=weights)
    rough, exact = (eliminate(layers, [1.0], 0.01).order for layers in (narrowed([layer]), [layer]))
    assert (rough != exact).any()

    def missed(order: FloatArray) -> float:
        (made,) = fits(Nested(layer, order, 0.01), [20])
        return layer.error(made)

    assert missed(exact) <= missed(rough) * (1 + 1e-9)
    assert missed(rough) < 1.1 * missed(exact)
    assert missed(rough) < 0.7 * missed(np.arange(40))


def test_scores_add_up_to_the_errors_of_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are found out on the other half by all columns, whatever the order came from."""
    net = Net(seed=2)
    h = net.op("Relu", net.conv(net.input("n", 3, 9, 9, name="x"), 3, 12, 3, name="first"))
    h = net.op("Relu", net.conv(h, 12, 10, 3, name="wide"))
    graph = gp.trace(net.model(net.op("GlobalAveragePool", h)))
    groups = gp.couple(graph)
    x = np.random.default_rng(1).standard_normal((40, 3, 9, 9)).astype(np.float32)

    def total() -> float:
        scores = Obs(data={"x": x}, samples=40, between="energy")(graph, groups)
        return float(next(a for a in scores.arrays.values() if len(a) == 12).sum())

    exact = total()
    monkeypatch.setattr(module, "NARROW", 12)
    assert total() == pytest.approx(exact, rel=0.1)
