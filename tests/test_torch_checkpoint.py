"""Saved and made again: the weights as trained, from the original class; a file that was changed is an error."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_models import ARCHITECTURES, made
from torch_pruning import far, run, tensors

import graphprune as gp
from graphprune.checkpoint import load, save
from graphprune.errors import GraphpruneError, ModelError, OutputError, UsageError


def trained(name: str) -> tuple[nn.Module, nn.Module, tuple[torch.Tensor, ...]]:
    module, args = made(name)
    small, _ = gp.prune(module, example_inputs=args, budget=0.6)
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), 0.01)
    sum(y.square().mean() for y in tensors(small(*args))).backward()
    optimizer.step()
    return module, small.eval(), args


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit", "bert", "tied_embeddings", "yolo", "swin"])
def test_what_was_trained_comes_back(name: str, tmp_path: Path) -> None:
    _, small, args = trained(name)
    save(small, tmp_path / "small.safetensors")
    again = load(tmp_path / "small.safetensors", lambda: ARCHITECTURES[name].build().eval())
    assert type(again).__name__ == type(small).__name__
    assert list(again.state_dict()) == list(small.state_dict())
    assert far(run(again, args), run(small, args)) == 0
    again.train()
    sum(y.square().mean() for y in tensors(again(*args))).backward()
    save(again, tmp_path / "again.safetensors")
    assert far(run(load(tmp_path / "again.safetensors", ARCHITECTURES[name].build).eval(), args), run(small, args)) < 1


def test_the_original_may_be_a_module_and_is_not_changed(tmp_path: Path) -> None:
    module, small, args = trained("resnet_basic")
    before = copy.deepcopy(module.state_dict())
    save(small, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors", module)
    assert far(run(again, args), run(small, args)) == 0
    assert all(torch.equal(a, b) for a, b in zip(before.values(), module.state_dict().values(), strict=True))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mlp, self.head = nn.Embedding(9, 6), nn.Linear(6, 20), nn.Linear(20, 6)
        self.out = nn.Linear(6, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.head(torch.tanh(self.mlp(self.embed(x)))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_and_ties_survive(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 9, (2, 4))
    small, _ = gp.prune(Tied().eval(), example_inputs=x, budget=0.7)
    small.to(dtype)
    save(small, tmp_path / "t.safetensors")
    again = load(tmp_path / "t.safetensors", Tied).eval()
    assert again.out.weight is again.embed.weight
    assert {p.dtype for p in again.parameters()} == {dtype}
    for a, b in zip(small.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_deep_copy_knows_how_it_was_pruned(tmp_path: Path) -> None:
    _, small, args = trained("mlp")
    save(copy.deepcopy(small), tmp_path / "c.safetensors")
    assert far(run(load(tmp_path / "c.safetensors", ARCHITECTURES["mlp"].build).eval(), args), run(small, args)) == 0


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    _, small, _ = trained("mlp")
    path = tmp_path / "small.safetensors"
    save(small, path)
    before = path.read_bytes()
    with pytest.raises(OutputError):
        save(small, path)
    assert path.read_bytes() == before
    save(small, path, force=True)
    assert path.read_bytes() == before, "the same module gives the same file"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_only_pruned_modules_are_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not know how it was pruned"):
        save(nn.Linear(2, 2), tmp_path / "x.safetensors")


def test_another_architecture_is_named(tmp_path: Path) -> None:
    _, small, _ = trained("mlp")
    save(small, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="made from a") as caught:
        load(tmp_path / "m.safetensors", ARCHITECTURES["resnet_basic"].build)
    assert caught.value.code == "other-architecture"
    with pytest.raises(UsageError, match="no torch module"):
        load(tmp_path / "m.safetensors", lambda: 3)  # type: ignore[arg-type, return-value]


def test_files_of_other_kinds(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("not at all")
    for name, code in [
        ("plain", "not-a-checkpoint"),
        ("text", "checkpoint-unreadable"),
        ("none", "checkpoint-unreadable"),
    ]:
        with pytest.raises(ModelError) as caught:
            load(tmp_path / f"{name}.safetensors", nn.Identity)
        assert caught.value.code == code


def test_any_change_is_noticed(tmp_path: Path) -> None:
    """A bit of the weights, or of the recipe; each place of a sample of the file."""
    _, small, _ = trained("mlp")
    path, other = tmp_path / "m.safetensors", tmp_path / "other.safetensors"
    save(small, path)
    content = path.read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    for place in [8 + header, 8 + header + 13, len(content) - 1, *range(9, 8 + header, 211)]:
        other.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(GraphpruneError) as caught:
            load(other, ARCHITECTURES["mlp"].build)
        assert caught.value.code.startswith(("checkpoint", "not-a-checkpoint")), place
    other.write_bytes(content[:-5])
    with pytest.raises(ModelError):
        load(other, ARCHITECTURES["mlp"].build)


def test_the_recipe_is_json_in_the_file(tmp_path: Path) -> None:
    _, small, _ = trained("mlp")
    save(small, tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    recipe = json.loads(json.loads(json.loads(content[8 : 8 + header])["__metadata__"]["graphprune"])["recipe"])
    assert recipe["schema"] == "graphprune.checkpoint/1"
    assert recipe["form"] == "module class"
    assert json.loads(recipe["plan"])["schema"] == "graphprune.plan/1"


def test_steps_with_training_in_between_are_saved_too(tmp_path: Path) -> None:
    module, args = made("resnet_basic")

    def train(small: nn.Module, _step: int) -> nn.Module:
        with torch.no_grad():
            for p in small.parameters():
                p.add_(0.01)
        return small

    small, report = gp.prune(module, example_inputs=args, budget=0.5, steps=3, train=train)
    assert len(report.steps) == 3
    save(small, tmp_path / "steps.safetensors")
    again = load(tmp_path / "steps.safetensors", module)
    assert far(run(again.eval(), args), run(small.eval(), args)) == 0
