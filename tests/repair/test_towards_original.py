"""Repair of a model whose weights were changed before, towards the one that it was: by hand, or by a method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphprune.passes import Obs
from onnx_models import Net

import graphprune as gp
from graphprune.coupling import couple_like
from graphprune.folding import with_values
from graphprune.repair import repair
from graphprune.runtime import session

Inputs = Any


def net(*, residual: bool) -> Any:
    """Units go from the first convolution; the layers behind the second lose nothing but see what that does."""
    made = Net(seed=1)
    h = made.op("Relu", made.conv(made.input("n", 3, 6, 6, name="x"), 3, 12, 3, name="first"))
    h = made.op("Relu", made.conv(h, 12, 10, 3, name="second"))
    inner = made.conv(h, 10, 10, 3, name="third")
    h = made.op("Relu", made.op("Add", inner, h) if residual else inner)
    return made.model(made.conv(made.op("Tanh", made.conv(h, 10, 8, name="fourth")), 8, 8, name="last"))


def images(count: int, seed: int = 0) -> Inputs:
    return np.random.default_rng(seed).standard_normal((count, 3, 6, 6)).astype(np.float32)


def outputs(model: Any, x: Inputs) -> Any:
    return session(model).run(None, {"x": x})[0].astype(np.float64)


def missed(model: Any, graph: gp.Graph, plan: gp.Plan) -> float:
    """The part of the outputs' energy that a graph misses under a plan, on images that nothing was fitted to."""
    fresh = images(100, 1)
    small = gp.rewrite(graph, replace(plan, fingerprint=gp.couple(graph).fingerprint))
    wanted = outputs(model, fresh)
    return float(np.square(outputs(small, fresh) - wanted).sum() / np.square(wanted - wanted.mean()).sum())


CHANGES = {"least-squares": ("second", "third", "fourth"), "bias": ("second",)}
"""Layers that get other biases: those that are fitted."""


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("how", list(CHANGES))
def test_a_changed_model_gets_as_near_as_the_original_itself(residual: bool, how: Any) -> None:
    """What was changed lies in layers that are fitted, with what stands behind them: so nothing of it is left."""
    model, data = net(residual=residual), {"x": images(300)}
    graph = gp.trace(model)
    groups = gp.couple(graph)
    values = {f"{n}.bias": graph.parameter(f"{n}.bias") + np.float32(1.5) for n in CHANGES[how]}
    if how == "least-squares":
        scales = np.random.default_rng(3).uniform(0.6, 1.6, (1, 12, 1, 1)).astype(np.float32)
        values["second.weight"] = graph.parameter("second.weight") * scales
    other = with_values(graph, values)
    others = couple_like(groups, other)
    keep = {g.id: tuple(range(8 if g.id == "first" else g.size)) for g in groups.groups}
    plan = gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    own = replace(plan, fingerprint=others.fingerprint)
    itself = missed(model, repair(graph, groups, plan, data, how=how).graph, plan)
    towards = missed(model, repair(other, others, own, data, how=how, original=graph).graph, plan)
    away = missed(model, repair(other, others, own, data, how=how).graph, plan)
    # A sum's other arm is aimed at as well where the two networks name it alike for sure: not with another original.
    assert towards == pytest.approx(itself, rel=0.1 if residual else 0.01)
    assert itself < 0.5 * away


@pytest.mark.parametrize(
    "method", ["coreset", pytest.param(Obs(data={"x": images(64, 5)}, update="least-squares"), id="obs")]
)
def test_behind_a_method_that_reweighs_repair_aims_at_the_original(method: Any) -> None:
    """Kept units that were reweighed for the removed ones must not be aimed at together with these."""
    model, x = net(residual=False), images(320, 2)
    errors = {}
    for how in ("none", "least-squares"):
        _, report = gp.prune(model, budget=0.5, method=method, data={"x": x}, repair=how)
        assert report.quality is not None
        errors[how] = report.quality.outputs[0].relative
    _, plain = gp.prune(model, budget=0.5, method="magnitude", data={"x": x})
    assert plain.quality is not None
    assert errors["least-squares"] < errors["none"]
    assert errors["least-squares"] < 1.2 * plain.quality.outputs[0].relative
