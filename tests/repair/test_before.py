"""What the original put out, kept from the run that scores: repair gives the same with it, and runs one model less."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from graphprune.passes import Obs, Wanda
from onnx_models import Net

import graphprune as gp
from graphprune.data import open_samples, specs_of_model
from graphprune.repair import repair
from graphprune.statistics.collect import targets_of
from graphprune.statistics.consumers import consumers_of


def residual(seed: int = 0) -> Any:
    """Two branches on a residual stream, and a dense layer behind."""
    net = Net(seed=seed)
    x = net.op("Relu", net.gemm(net.input("n", 12, name="x"), 12, 24, "first"))
    for name in ("a", "b"):
        h = net.op("Relu", net.gemm(x, 24, 40, f"{name}.wide"))
        x = net.op("Add", net.gemm(h, 40, 24, f"{name}.narrow"), x)
    return net.model(net.gemm(net.op("Relu", x), 24, 5, "out"))


@pytest.fixture(params=[Obs, Wanda])
def prepared(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    model = residual()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    x = np.random.default_rng(1).standard_normal((90, 12)).astype(np.float32)
    scored = request.param(data={"x": x}, samples=80).prepare(graph, groups, gp.couple)
    plan = gp.solve(groups, scored.scores, gp.Budget(macs=0.5))
    samples = open_samples({"x": x}, specs_of_model(model)).first(80)
    return graph, groups, plan, samples, scored.before


def test_repair_does_not_run_the_original_again(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches differ, and with them the halves that ridges are chosen by: errors are alike, not equal."""
    graph, groups, plan, samples, before = prepared
    plain = repair(graph, groups, plan, samples)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the original runs again")

    for name in ("collect", "sequential"):
        monkeypatch.setattr(import_module(f"graphprune.statistics.{name}"), "targets_of", refuse)
    made = repair(graph, groups, plan, samples, before=before)
    assert made.after.keys() == plain.after.keys()
    assert np.mean(list(made.after.values())) == pytest.approx(np.mean(list(plain.after.values())), rel=0.3)
    with pytest.raises(AssertionError, match="runs again"):
        repair(graph, groups, plan, samples.first(60), before=before)


def test_what_was_kept_is_not_used_for_others(prepared: Any) -> None:
    graph, _groups, _plan, samples, before = prepared
    assert before.is_of(graph, samples, 0)
    assert not before.is_of(graph, samples, 1)
    assert not before.is_of(graph, samples.first(60), 0)
    assert not before.is_of(gp.trace(residual()), samples, 0)
    other = open_samples({"x": np.ones((80, 12), np.float32)}, samples.specs)
    assert not before.is_of(graph, other, 0)


def test_targets_are_those_of_a_run_of_its_own(prepared: Any) -> None:
    """Also of the samples on which groups were weighed, which are not in the moments; also where an arm is added."""
    graph, groups, _plan, samples, before = prepared
    consumers = [c for c in consumers_of(graph, groups) if c.node in before.nodes]
    own = targets_of(consumers, samples, before.settings, before.skips)
    assert sum(before.targets.sizes) == len(samples)
    assert before.skips
    for consumer in consumers:
        assert before.targets.of(consumer) == pytest.approx(own.of(consumer), abs=1e-4)
