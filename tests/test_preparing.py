"""Passes that change the model before it is pruned, and those that decide for themselves how much to keep."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from models import mlp
from onnx import numpy_helper
from torch import nn

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.frontends.fx.trace import trace_call
from graphprune.runtime import session
from graphprune.scoring import Needs, Prepared, PreparingPass


@dataclass(frozen=True)
class Louder:
    """Multiplies weights before widths are chosen, and biases when they are; keeps every other unit."""

    by: float = 2.0
    finishing: bool = True

    name: ClassVar[str] = "louder"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "a test's pass"
    scale_equivariant: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    def __call__(self, graph: gp.Graph, groups: gp.Groups) -> gp.Scores:
        arrays = {g.id: np.arange(g.size, dtype=np.float64) for g in groups.groups}
        chosen = {g.id: np.arange(g.size) % 2 == 0 for g in groups.groups}
        return gp.Scores(arrays, self.name, "sum", notes=("made louder",), details={"by": self.by}, chosen=chosen)

    def prepare(self, graph: gp.Graph, groups: gp.Groups, recouple: Callable[[gp.Graph], gp.Groups]) -> Prepared:
        louder = multiplied(graph, self.by, rank=2)
        found = recouple(louder)
        finish = (lambda plan: multiplied(louder, sum(plan.widths.values()), rank=1)) if self.finishing else None
        return Prepared(louder, found, self(louder, found), finish)


def multiplied(graph: gp.Graph, by: float, rank: int) -> gp.Graph:
    """Multiply the stored tensors of one rank."""
    source: Any = graph.source
    if hasattr(source, "program"):
        module = copy.deepcopy(source.module)
        with torch.no_grad():
            for p in module.parameters():
                p.mul_(by if p.dim() == rank else 1.0)
        return trace_call(module, source.args, source.kwargs, source.dynamic_shapes)
    return gp.trace(multiplied_model(source.model, by, rank))


def multiplied_model(model: onnx.ModelProto, by: float, rank: int) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for stored in result.graph.initializer:
        array = numpy_helper.to_array(stored)
        if array.ndim == rank and array.dtype == np.float32:
            stored.CopyFrom(numpy_helper.from_array(array * np.float32(by), stored.name))
    return result


def run(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    theirs = session(model)
    result: np.ndarray[Any, Any] = theirs.run(None, {theirs.get_inputs()[0].name: x})[0]
    return result


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))


def test_the_protocol_is_recognised() -> None:
    assert isinstance(Louder(), PreparingPass)


@pytest.mark.parametrize("finishing", [False, True])
def test_the_changed_model_is_what_is_pruned(finishing: bool) -> None:
    model = mlp()
    small, report = gp.prune(model, budget=0.5, method=Louder(3.0, finishing))
    kept = {g.id: len(g.kept) for g in report.groups}
    wanted = multiplied_model(model, 3.0, 2)
    if finishing:
        wanted = multiplied_model(wanted, sum(kept.values()), 1)
    graph = gp.trace(wanted)
    groups = gp.couple(graph)
    plan = gp.Plan({g.id: g.kept for g in report.groups}, {g.id: g.size for g in report.groups}, groups.fingerprint)
    expected = gp.rewrite(graph, plan, groups)
    x = np.random.default_rng(0).normal(size=(1, 16)).astype(np.float32)
    x = np.resize(x, [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim])
    np.testing.assert_array_equal(run(small, x), run(expected, x))
    assert report.details == {"by": 3.0} and "made louder" in report.notes
    assert "louder changed weights: a saved plan carries the units alone" in report.notes
    assert report.verify is not None and report.verify.relative <= report.verify.tolerance
    assert report.verify.against == "what louder made of the original"
    assert report.input.params == sum(int(np.prod(t.dims)) for t in model.graph.initializer)


def test_the_agreement_is_with_the_model_that_was_given() -> None:
    model = mlp()
    _, unchanged = gp.prune(model, budget=1.0, method=Louder(1.0, False))
    _, negated = gp.prune(model, budget=1.0, method=Louder(-1.0, False))
    assert unchanged.verify is not None and unchanged.verify.agreement == pytest.approx(1, abs=1e-6)
    assert negated.verify is not None and negated.verify.agreement is not None
    assert negated.verify.agreement < 0.9


def test_without_a_budget_the_method_decides() -> None:
    _, report = gp.prune(mlp(), method=Louder())
    assert all(g.kept == tuple(range(0, g.size, 2)) for g in report.groups)
    _, aligned = gp.prune(mlp(width=20), method=Louder(), multiple=8)
    for group in aligned.groups:  # 10 of 20 are chosen; 16 is the next multiple, filled up with the best others
        assert len(group.kept) == 16 and set(group.kept) >= set(range(0, 20, 2)) | {19, 17, 15, 13, 11, 9}


def test_without_a_budget_there_is_no_going_in_steps() -> None:
    with pytest.raises(UsageError) as caught:
        gp.prune(mlp(), method=Louder(), steps=2)
    assert caught.value.code == "budget-missing"


def test_in_steps_the_model_changes_each_time() -> None:
    model = mlp()
    small, report = gp.prune(model, budget=0.5, method=Louder(2.0, False), steps=2)
    first = next(t for t in model.graph.initializer if len(t.dims) == 2)
    mine = next(t for t in small.graph.initializer if t.name == first.name)
    assert np.abs(numpy_helper.to_array(mine)).max() <= 4 * np.abs(numpy_helper.to_array(first)).max() * (1 + 1e-6)
    assert np.abs(numpy_helper.to_array(mine)).max() > 2 * np.abs(numpy_helper.to_array(first)).max()
    assert any(words.startswith("weights changed between the steps") for words in report.warnings)


@pytest.mark.parametrize("finishing", [False, True])
def test_modules_of_torch(finishing: bool) -> None:
    module, x = net(), torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    small, report = gp.prune(module, example_inputs=x, method=Louder(2.0, finishing))
    units = list(report.groups[0].kept)
    by = len(units) if finishing else 1
    with torch.no_grad():
        first, last = module[0], module[2]
        hidden = torch.relu(x @ (2 * first.weight[units]).T + by * first.bias[units])
        expected = hidden @ (2 * last.weight[:, units]).T + by * last.bias
        torch.testing.assert_close(small(x), expected)
        given = module(x)
    assert report.form == "module class" and report.verify is not None and report.verify.agreement is not None
    assert report.verify.agreement < 0.9999
    assert cosine(small(x).detach().numpy(), given.numpy()) < 0.9999
    assert units == list(range(0, 16, 2))


def test_saving_what_was_changed(tmp_path: Any) -> None:
    module, x = net(), torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    small, _ = gp.prune(module, example_inputs=x, method=Louder(), budget=0.5)
    gp.save(small, tmp_path / "m.safetensors")
    again = gp.load(tmp_path / "m.safetensors", net())
    torch.testing.assert_close(again(x), small(x), rtol=0, atol=0)


@dataclass(frozen=True)
class Training(Louder):
    """Says how far it is, as passes that train do."""

    tell: Callable[[Any], None] | None = None

    def prepare(self, graph: gp.Graph, groups: gp.Groups, recouple: Callable[[gp.Graph], gp.Groups]) -> Prepared:
        assert self.tell is not None
        for epoch in (1, 1, 2):
            self.tell(SimpleNamespace(epoch=epoch, epochs=2))
        return super().prepare(graph, groups, recouple)


def test_training_shows_its_epochs() -> None:
    stages: list[str] = []
    gp.prune(mlp(), budget=0.5, method=Training(), progress=stages.append)
    assert [s for s in stages if s.startswith("train")] == ["train, epoch 1 of 2", "train, epoch 2 of 2"]
