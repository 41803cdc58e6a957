"""A handler sees the operators of its thread, and of nobody else."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch._ops import OpOverload

from graphprune.frontends.fx.capture import capture
from graphprune.frontends.fx.dispatch import answered_by, handler
from graphprune.frontends.fx.modules import modules_of, stored_tensors
from graphprune.frontends.fx.trace import trace

X = torch.arange(6.0).reshape(2, 3)


def test_a_handler_answers_operators_before_they_are_taken_apart() -> None:
    seen: list[str] = []

    def answer(operator: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        seen.append(str(operator))
        return torch.ones(2) + 1  # answered by torch

    before = OpOverload._get_dispatch
    with answered_by(answer):
        assert handler() is answer
        result = nn.functional.linear(X, X)
        made = torch.zeros(3)
    assert seen == ["aten.linear.default", "aten.zeros.default"]
    assert result.tolist() == made.tolist() == [2.0, 2.0]
    assert handler() is None
    assert OpOverload._get_dispatch is before
    assert torch.zeros(3).shape == (3,)


def test_an_error_in_a_handler_reaches_the_caller_and_leaves_nothing_behind() -> None:
    def refuse(operator: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        raise LookupError(str(operator))

    with pytest.raises(LookupError, match=r"aten\.relu"), answered_by(refuse):
        torch.relu(X)
    assert torch.relu(-X).sum() == 0


def test_a_forward_may_print_its_weights() -> None:
    class Prints(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert "Parameter containing" in repr(self.weight)
            return super().forward(x)

    assert [n.op for n in trace(Prints(3, 2), X).nodes] == ["linear"]


def test_other_threads_are_left_alone() -> None:
    results: list[torch.Tensor] = []
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        inside.wait()
        try:
            results.append(torch.relu(X))
            results.append(torch.export.export(nn.Linear(3, 2), (X,)).module()(X))
        finally:
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with answered_by(lambda *_: None):
        inside.set()
        done.wait()
    thread.join()
    assert torch.equal(results[0], X)
    assert results[1].shape == (2, 2)


def test_threads_capture_in_turns_while_others_run_modules() -> None:
    found: list[Any] = []
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            net(X)

    def work() -> None:
        for _ in range(10):
            calls = [n for n in capture(net, (X,), {}).graph.nodes if n.op == "call_function"]
            found.append([(str(n.target), list(n.meta["nn_module_stack"])[-1]) for n in calls])

    runner, threads = threading.Thread(target=run), [threading.Thread(target=work) for _ in range(3)]
    for thread in (runner, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    runner.join()
    assert found == [[("aten.linear.default", "0.0"), ("aten.relu.default", "0.1"), ("aten.linear.default", "1")]] * 30
    assert not torch.compiler.is_exporting()
    assert torch.backends.mha.get_fastpath_enabled()


def test_modules_and_tensors_come_as_torch_lists_them() -> None:
    shared = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net = nn.Sequential(shared, nn.ModuleDict({"again": shared, "none": nn.Sequential()}), nn.Linear(3, 2, bias=False))
    net.register_module("absent", None)
    net[2].weight = nn.Parameter(shared[0].weight[:2].detach())
    net[2].register_buffer("table", X, persistent=False)
    assert modules_of(net) == list(net.named_modules())
    assert modules_of(net, repeated=True) == list(net.named_modules(remove_duplicate=False))
    mine = [(letter, name, id(t)) for letter, name, t in stored_tensors(modules_of(net, repeated=True))]
    parameters = [("p", n, id(t)) for n, t in net.named_parameters(remove_duplicate=False)]
    assert mine == parameters + [("b", n, id(t)) for n, t in net.named_buffers(remove_duplicate=False)]
