"""Budgets of latency for torch modules: the fit of the cost model, the loop, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.latency.machine import Lap
from graphprune.pipeline import watch_torch
from graphprune.pipeline.watch_torch import fitted_latency


class Net(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(16, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.three(torch.relu(self.two(torch.relu(self.one(x)))))
        return y


EXAMPLE = torch.zeros(4, 16)


def seconds_of(module: nn.Module) -> float:
    """Seconds that grow with the weights, some of which no width changes."""
    return 0.002 + 1e-6 * sum(p.numel() for p in module.parameters())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    asked: list[float] = []

    def lap(module: Any, *_: Any) -> Lap:
        asked.append(seconds_of(module))
        return lambda runs: seconds_of(module) * runs

    monkeypatch.setattr(watch_torch, "_lap", lap)
    return asked


def test_a_module_comes_to_the_limit(clock: list[float]) -> None:
    net = Net(64)
    small, report = gp.prune(net, example_inputs=EXAMPLE, budget="latency=0.6", multiple=1)
    told = report.latency
    assert told is not None and type(small) is Net
    assert 0.55 <= seconds_of(small) / seconds_of(net) <= 0.6
    assert (told.runtime, told.provider, told.batch) == ("torch", "cpu", 4)
    assert told.machine["torch"] == torch.__version__ and told.nodes == ()
    assert any("uniform" in note for note in told.notes)
    assert clock[0] == seconds_of(net) and len(set(clock)) >= 4


def test_a_module_in_steps_and_by_a_plan(clock: list[float]) -> None:
    net = Net(64)
    small, report = gp.prune(net, example_inputs=EXAMPLE, budget="latency=0.7", multiple=1, steps=2)
    assert seconds_of(small) / seconds_of(net) <= 0.7
    assert report.latency is not None and report.latency.limit == pytest.approx(0.7 * seconds_of(net))


def test_the_fit_finds_what_seconds_are_made_of() -> None:
    graph_groups = gp.couple(gp.trace(Net(48), EXAMPLE))
    costs, sizes = graph_groups.costs, graph_groups.sizes
    widths = np.array([sizes, sizes // 2, sizes // 4])

    def truth(at: Any) -> Any:
        return 0.001 + 3e-9 * costs.macs(at)[..., 0] + 2e-8 * costs.tensors(at).sum(axis=-1)

    latency = fitted_latency(graph_groups, widths, truth(widths))
    for at in ([40, 9], [3, 44], [17, 17]):
        assert float(latency(np.array(at))) == pytest.approx(float(truth(np.array(at))), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "code"),
    [({"provider": "cuda"}, "torch-provider"), ({"batch": 2}, "torch-batch"), ({"profile": object()}, "torch-profile")],
)
def test_what_is_onnxruntimes_alone(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        gp.prune(Net(), example_inputs=EXAMPLE, budget="latency=0.6", **options)
    assert caught.value.code == code


def test_a_lap_leaves_everything_as_it_was() -> None:
    net, threads = Net().train(), torch.get_num_threads()
    source = gp.trace(net, EXAMPLE).source
    assert watch_torch._lap(net, source, torch.device("cpu"), 1)(2) >= 0
    assert net.training and torch.get_num_threads() == threads
    assert all(p.grad is None for p in net.parameters())
