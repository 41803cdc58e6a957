"""Repair on the rewritten network against repair on one with zeros: the same weights, at every number that stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from models import residual_cnn
from onnx_models import Net
from test_repair_stage import Inputs, grouped, heads, opened, plan_of, pruned, run, shortcut, smooth

from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.layout import kept_by
from graphprune.plan import Plan
from graphprune.repair import repair, stage
from graphprune.repair.apply import cuts_of
from graphprune.repair.group_layers import Summing
from graphprune.repair.shrunk import shrunk

MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[int, ...]]] = {
    "convolutions": (lambda: residual_cnn(12, batch="n"), (3, 8, 8)),
    "groups": (grouped, (3, 8, 8)),
    "heads": (heads, (5, 12)),
    "shortcut": (shortcut, (12,)),
}


def summed(plan: Plan, graph: Graph, groups: Groups) -> Plan:
    """The plan for groups that stored weights sum over: zeros in weights remove no others (queries and keys)."""
    seen = Summing.of(graph, groups).consumers
    keep = {name: units if seen[name] else tuple(range(plan.sizes[name])) for name, units in plan.keep.items()}
    return replace(plan, keep=keep)


@pytest.mark.parametrize("how", ["least-squares", "bias"])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_as_with_zeros(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, shape = MODELS[name]
    graph, groups = opened(make())
    plan, x = summed(plan_of(groups), graph, groups), smooth(40, *shape)
    calls = []

    def watched(*given: object) -> object:
        calls.append(shrunk(*given))  # type: ignore[arg-type]
        return calls[-1]

    monkeypatch.setattr(stage, "shrunk", watched)
    one = repair(graph, groups, plan, x, how=how, ridge=10.0)  # type: ignore[arg-type]
    monkeypatch.setattr(stage, "shrunk", lambda *given: None)
    other = repair(graph, groups, plan, x, how=how, ridge=10.0)  # type: ignore[arg-type]
    assert calls[0] is not None
    assert one.after.keys() == other.after.keys()
    small, wanted = (pruned(made.graph, groups, plan) for made in (one, other))
    for a, b in zip(small.graph.initializer, wanted.graph.initializer, strict=True):
        assert a.name == b.name
        mine, theirs = (onnx.numpy_helper.to_array(t) for t in (a, b))
        assert mine == pytest.approx(theirs, abs=1e-4, rel=1e-3)


def test_queries_and_keys_that_are_gone_are_seen_by_the_fit() -> None:
    """The error told of the last layer is that of the pruned network, though no stored weight sums over these units."""
    model = heads()
    graph, groups = opened(model)
    plan, x = plan_of(groups), smooth(60, 5, 12)
    assert summed(plan, graph, groups).keep != plan.keep
    made = repair(graph, groups, plan, x)
    assert made.after["o.weight"] == pytest.approx(told(model, pruned(made.graph, groups, plan), x), rel=1e-3)


def told(model: onnx.ModelProto, small: onnx.ModelProto, x: Inputs) -> float:
    """The part of the variance over all rows that is missed."""
    wanted, given = (run(m, x).reshape(-1, 6) for m in (model, small))
    return float(np.square(given - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


def test_what_is_split_by_rewriting_is_not_found() -> None:
    """A weight that two operators share is cut in two ways; the network with zeros runs then."""
    net = Net()
    x = net.input("n", 8, name="x")
    shared = net.weight(8, 8, name="shared")
    h = net.op("Relu", net.op("MatMul", x, net.weight(8, 8)))
    for _ in range(2):
        h = net.op("Relu", net.op("MatMul", h, shared))
    graph, groups = opened(net.model(net.linear(h, 8, 3, name="out")))
    plan = plan_of(groups)
    cuts = list(cuts_of(graph, groups, kept_by(groups, plan)))
    assert shrunk(graph, groups, plan, cuts) is None
    others = [c for c in cuts if not c.consumer.refusal]
    found = shrunk(graph, groups, plan, others)
    assert found is not None
    for place, cut in zip(found, others, strict=True):
        assert place.consumer.width == int((~cut.removed).sum())
        whole = cut.consumer.stacked()
        for weights, (block, rows, columns) in zip(place.weights(), place.corners, strict=True):
            assert np.array_equal(weights, whole[block][np.ix_(rows, columns)])
