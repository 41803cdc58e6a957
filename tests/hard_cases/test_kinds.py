"""Kinds of groups, and pruning some kinds only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from attention_nets import TOKENS, WIDTH, attend, heads_of, output
from checks import Coupled, check_plan, make_plan
from onnx_models import Net

import graphprune as gp
from graphprune.coupling import couple_like
from graphprune.errors import UsageError
from graphprune.kinds import UNWANTED, wanted_kinds
from graphprune.plan import Plan

HEADS, DEPTH, INNER = 3, 4, 9


def block() -> onnx.ModelProto:
    """A transformer block on a residual stream that is normalised once, after a convolution."""
    net = Net()
    x = net.conv(net.conv(net.input(1, 3, 1, TOKENS, name="x"), 3, 7, name="stem"), 7, WIDTH, name="patch")
    x = net.transpose(net.reshape(x, 1, WIDTH, TOKENS), 0, 2, 1)
    normed = net.op("LayerNormalization", x, net.vector(WIDTH, "gamma"), net.vector(WIDTH, "beta"), name="norm")
    x = net.op(
        "Add", x, output(net, attend(net, *(heads_of(net, normed, HEADS, DEPTH, n) for n in "qkv")), HEADS, DEPTH)
    )
    y = net.linear(net.op("Relu", net.linear(x, WIDTH, INNER, name="up")), INNER, WIDTH, name="down")
    return net.model(net.linear(net.op("Add", x, y), WIDTH, 2, name="out"))


def opened(model: onnx.ModelProto, **options: Any) -> Coupled:
    graph = gp.trace(model)
    return Coupled(model, graph, gp.couple(graph, **options))


def sizes(case: Coupled) -> list[tuple[str, int]]:
    return sorted((g.kind, g.size) for g in case.groups.values())


EVERYTHING = [("channel", 7), ("head", HEADS), ("head-dim", DEPTH), ("head-dim", DEPTH), ("neuron", INNER)]


def test_kinds_of_a_transformer() -> None:
    assert sizes(opened(block())) == EVERYTHING
    assert sizes(opened(block(), allow_inexact=True)) == sorted([*EVERYTHING, ("hidden", WIDTH)])


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ("heads", {"head"}),
        ("heads,ffn", {"head", "neuron"}),
        (("Heads", "neurons"), {"head", "neuron"}),
        ("head_dims, channels", {"head-dim", "channel"}),
        (["head-dim"], {"head-dim"}),
        (("channels", "ffn", "heads", "head_dims"), {"channel", "neuron", "head", "head-dim"}),
    ],
)
def test_only_the_kinds_asked_for(words: str | list[str], kinds: set[str]) -> None:
    case = opened(block(), prune=words)
    assert sizes(case) == [g for g in EVERYTHING if g[0] in kinds]
    reasons = {f.reason for f in case.groups.frozen if f.reason == UNWANTED}
    assert bool(reasons) == (len(kinds) < 4)
    if "neuron" not in kinds:
        assert case.why_frozen("up.weight", 1) == case.why_frozen("down.weight", 0) == UNWANTED
    rng = np.random.default_rng(0)
    for kind in ("random", "one-kept"):
        check_plan(case, make_plan(case.groups, kind, rng))


def test_hidden_only() -> None:
    case = opened(block(), allow_inexact=True, prune="hidden")
    assert sizes(case) == [("hidden", WIDTH)]


def test_an_axis_with_heads_and_depths_may_lose_either() -> None:
    heads, depths = opened(block(), prune="heads"), opened(block(), prune="head-dims")
    assert len(heads.groups_of("q.weight", 1)) == len(depths.groups_of("q.weight", 1)) == 1
    assert heads.groups_of("q.weight", 1) == heads.groups_of("v.weight", 1)
    assert depths.groups_of("q.weight", 1) != depths.groups_of("v.weight", 1)


@pytest.mark.parametrize(
    ("words", "part"),
    [("hedas", "'hedas' is no kind"), ("heads,", "'' is no kind"), ("hidden", "no prunable groups of the kind hidden")],
)
def test_an_unknown_kind_lists_those_there_are(words: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        gp.prune(block(), budget=0.5, prune=words)
    assert caught.value.code == "unknown-kind"
    assert part in caught.value.message
    assert caught.value.hint is not None
    assert "channels, neurons, heads, head-dims" in caught.value.hint
    assert ("--allow-inexact" in caught.value.hint) == (words == "hidden")


def test_words_for_kinds() -> None:
    assert wanted_kinds(()) == ()
    assert wanted_kinds("FFN,neuron, head_dim") == ("neuron", "head-dim")


def test_a_plan_remembers_the_kinds() -> None:
    _, report = gp.prune(block(), budget=0.9, prune="ffn", multiple=1)
    assert {g.kind for g in report.groups} == {"neuron"}
    case = opened(block(), prune="ffn")
    scores = gp.Scores({g.id: np.ones(g.size) for g in case.groups.values()}, method="none")
    plan = gp.solve(case.groups, scores, gp.Budget(macs=0.9))
    again = Plan.from_json(plan.to_json())
    assert again.coupling["prune"] == ["neuron"]
    replayed, second = gp.prune(block(), plan=again)
    assert {g.kind for g in second.groups} == {"neuron"}
    assert gp.rewrite(case.graph, again).SerializeToString() == replayed.SerializeToString()


def test_steps_go_on_when_a_kind_is_used_up() -> None:
    """One head is left after the first step: nothing of the kind remains, and nothing else may go."""
    case = opened(block(), prune="heads")
    few = gp.trace(gp.rewrite(case.graph, case.plan(**{next(iter(case.groups)): (1,)}), case.groups))
    again = couple_like(case.groups, few)
    assert not again.groups
    assert again.prune == ("head",)
    _, report = gp.prune(block(), budget=0.8, prune="heads,ffn", steps=2, multiple=1)
    assert {g.kind for g in report.groups} == {"head", "neuron"}
