"""A pruned module is compared with the mended graph operator by operator, and copied without sharing anything."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from graphprune.backends.fx.cuts import cuts_of
from graphprune.backends.fx.rewrite import mend
from graphprune.backends.fx.same import captures_as
from graphprune.backends.module.copy import class_copy
from graphprune.backends.module.rewrite import rewritten
from graphprune.coupling import couple
from graphprune.frontends.fx.trace import trace
from graphprune.layout import kept_by
from graphprune.plan import Plan


class Numbers(nn.Module):
    """A forward that follows attributes in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)
        self.factor, self.made, self.plain, self.power = 2.0, 0.5, torch.tensor([1.0, 2.0, 3.0]), 1
        self.named, self.slope, self.last, self.other = False, 1, True, False
        self.register_buffer("shift", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> Any:
        y = self.second(torch.relu(self.first(x * self.factor)))
        y = y * torch.tensor(self.made) + self.plain * self.slope + self.shift
        y = y**self.power if not self.other else y.pow(1)
        parts = y.split([1, 2], -1)
        result = torch.cat(parts if self.last else parts[::-1], -1)
        return {"y": result, "z": y} if self.named else (result, y)


def opened() -> tuple[Any, ...]:
    torch.manual_seed(0)
    graph = trace(Numbers().eval(), torch.randn(2, 4))
    groups = couple(graph)
    plan = Plan({g.id: (0, 3, 5) for g in groups.groups}, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    kept = kept_by(groups, plan)
    cuts = cuts_of(graph, groups, kept)
    return graph, rewritten(graph, plan, groups), mend(graph, groups, kept, cuts), cuts


def test_the_class_is_accepted_by_comparing() -> None:
    graph, done, mended, cuts = opened()
    assert done.form == "module class"
    assert done.module.first.weight.shape == (3, 4)
    assert captures_as(done.module, graph.source, mended, cuts)
    assert captures_as(copy.deepcopy(done.module), graph.source, mended, cuts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("factor", 3.0),
        ("factor", 2),
        ("made", 0.25),
        ("plain", torch.tensor([1.0, 2.0, 4.0])),
        ("plain", torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)),
        ("plain", torch.ones(1)),
        ("slope", 1.0),
        ("power", 2),
        ("named", True),
        ("last", False),
        ("other", True),
    ],
)
def test_any_other_argument_constant_or_result_is_noticed(name: str, value: Any) -> None:
    graph, done, mended, cuts = opened()
    setattr(done.module, name, value)
    same = name == "other"  # y ** 1 is pow(y, 1)
    assert captures_as(done.module, graph.source, mended, cuts) == same


def test_another_size_type_or_number_of_operators_is_noticed() -> None:
    for change in (
        lambda m: setattr(m.first, "weight", nn.Parameter(torch.zeros(4, 4))),
        lambda m: m.double(),
        lambda m: m.register_forward_hook(lambda _m, _i, y: (y[0] + 0, y[1])),
        lambda m: m.register_forward_hook(lambda _m, _i, y: (y[1], y[0])),
        lambda m: m.register_forward_hook(lambda _m, _i, y: (y[0], y[0])),
        lambda m: m.second.register_forward_pre_hook(lambda _m, i: (i[0].detach(),)),
    ):
        graph, done, mended, cuts = opened()
        change(done.module)
        assert not captures_as(done.module, graph.source, mended, cuts)


def test_comparing_leaves_the_module_as_it_was() -> None:
    graph, done, mended, cuts = opened()
    done.module.register_forward_hook(lambda m, _i, y: m.__dict__.update(seen=y) or m.first.__dict__.update(seen=y))
    done.module.train()
    before = {n: dict(vars(m)) for n, m in done.module.named_modules()}
    assert captures_as(done.module, graph.source, mended, cuts)
    after = {n: dict(vars(m)) for n, m in done.module.named_modules()}
    assert before.keys() == after.keys()
    assert all(before[n].keys() == after[n].keys() and before[n]["training"] for n in before)


# Copies ---------------------------------------------------------------------------------------------------------------


class Holder(nn.Module):
    """Attributes that share something."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.arange(6.0)
        self.register_buffer("left", whole[:3])
        self.register_buffer("right", whole[3:])
        self.register_buffer("alone", torch.arange(4.0))
        self.alias, self.other = self.alone, self.alone.view(2, 2)
        self.cache: dict[str, int] = {}
        self.same_cache, self.ids, self.pair = self.cache, {1, 2}, (1, [2])
        self.layer = nn.Linear(4, 4)
        self.tied = self.layer.weight
        self.layer.weight.note = "kept only by slicing"
        self.again = self.layer


def test_a_copy_shares_within_itself_and_with_nothing_else() -> None:
    one = Holder()
    two = class_copy(one, {})
    theirs = copy.deepcopy(one)
    for made in (two, theirs):
        assert made.alias is made.alone
        assert made.other.data_ptr() == made.alone.data_ptr() != one.alone.data_ptr()
        assert made.right.untyped_storage().data_ptr() == made.left.untyped_storage().data_ptr()
        assert made.left.untyped_storage().data_ptr() != one.left.untyped_storage().data_ptr()
        assert made.same_cache is made.cache
        assert made.cache is not one.cache
        assert made.ids == {1, 2}
        assert made.ids is not one.ids
        assert made.pair == (1, [2])
        assert made.pair[1] is not one.pair[1]
        assert made.tied is made.layer.weight
        assert made.again is made.layer
        assert type(made.layer.weight) is nn.Parameter
    assert {n: t.tolist() for n, t in two.state_dict().items()} == {n: t.tolist() for n, t in one.state_dict().items()}
    assert vars(two).keys() == vars(theirs).keys()


def test_a_copy_keeps_hooks_gradient_flags_and_layouts() -> None:
    one = nn.Sequential(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(4))
    one[0].bias.requires_grad_(False)
    one[0].register_forward_hook(lambda _m, _i, y: y * 2)
    one.compile(backend="eager")
    two = class_copy(one.eval(), {})
    assert not two[0].bias.requires_grad
    assert two[0].weight.stride() == one[0].weight.stride()
    assert two._compiled_call_impl is None
    assert not two.training
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(two[0](x), one[0](x))


class Own(nn.Module):
    """A class that says itself how it is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        made = Own()
        made.weight = copy.deepcopy(self.weight, memo)
        made.mark = "own"
        return made


def test_a_class_is_copied_in_its_own_way() -> None:
    assert class_copy(nn.Sequential(Own()), {})[0].mark == "own"
