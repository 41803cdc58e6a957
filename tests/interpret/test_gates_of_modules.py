"""Gates and gradient scores of models traced from torch: the same as those of their ONNX twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from graphprune.passes.fisher import Fisher
from graphprune.passes.taylor import Taylor
from torch import Tensor, nn

from graphprune.backends.fx.rewrite import rewrite_graph
from graphprune.coupling import couple
from graphprune.frontends.fx.trace import trace
from graphprune.interpret.differentiable import differentiable, input_specs
from graphprune.interpret.gates import insert_gates
from graphprune.plan import Plan


class Cnn(nn.Module):
    """Convolutions with batch norm, in place, a residual, a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 1)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.fc = nn.Linear(8 * 16, 5)
        nn.init.uniform_(self.norm.running_mean), nn.init.uniform_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = x + self.outer(self.relu(self.inner(x)))
        return self.fc(self.drop(torch.flatten(x, 1)))


class Heads(nn.Module):
    """Attention by scaled_dot_product_attention, one projection for all, a hidden size written down."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 36), nn.Linear(12, 6)
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 12)
        x = x + self.out(y)
        return self.down(nn.functional.gelu(self.up(x)))


def made(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return (Cnn().eval(), torch.randn(2, 3, 4, 4)) if kind == "cnn" else (Heads().eval(), torch.randn(2, 5, 6))


@pytest.mark.parametrize("kind", ["cnn", "heads"])
def test_closed_gates_are_removal(kind: str) -> None:
    module, x = made(kind)
    before = {n: p.clone() for n, p in module.state_dict().items()}
    graph = trace(module, (x,))
    groups = couple(graph)
    copy = differentiable(graph)
    torch.testing.assert_close(copy(x)[0], module(x))
    gated = insert_gates(copy, graph, groups)
    rng = np.random.default_rng(0)
    keep = {g.id: tuple(sorted(rng.permutation(g.size)[: max(1, g.size // 2)].tolist())) for g in groups.groups}
    plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    assert {*gated.vectors} == {*groups}
    with torch.no_grad():
        for name, vector in gated.vectors.items():
            vector.zero_()
            vector[list(keep[name])] = 1
        torch.testing.assert_close(gated.module(x)[0], rewrite_graph(graph, plan, groups)(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, before[n]) for n, p in module.state_dict().items())


def test_scores_by_hand_from_the_module_itself() -> None:
    """dL_n/dm_k of the inner channels: their map times its derivative, summed, sample by sample."""
    module, x = made("cnn")
    labels = torch.tensor([1, 4])
    maps: list[Tensor] = []

    def keep(_module: nn.Module, inputs: Any) -> None:
        inputs[0].retain_grad()
        maps.append(inputs[0])

    hook = module.outer.register_forward_pre_hook(keep)  # type: ignore[union-attr, operator]
    nn.functional.cross_entropy(module(x), labels, reduction="sum").backward()
    hook.remove()
    slope = (maps[0] * maps[0].grad).sum((2, 3)).detach().numpy()
    graph = trace(module, (x,))
    groups = couple(graph)
    (name,) = (g.id for g in groups.groups if g.size == 6)
    data = {graph.inputs[0]: x.numpy(), "labels": labels.numpy()}
    fisher, taylor = Fisher(data=data)(graph, groups), Taylor(data=data)(graph, groups)
    np.testing.assert_allclose(fisher[name], np.square(slope).mean(axis=0) / 2, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(taylor[name], np.square(slope.mean(axis=0)), rtol=1e-4, atol=1e-10)
    weights = Taylor(form="weight", data=data)(graph, groups)
    np.testing.assert_allclose(weights[name], taylor[name], rtol=1e-4, atol=1e-10)


def test_a_batch_is_free_unless_the_forward_writes_it_down() -> None:
    for kind, batch in (("cnn", None), ("heads", 2)):
        module, x = made(kind)
        graph = trace(module, (x,))
        (spec,) = input_specs(graph, differentiable(graph))
        assert (spec.batch, spec.shape) == (batch, (batch, *x.shape[1:]))
    groups = couple(graph)
    scores = Fisher(data={graph.inputs[0]: np.random.default_rng(0).standard_normal((6, 5, 6))})(graph, groups)
    assert any("whole batches" in note for note in scores.notes)


class Counted(nn.Module):
    """Takes a number as well."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.one(x) * factor)
        return self.two(hidden), hidden.sum(1)


def test_several_inputs_and_outputs() -> None:
    torch.manual_seed(0)
    example = (torch.randn(3, 4), torch.rand(3, 1))
    module = Counted().eval()
    graph = trace(module, example)
    for a, b in zip(differentiable(graph)(*example), module(*example), strict=True):
        torch.testing.assert_close(a, b)
    groups = couple(graph)
    data = {n: a.numpy() for n, a in zip(graph.inputs, example, strict=True)}
    assert all((Fisher(data=data)(graph, groups)[name] > 0).all() for name in groups)
