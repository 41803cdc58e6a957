"""The unstructured construction: unbiased for every consumer, with a smaller total sensitivity than the structured."""

from __future__ import annotations

import numpy as np
import pytest
from models import mlp

import graphprune as gp
from graphprune.coresets.per_neuron import analyse, per_neuron


def test_unbiased_over_seeds() -> None:
    rng = np.random.default_rng(0)
    weights, envelope = rng.standard_normal((3, 12)), rng.random(12) + 0.1
    made = np.array([per_neuron(weights, envelope, 8, seed).weights for seed in range(1500)])
    assert (np.abs(made.mean(axis=0) - weights) < 5 * made.std(axis=0) / np.sqrt(len(made)) + 1e-12).all()


def test_signs_are_two_sets() -> None:
    weights = np.array([[1.0, 2.0, -3.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    made = per_neuron(weights, np.ones(4), 2, seed=1)
    assert (np.sign(made.weights) * np.sign(weights) >= 0).all()
    assert made.weights[0].max() > 0 > made.weights[0].min()
    assert made.weights[0].max() == pytest.approx(3.0)  # one draw stands for its whole set
    assert (made.weights[2] == 0).all()
    assert made.total == pytest.approx([6, 4, 0])
    assert made.edges == (made.weights != 0).sum() / 12
    assert made.units == (made.weights != 0).any(axis=0).mean()


def test_many_draws_keep_the_layer() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((3, 12))
    assert per_neuron(weights, np.ones(12), 10**7).weights == pytest.approx(weights, abs=0.05)


def test_analysis_of_a_model() -> None:
    graph = gp.trace(mlp(24))
    rows = list(analyse(graph, gp.couple(graph), 20, seed=3))
    assert [r["consumer"] for r in rows] == ["w2", "w3"]
    for row in rows:
        assert 0 < row["edges"] < row["units"] <= 1
        assert row["sensitivity"] < row["structured"]
