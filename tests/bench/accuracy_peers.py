"""The peers on a task: onnxsim's structured passes on the file, Torch-Pruning's criteria on the module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from task import Samples, Task, exported

import graphprune as gp

PEERS = ("onnxsim l2", "onnxsim l2 global", "onnxsim wanda", "tp magnitude", "tp bn", "tp taylor", "tp hessian")
SEEN = 64
"""Samples that onnxsim's calibrated pass sees, one at a time: its time grows with them."""
MOST = 0.98
"""Sparsity that onnxsim is asked for at most."""
STEPS, LARGE_STEPS = 200, 50
"""Steps in which Torch-Pruning goes down; fewer for large inputs."""


class OutOfReachError(Exception):
    """A peer that does not get to the budget."""


@dataclass(frozen=True)
class Onnxsim:
    """onnxsim's structured pruning at the least sparsity that meets a budget, found by bisection."""

    model: onnx.ModelProto
    method: str
    samples: Samples

    def pruned(self, budget: float) -> onnx.ModelProto:
        """Return the model at a budget; raises OutOfReachError, and whatever onnxsim raises."""
        if self._least > budget:
            raise OutOfReachError(f"{self._least:.0%} of the MACs at the least")
        low, high, best = 0.0, MOST, self._at(MOST)
        for _ in range(8):
            middle = (low + high) / 2
            small = self._at(middle)
            if self._macs(small) <= budget * self._full:
                high, best = middle, small
            else:
                low = middle
        return best

    @cached_property
    def _least(self) -> float:
        return self._macs(self._at(MOST)) / self._full

    @cached_property
    def _simplified(self) -> onnx.ModelProto:
        """The model as onnxsim's own simplification leaves it: its pruning knows more of the patterns then."""
        import onnxsim as peer

        made: onnx.ModelProto = peer.simplify(self.model)[0]
        return made

    @cached_property
    def _full(self) -> float:
        return self._macs(self.model)

    def _macs(self, model: onnx.ModelProto) -> float:
        return counted(model, self.samples)

    def _at(self, sparsity: float) -> onnx.ModelProto:
        import onnxsim as peer

        function, options = peer.apply_structured_pruning, dict[str, Any]()
        if self.method.endswith("global"):
            options["global_sparsity"] = True
        if self.method.endswith("wanda"):
            function = peer.apply_structured_wanda_pruning
            names = [i.name for i in self.model.graph.input]
            samples = dict(zip(names, self.samples.values(), strict=True))
            count = min(SEEN, *(len(v) for v in samples.values()))
            options["calibration_data"] = [{n: v[k : k + 1] for n, v in samples.items()} for k in range(count)]
        made: onnx.ModelProto = function(copy.deepcopy(self._simplified), sparsity=sparsity, **options)
        return made


@dataclass(frozen=True)
class TorchPruning:
    """Torch-Pruning on the module, globally, in small steps; every budget is met on the way to the least."""

    task: Task
    method: str
    budgets: tuple[float, ...]

    def pruned(self, budget: float) -> onnx.ModelProto:
        """Return the model at one of the budgets; raises OutOfReachError, and whatever Torch-Pruning raises."""
        if budget not in self._all:
            raise OutOfReachError("its steps end above")
        return self._all[budget]

    @cached_property
    def _all(self) -> dict[float, onnx.ModelProto]:
        import torch_pruning as peer

        assert self.task.module is not None
        assert self.task.example is not None
        module, x = copy.deepcopy(self.task.module()), self.task.example()
        steps = LARGE_STEPS if isinstance(x, tuple) or x.numel() > 10_000 else STEPS
        importance, pruner = self._pruner(module, x, steps)
        full, _ = peer.utils.count_ops_and_params(module, x)
        names = [i.name for i in self.task.model().graph.input]
        allowed = macs(self.task.model(), self.task)
        found: dict[float, onnx.ModelProto] = {}
        for _ in range(steps):
            if self.method in ("tp taylor", "tp hessian"):
                gradients(self._seen, module, importance, hessian=self.method == "tp hessian")
            pruner.step()
            self.task.mend(module)
            share = peer.utils.count_ops_and_params(module, x)[0] / full
            reached = [b for b in self.budgets if share <= b and b not in found]
            if reached:
                small = exported(copy.deepcopy(module).eval(), x, names)
                found |= {b: small for b in reached if macs(small, self.task) <= b * allowed}
            if len(found) == len(self.budgets):
                break
        return found

    @cached_property
    def _seen(self) -> Any:
        """What the criteria with gradients see: few samples, again after every step."""
        import torch

        count = 8 if self.method == "tp hessian" else 32
        return torch.from_numpy(np.ascontiguousarray(next(iter(self.task.calibration(count, 0).values()))))

    def _pruner(self, module: Any, x: Any, steps: int) -> tuple[Any, Any]:
        import torch
        import torch_pruning as peer

        kinds: Mapping[str, Callable[[], Any]] = {
            "tp magnitude": peer.importance.GroupMagnitudeImportance, "tp bn": peer.importance.BNScaleImportance,
            "tp taylor": peer.importance.GroupTaylorImportance, "tp hessian": peer.importance.GroupHessianImportance,
        }  # fmt: skip
        if self.method == "tp bn" and not any(isinstance(m, torch.nn.BatchNorm2d) for m in module.modules()):
            raise OutOfReachError("the network has no normalisation by batches")
        importance = kinds[self.method]()
        if self.task.metric == "cosine" and self.method in ("tp taylor", "tp hessian"):
            raise OutOfReachError("there are no classes to take the gradient of")
        ends = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1:]
        hints = {"ignored_layers": ends} if self.task.hints is None else self.task.hints(module)
        pruner = peer.pruner.MagnitudePruner(
            module, x, importance, global_pruning=True, pruning_ratio=0.95, iterative_steps=steps, **hints
        )
        return importance, pruner


def macs(model: onnx.ModelProto, task: Task) -> float:
    """Count the multiply-accumulates of a task's model."""
    return counted(model, task.calibration(1, 0))


def counted(model: onnx.ModelProto, samples: Samples) -> float:
    """Count the multiply-accumulates of one sample."""
    sizes = {i.name: (1, *v.shape[1:]) for i, v in zip(model.graph.input, samples.values(), strict=True)}
    return float(gp.count(gp.trace(model, input_shapes=sizes))["macs"])


def gradients(samples: Any, module: Any, importance: Any, *, hessian: bool) -> None:
    """Give every weight the gradient that these criteria read, with the first class for a label."""
    import torch

    module.zero_grad()
    if not hessian:
        answers = module(samples)
        torch.nn.functional.cross_entropy(answers, answers.argmax(1)).backward()
        return
    squares: dict[Any, Any] = {}
    for one in samples:
        module.zero_grad()
        answers = module(one[None])
        torch.nn.functional.cross_entropy(answers, answers.argmax(1)).backward()
        for p in (p for p in module.parameters() if p.grad is not None):
            squares[p] = squares.get(p, 0) + p.grad**2
    # Its own accumulate_grad looks for names among parameters (1.6.1), so it would keep the last sample alone.
    importance._accu_grad, importance._counter = squares, dict.fromkeys(squares, len(samples))
