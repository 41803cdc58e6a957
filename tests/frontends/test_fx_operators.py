"""Operators one by one: what they couple is what the operators of their ONNX export couple."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from against_onnx import check_same_groups
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from graphprune.count import count
from graphprune.coupling import couple
from graphprune.frontends.fx import trace as fx
from graphprune.graph import Graph

Between = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """A convolution, the operator under test, and another convolution."""

    def __init__(self, between: Between, after: int, channels: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, channels, 1), nn.Conv2d(after, 4, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


OPERATORS: dict[str, tuple[Between, int]] = {
    "repeat": (lambda x: x.repeat(1, 2, 1, 1), 16),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, dim=1), 24),
    "flip": (lambda x: x + x.flip(1), 8),
    "roll": (lambda x: x + x.roll(3, 1), 8),
    "narrow": (lambda x: x.narrow(1, 2, 5), 5),
    "slice": (lambda x: x[:, 1::2], 4),
    "slice in the middle of others": (lambda x: x[:1, 2:7, 1:, :-1], 5),
    "pick": (lambda x: x[:, 3:4] * x[:, 5, None], 1),
    "index_select": (lambda x: x.index_select(1, torch.tensor([0, 2, 2, 5])), 4),
    "index": (lambda x: x[:, torch.tensor([7, 1])], 2),
    "stack": (lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2), 16),
    "unbind": (lambda x: torch.cat([part.relu() for part in x.view(2, 2, 4, 4, 4).unbind(1)], 1), 8),
    "split": (lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1), 8),
    "chunk": (lambda x: torch.cat(x.chunk(3, 1)[1:], 1), 5),
    "einsum": (lambda x: torch.einsum("nchw,ncij->nchw", x, x), 8),
    "matmul": (lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).unsqueeze(1).expand(-1, 8, -1, -1), 8),
    "baddbmm": (lambda x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2])[:, None] + x, 8),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), 32),
    "glu": (lambda x: F.glu(x, 1), 4),
    "pad": (lambda x: F.pad(x, (1, 1, 0, 2)), 8),
    "pad of channels": (lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)), 11),
    "reflection": (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), 8),
    "mean": (lambda x: x * x.mean((2, 3), keepdim=True), 8),
    "mean over channels": (lambda x: x - x.mean(1, keepdim=True), 8),
    "norm": (lambda x: F.normalize(x, dim=1), 8),
    "max over channels": (lambda x: x * x.amax(1, keepdim=True), 8),
    "softmax over channels": (lambda x: x.softmax(1), 8),
    "softmax over space": (lambda x: x.flatten(2).softmax(-1).view_as(x), 8),
    "cumsum": (lambda x: x.cumsum(1), 8),
    "topk": (lambda x: x.topk(2, dim=1).values, 2),
    "clamp and where": (lambda x: torch.where(x > 0, x, x.clamp(min=-1)), 8),
    "pooling": (lambda x: F.avg_pool2d(F.max_pool2d(x, 2, ceil_mode=True), 2, 1, 1), 8),
    "resize": (lambda x: F.interpolate(x, size=(7, 5), mode="bilinear", align_corners=False), 8),
    "squeeze": (lambda x: x.mean(3, keepdim=True).squeeze(-1).unsqueeze(3), 8),
    "permute and back": (lambda x: (x.permute(0, 2, 3, 1) * 2).permute(0, 3, 1, 2), 8),
    "expand": (lambda x: x + x.amax((2, 3), keepdim=True).expand_as(x), 8),
    "instance norm": (lambda x: F.instance_norm(x), 8),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_between_convolutions(name: str) -> None:
    torch.manual_seed(0)
    between, after = OPERATORS[name]
    ours, theirs = check_same_groups(Around(between, after).eval(), (torch.randn(2, 3, 4, 4),))
    assert count(ours)["macs"] == count(theirs)["macs"]


def groups_of(graph: Graph) -> list[tuple[int, list[tuple[str, int]]]]:
    return [(g.size, sorted((m.tensor, m.axis) for m in g.members)) for g in couple(graph).groups]


class Modules(nn.Module):
    """Any modules, one after the other, behind one linear layer and in front of another."""

    def __init__(self, *inner: nn.Module, width: int = 6, after: int = 6) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(5, width), nn.Sequential(*inner), nn.Linear(after, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.first(x)))


def test_weight_norm_leaves_channels_alone() -> None:
    inner = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    graph = fx.trace(Modules(inner), torch.randn(3, 5))
    weight = "inner.0.parametrizations.weight.original"
    assert (6, [("inner.0.bias", 0), (f"{weight}0", 0), (f"{weight}1", 0), ("last.weight", 1)]) in groups_of(graph)
    assert any(f.tensor == "first.weight" and "statistic" in f.reason for f in couple(graph).frozen)


def test_prelu_and_batch_norm_of_vectors() -> None:
    graph = fx.trace(Modules(nn.PReLU(6), nn.BatchNorm1d(6)).eval(), torch.randn(3, 5))
    names = {name for name, _ in groups_of(graph)[0][1]}
    assert {"first.weight", "inner.0.weight", "inner.1.running_var", "last.weight"} <= names


def test_grouped_transposed_convolution() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 2, 2, groups=4), nn.Conv2d(12, 2, 1))
    check_same_groups(module.eval(), (torch.randn(1, 3, 4, 4),))


@pytest.mark.parametrize("kind", [1, 3])
def test_convolutions_of_other_ranks(kind: int) -> None:
    conv, pool = getattr(nn, f"Conv{kind}d"), getattr(nn, f"MaxPool{kind}d")
    module = nn.Sequential(conv(2, 6, 3, padding=1), nn.ReLU(), pool(2), conv(6, 3, 1))
    check_same_groups(module.eval(), (torch.randn(1, 2, *[4] * kind),))


def test_an_image_without_a_batch_axis() -> None:
    module = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1))
    with_batch, without = (fx.trace(module, torch.randn(*batch, 2, 5, 5)) for batch in [(1,), ()])
    assert groups_of(with_batch) == groups_of(without)
    assert count(with_batch)["macs"] == count(without)["macs"]


def test_a_channel_shuffle_operator_is_the_reshapes_it_stands_for() -> None:
    def spelled(x: Tensor) -> Tensor:
        return x.view(2, 2, 4, 4, 4).transpose(1, 2).reshape(2, 8, 4, 4)

    torch.manual_seed(0)
    module = Around(lambda x: torch.channel_shuffle(x, 2), 8)
    graphs = [fx.trace(module, torch.randn(2, 3, 4, 4))]
    module.between = spelled
    graphs.append(fx.trace(module, torch.randn(2, 3, 4, 4)))
    one, two = (couple(g).groups for g in graphs)
    assert [[(m.tensor, m.index.tolist(), m.unit.tolist()) for m in g.members] for g in one] == [
        [(m.tensor, m.index.tolist(), m.unit.tolist()) for m in g.members] for g in two
    ]


def test_a_shuffle_by_moving_an_axis_is_one_permutation() -> None:
    module = Around(lambda x: x.unflatten(1, (2, 4)).movedim(1, 2).contiguous().flatten(1, 2), 8)
    graph = fx.trace(module, torch.randn(2, 3, 4, 4))
    assert [n.family for n in graph.nodes] == ["contraction", "permutation", "contraction"]
    (group,) = couple(graph).groups
    by_tensor = {(m.tensor, m.axis): m.unit[m.index.argsort()].tolist() for m in group.members}
    assert by_tensor["last.weight", 1] == [by_tensor["first.weight", 0][k] for k in (0, 4, 1, 5, 2, 6, 3, 7)]


def test_an_operator_nobody_knows_freezes_what_it_touches() -> None:
    graph = fx.trace(Modules(nn.Softmax(1)), torch.randn(3, 5))
    assert groups_of(graph) == []

    class Unknown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svdvals(x[..., None])

    module = Modules(Unknown(), after=1)
    reasons = {f.reason for f in couple(fx.trace(module, torch.randn(3, 5))).frozen if f.tensor == "first.weight"}
    assert "linalg_svdvals is not known to graphprune" in reasons


def test_a_write_into_a_slice_couples_what_was_written() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(5, 4), nn.Linear(5, 3), nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            joined = torch.zeros(x.shape[0], 7)
            joined[:, :4] = self.a(x)
            joined[:, 4:] = self.b(x)
            joined += 1
            return self.last(joined.relu_())

    found = couple(fx.trace(Writes(), torch.randn(2, 5))).groups
    assert sorted((g.size, sorted((m.tensor, m.index.tolist()) for m in g.members if m.axis == 1)) for g in found) == [
        (3, [("last.weight", [4, 5, 6])]), (4, [("last.weight", [0, 1, 2, 3])]),
    ]  # fmt: skip


def test_positions_the_module_counts_itself_are_a_selection() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.last = nn.Parameter(torch.randn(9, 6)), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x[:, :, None] * self.table[torch.arange(4) * 2])

    graph = fx.trace(Table(), torch.randn(2, 4))
    picked = next(n for n in graph.nodes if n.op == "index")
    assert picked.family == "select"
    assert picked.attrs["picks"][0].tolist() == [0, 2, 4, 6]
    assert groups_of(graph) == [(6, [("last.weight", 1), ("table", 1)])]
    spare = [f for f in couple(graph).frozen if (f.tensor, f.axis) == ("table", 0)]
    assert [(f.count, f.reason) for f in spare] == [(9, "other sizes of the input may pick these positions")]


def test_attention_over_heads_that_are_repeated_inside() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.kv, self.o = nn.Linear(8, 24), nn.Linear(8, 24), nn.Linear(24, 8)

        def forward(self, x: Tensor) -> Tensor:
            n, t, _ = x.shape
            q = self.q(x).view(n, t, 4, 6).transpose(1, 2)
            k, v = self.kv(x).view(n, t, 2, 2, 6).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return self.o(y.transpose(1, 2).reshape(n, t, 24))

    graph = fx.trace(Grouped(), torch.randn(2, 5, 8))
    assert sorted((g.size, g.kind) for g in couple(graph).groups) == [
        (2, "head"), (2, "head"), (6, "head-dim"),
    ]  # fmt: skip
    # 3 projections to 24, and from 24; scores and sums over 4 heads, 5 by 5 positions, 6 deep
    assert count(graph)["macs"] == 2 * 5 * 8 * 24 * 3 + 2 * (2 * 4 * 5 * 5 * 6)
