"""What a pruned module lives through: torch.compile before and after, other types and devices; and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from graphprune.passes import Taylor
from torch import nn
from torch_models import made
from torch_pruning import far, opened, random_plan, run, tensors

import graphprune as gp
from graphprune.backends.module.rewrite import rewritten
from graphprune.errors import ModelError
from graphprune.frontends.fx.trace import trace


@pytest.mark.parametrize("how", ["wrapped", "wrapped and run", "in place"])
def test_a_compiled_module_is_pruned_like_the_module_inside(how: str) -> None:
    torch._dynamo.reset()
    module, args = made("vgg")
    wanted, _ = gp.prune(module, example_inputs=args, budget=0.5)
    if how == "in place":
        compiled = copy.deepcopy(module)
        compiled.compile(backend="eager")
    else:
        compiled = torch.compile(module, backend="eager")
    if how == "wrapped and run":
        run(compiled, args)
    small, report = gp.prune(compiled, example_inputs=args, budget=0.5)
    assert type(small) is type(module)
    assert report.form == "module class"
    assert small._compiled_call_impl is None
    assert list(small.state_dict()) == list(wanted.state_dict())
    assert far(run(small, args), run(wanted, args)) == 0


def test_a_pruned_module_trains_compiled_as_it_does_plain() -> None:
    torch._dynamo.reset()
    module, args = made("vgg")
    plain, _ = gp.prune(module, example_inputs=args, budget=0.6)
    compiled = torch.compile(copy.deepcopy(plain), backend="eager")
    for side in (plain.train(), compiled.train()):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(side.parameters(), 0.01)
        side(*args).square().mean().backward()
        optimizer.step()
    held = dict(compiled._orig_mod.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(held[name], parameter, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["module class", "graph module"])
@pytest.mark.parametrize("name", ["resnet_basic", "mobilenet_v2", "unet", "vit"])
def test_a_pruned_module_changes_types_and_devices_and_comes_back(name: str, form: Any) -> None:
    _, args, graph, groups = opened(name)
    small = rewritten(graph, random_plan(groups), groups, form=form).module
    wanted, state = run(small, args), copy.deepcopy(small.state_dict())
    double = run(copy.deepcopy(small).double(), tuple(a.double() if a.is_floating_point() else a for a in args))
    assert all(y.dtype == torch.float64 for y in double)
    assert far(double, [y.double() for y in wanted]) < 1e-4
    half = run(copy.deepcopy(small).bfloat16(), tuple(a.bfloat16() if a.is_floating_point() else a for a in args))
    assert all(y.dtype == torch.bfloat16 for y in half)
    away = small.to("meta")
    assert all(p.is_meta for p in away.parameters())
    assert [y.shape for y in tensors(away(*(a.to("meta") for a in args)))] == [y.shape for y in wanted]
    back = away.to_empty(device="cpu")
    back.load_state_dict(state, strict=True)
    assert far(run(back, args), wanted) == 0


# What the forward of a detector does ----------------------------------------------------------------------------------


class Detector(nn.Module):
    """Boxes above a threshold, as many as there are, for each of a list of images."""

    def __init__(self, *, fixed: bool) -> None:
        super().__init__()
        self.body, self.head, self.fixed = nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 5, 1), fixed

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        found = self.head(torch.relu(self.body(torch.stack(images)))).flatten(2).transpose(1, 2)
        return [self.best(rows) for rows in found]

    def best(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        scores, boxes = rows[:, 0].sigmoid(), rows[:, 1:]
        if not self.fixed:
            above = scores > 0.5
            scores, boxes = scores[above], boxes[above]
        best, order = scores.topk(4 if self.fixed else min(4, len(scores)))
        return {"scores": best, "boxes": boxes[order]}


IMAGES = ([torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(k)) for k in range(2)],)


def test_a_detector_that_keeps_what_is_above_a_threshold_is_refused_with_words() -> None:
    with pytest.raises(ModelError) as caught:
        gp.prune(Detector(fixed=False).eval(), example_inputs=IMAGES, budget=0.5)
    error = caught.value
    assert error.code == "data-dependent-forward"
    assert (error.where or "").startswith(__file__)
    assert "\n" not in error.message
    assert "torch.where" in (error.hint or "")


def test_a_detector_that_keeps_a_fixed_number_is_pruned() -> None:
    torch.manual_seed(0)
    module = Detector(fixed=True).eval()
    small, report = gp.prune(module, example_inputs=IMAGES, budget=0.6)
    assert type(small) is Detector
    assert report.form == "module class"
    assert small.body.out_channels < 12
    assert [sorted(found) for found in small(*IMAGES)] == [["boxes", "scores"]] * 2


# Data sets of Hugging Face, by what they can do -----------------------------------------------------------------------


class Rows:
    """What ``datasets.Dataset`` does: rows as dictionaries of Python values, slices as dictionaries of lists."""

    column_names = ("input", "label", "file")

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int | slice | Sequence[int]) -> dict[str, Any]:
        if isinstance(index, int):
            row = torch.randn(6, generator=torch.Generator().manual_seed(index)).tolist()
            return {"input": row, "label": index % 3, "file": f"{index}.png"}
        chosen = range(8)[index] if isinstance(index, slice) else index
        rows = [self[k] for k in chosen]
        return {name: [row[name] for row in rows] for name in self.column_names}


class Streamed:
    """What ``datasets.IterableDataset`` does: rows one after the other, as often as asked."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (Rows()[k] for k in range(8))


def test_rows_and_streams_score_like_the_tensors_in_them() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    graph = trace(module, torch.zeros(1, 6))
    groups = gp.couple(graph)
    arrays = {name: torch.tensor(values).numpy() for name, values in Rows()[:].items() if name != "file"}
    wanted = Taylor(data=arrays)(graph, groups)
    for data in (Rows(), Streamed()):
        found = Taylor(data=data)(graph, groups)
        for name, values in wanted.items():
            assert found[name] == pytest.approx(values, rel=1e-5)
