"""Fits of a model that loses units, by moments taken without pruning, against solving each layer by itself."""

from __future__ import annotations

import numpy as np
import pytest
from matrices import solved
from onnx_models import Net

import graphprune as gp
from graphprune.layout import kept_by
from graphprune.repair import nested
from graphprune.repair.apply import cuts_of
from graphprune.repair.fitted_cuts import fitted
from graphprune.repair.layer import Layer
from graphprune.statistics import collect

RIDGE = 0.01


@pytest.mark.parametrize("wide", [8, 10_000])
@pytest.mark.parametrize("keep", [(0, 2, 3, 5, 7, 9), (2, 5, 9)])
def test_stored_weights(keep: tuple[int, ...], wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, biases and zeros of a convolution behind the group that is pruned; in float32 where it is wide."""
    monkeypatch.setattr(nested, "WIDE", wide)
    net = Net(seed=1)
    h = net.op("Relu", net.conv(net.input("n", 3, 9, 9, name="x"), 3, 10, 3, name="wide"))
    graph = gp.trace(net.model(net.conv(h, 10, 4, 3, name="out")))
    groups = gp.couple(graph)
    x = np.random.default_rng(0).standard_normal((40, 3, 9, 9)).astype(np.float32)
    found = collect(graph, groups, {"x": x})
    (group,) = groups.groups
    plan = gp.Plan({group.id: keep}, {group.id: 10}, groups.fingerprint)
    (cut,) = cuts = list(cuts_of(graph, groups, kept_by(groups, plan)))
    values = fitted(cuts, graph, found.of, RIDGE)
    moments = found.of(cut.consumer)
    unit = np.repeat(np.arange(10), 9)
    layer = Layer(cut.consumer.matrix(), moments.second[0], moments.mean, unit, 10, True, rows=moments.rows)
    wanted = solved(layer, np.setdiff1d(np.arange(10), keep), RIDGE)
    assert np.allclose(values["out.weight"].reshape(4, -1), wanted, atol=1e-5)
    old = np.asarray(graph.parameter("out.bias"), np.float64)
    assert np.allclose(values["out.bias"], old + layer.shift(wanted), atol=1e-5)
