"""Repair of torch modules: the same fits, on a copy of the module."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from graphprune.passes import Obs
from torch import nn

import graphprune as gp
from graphprune.coupling import couple, couple_like
from graphprune.frontends.fx.trace import trace
from graphprune.plan import Plan
from graphprune.repair import repair


class Small(nn.Module):
    """Two convolutions, the second without a bias, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norm(self.second(torch.relu(self.first(x)))))
        return self.last(h.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def samples(count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    stream, mixing = np.random.default_rng(seed), np.random.default_rng(99).standard_normal((5, 192))
    return (stream.standard_normal((count, 5)) @ mixing).reshape(count, 3, 8, 8).astype(np.float32)


def test_a_module_is_repaired_and_the_one_given_is_left_alone() -> None:
    torch.manual_seed(0)
    module = Small().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    graph = trace(module, torch.zeros(2, 3, 8, 8))
    groups = couple(graph)
    scores = Obs(data=samples(64, 0))(graph, groups)
    order = {name: np.argsort(-scores[name]) for name in groups}
    keep = {name: tuple(sorted(order[name][:6].tolist())) for name in groups}
    plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    made = repair(graph, groups, plan, samples(128, 0))
    assert len(made.after) == 2
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    x = torch.from_numpy(samples(50, 1))
    errors = []
    for own in (graph, made.graph):
        coupled = couple_like(groups, own)
        small = gp.rewrite(own, replace(plan, fingerprint=coupled.fingerprint), coupled)
        with torch.no_grad():
            errors.append(float((small(x) - module(x)).square().sum()))
    assert errors[1] < 0.5 * errors[0]
