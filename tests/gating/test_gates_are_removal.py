"""A gated model in evaluation is the folded and cut one: what training saw is what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from gated_models import MODELS, conv_net
from numpy.typing import NDArray
from torch import nn

import graphprune as gp
from graphprune.folding import scaled
from graphprune.gating.modes import follow_mode
from graphprune.gating.vib import VibGate
from graphprune.graph import Graph
from graphprune.groups import Group, Groups
from graphprune.interpret.differentiable import differentiable
from graphprune.interpret.gates import Gated, insert_gates
from graphprune.plan import Plan
from graphprune.runtime import session

CLOSE = 1e-5


def gated_at_random(graph: Graph, groups: Groups, seed: int) -> Gated:
    """Gates with means of both signs, a third of the units closed but never all."""
    rng = np.random.default_rng(seed)

    def make(group: Group) -> nn.Module:
        gate = VibGate(group.size)
        kept = rng.random(group.size) < 0.67
        kept[rng.integers(group.size)] = True
        with torch.no_grad():
            gate.mu.copy_(torch.from_numpy(rng.standard_normal(group.size)))
        gate.kept.copy_(torch.from_numpy(kept))
        return gate

    gated = insert_gates(follow_mode(differentiable(graph)), graph, groups, make=make)
    gated.module.eval()
    return gated


def cut(graph: Graph, groups: Groups, gated: Gated) -> Any:
    """Fold the means and remove what is closed."""
    gates: dict[str, Any] = dict(gated.gates)
    folded = scaled(graph, groups, {name: gate.expected().numpy() for name, gate in gates.items()})
    same = gp.couple(folded)
    assert list(same) == list(groups)
    keep = {g.id: tuple(range(g.size)) for g in same.groups}
    keep |= {name: tuple(np.flatnonzero(gate.kept).tolist()) for name, gate in gates.items()}
    plan = Plan(keep, {g.id: g.size for g in same.groups}, same.fingerprint)
    return gp.rewrite(folded, plan, same)


def same(left: NDArray[Any], right: NDArray[Any]) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=CLOSE * max(1.0, float(np.abs(left).max())))


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("seed", range(2))
def test_of_onnx(name: str, seed: int) -> None:
    model = MODELS[name]()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    gated = gated_at_random(graph, groups, seed)
    small: onnx.ModelProto = cut(graph, groups, gated)
    shape = (4, *graph.shape(graph.inputs[0])[1:])
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        expected = gated.module(torch.from_numpy(x))[0].numpy()
    before = session(model).run(None, {"x": x})[0]
    after = session(small).run(None, {"x": x})[0]
    assert sum(np.prod(t.dims) for t in small.graph.initializer) < sum(np.prod(t.dims) for t in model.graph.initializer)
    assert np.abs(after - before).max() > 100 * CLOSE
    same(after, expected)
    again = differentiable(gp.trace(small)).eval()
    with torch.no_grad():
        same(again(torch.from_numpy(x))[0].numpy(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_of_torch(seed: int) -> None:
    net, x = conv_net(seed), torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    graph = gp.trace(net, x)
    groups = gp.couple(graph)
    assert len(groups) >= 4
    gated = gated_at_random(graph, groups, seed)
    small: nn.Module = cut(graph, groups, gated)
    with torch.no_grad():
        expected, after = gated.module(x)[0].numpy(), small.eval()(x).numpy()
        assert np.abs(after - net(x).numpy()).max() > 100 * CLOSE
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    same(after, expected)
