"""The radius of what layers are fed: sound from intervals, the percentile of norms from data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coreset_nets import MODELS, inputs_of
from models import mlp

import graphprune as gp
from graphprune.coresets.observe import fetch
from graphprune.coresets.radius import data_radii, fed, interval_radii
from graphprune.data import open_samples
from graphprune.statistics.running import network


def test_the_first_layers_radius_is_that_of_a_box() -> None:
    graph = gp.trace(mlp(8))
    radii = interval_radii(graph, gp.couple(graph), 0.5)
    first = min(radii)
    assert radii[first] == pytest.approx(np.sqrt(1 + 16 * 0.25))
    assert set(radii) == {k for k, n in enumerate(graph.nodes) if n.op == "Gemm"}


@pytest.mark.parametrize("name", MODELS)
def test_what_data_shows_is_within_the_intervals_radius(name: str) -> None:
    model = MODELS[name]()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    running = network(graph)
    nodes = range(len(graph.nodes))
    data = open_samples({"x": inputs_of(model)}, running.specs)
    seen = data_radii(graph, nodes, fetch(running, list(fed(graph, nodes).values()), data))
    bounds = interval_radii(graph, groups, 2.0)
    assert len(seen) >= 3
    assert all(1 < seen[k] <= bounds[k] for k in seen)


def test_the_percentile_is_that_of_all_rows_and_windows() -> None:
    model = MODELS["plain_cnn"]()
    graph = gp.trace(model)
    x = inputs_of(model, 40)
    found = data_radii(graph, [0], {"x": [x[:25], x[25:]]})
    patches = torch.nn.functional.unfold(torch.from_numpy(x).double(), 3, padding=1)
    norms = np.sqrt(1 + np.square(patches.numpy()).sum(axis=1))
    assert found[0] == pytest.approx(np.percentile(norms, 99.9), rel=1e-3)
    (gemm,) = (k for k, n in enumerate(graph.nodes) if n.op == "Gemm")
    rows = np.random.default_rng(0).standard_normal((50, 24))
    wanted = np.sqrt(1 + np.percentile(np.square(rows).sum(axis=1), 99.9))
    assert data_radii(graph, [gemm], {fed(graph, [gemm])[gemm]: [rows]})[gemm] == pytest.approx(wanted)
