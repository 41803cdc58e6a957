"""A captured graph, mended and sliced: against the original with zeroed weights, in every mode, type and batch size."""

from __future__ import annotations

import copy
import io

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch_models import ARCHITECTURES
from torch_pruning import far, opened, random_plan, run, tensors, with_zeros

from graphprune.backends.fx.masked import Masks
from graphprune.backends.fx.rewrite import rewrite_graph
from graphprune.backends.module.rewrite import rewritten
from graphprune.coupling import couple
from graphprune.errors import PlanError, UsageError
from graphprune.frontends.fx.trace import trace
from graphprune.layout import kept_by
from graphprune.plan import Plan

SUMMED_BY_WEIGHTS = [
    "resnet_basic", "resnet_bottleneck", "resnext", "regnet", "densenet", "mobilenet_v2", "efficientnet", "convnext",
    "inception", "shufflenet", "squeezenet", "unet", "yolo", "vgg", "super_resolution", "mlp", "mixer", "lstm",
]  # fmt: skip
"""Architectures whose removable units are only ever summed by a stored weight."""


@pytest.mark.parametrize("name", SUMMED_BY_WEIGHTS)
def test_the_graph_equals_the_original_with_zeroed_weights(name: str) -> None:
    module, args, graph, groups = opened(name)
    plan = random_plan(groups, 1)
    wanted = run(with_zeros(module, graph, groups, plan), args)
    assert far(wanted, run(module, args)) > 1e-3, "the plan must matter"
    small = rewrite_graph(graph, plan, groups)
    assert isinstance(small, torch.fx.GraphModule)
    assert far(run(small, args), wanted) < 1e-5


@pytest.mark.parametrize("name", SUMMED_BY_WEIGHTS)
def test_masks_are_zeroed_weights(name: str) -> None:
    module, args, graph, groups = opened(name)
    plan = random_plan(groups, 2)
    with torch.no_grad():
        masked = tensors(Masks(graph, groups, kept_by(groups, plan)).run(list(args)))
    assert far(masked, run(with_zeros(module, graph, groups, plan), args)) < 1e-5


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(SUMMED_BY_WEIGHTS)))
@pytest.mark.parametrize("seed", [0, 1])
def test_the_graph_equals_the_masked_original(name: str, seed: int) -> None:
    _, args, graph, groups = opened(name)
    plan = random_plan(groups, seed)
    with torch.no_grad():
        wanted = tensors(Masks(graph, groups, kept_by(groups, plan)).run(list(args)))
    assert far(run(rewrite_graph(graph, plan, groups), args), wanted) < 1e-5


def test_parameters_are_slices_under_the_modules_own_names() -> None:
    module, _, graph, groups = opened("mobilenet_v2")
    plan = random_plan(groups)
    small = rewrite_graph(graph, plan, groups)
    assert list(small.state_dict()) and set(small.state_dict()) == set(module.state_dict())
    group = groups.groups[0]
    kept = list(plan.keep[group.id])
    for member in group.members:
        if len(set(member.unit.tolist())) == len(member.index):
            order = [int(i) for i, u in zip(member.index, member.unit, strict=True) if u in kept]
            original = dict(module.named_parameters()) | dict(module.named_buffers())
            mine = dict(small.named_parameters()) | dict(small.named_buffers())
            cut = original[member.tensor].index_select(member.axis, torch.tensor(order))
            if mine[member.tensor].shape == cut.shape:
                assert torch.equal(mine[member.tensor], cut)


def test_a_module_of_all_units_is_the_module() -> None:
    module, args, graph, groups = opened("efficientnet")
    whole = Plan({g.id: tuple(range(g.size)) for g in groups.groups}, {}, groups.fingerprint)
    assert far(run(rewrite_graph(graph, whole, groups), args), run(module, args)) < 1e-6


class Modes(nn.Module):
    """Whatever depends on the mode: statistics, with and without momentum, and dropout of channels and of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.5))
        self.second = nn.Sequential(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6, momentum=None), nn.ReLU())
        self.norm = nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.second(self.first(x)))
        return self.head(nn.functional.dropout(x, 0.5, self.training).mean((2, 3)))


@pytest.fixture(scope="module")
def modes() -> tuple[nn.Module, torch.fx.GraphModule, torch.Tensor]:
    torch.manual_seed(0)
    module, x = Modes().train(), torch.randn(4, 3, 9, 9)
    graph = trace(module, x)
    assert module.training
    groups = couple(graph)
    return module, rewritten(graph, random_plan(groups), groups, form="graph module").module, x


def test_a_graph_has_the_modes_of_the_module(modes: tuple[nn.Module, torch.fx.GraphModule, torch.Tensor]) -> None:
    _, small, x = modes
    small = copy.deepcopy(small)
    assert small.training
    before = {n: b.clone() for n, b in small.named_buffers() if n != "norm.num_batches_tracked"}  # torch leaves it at 0
    one, two = small(x), small(x)
    assert not torch.equal(one, two), "dropout is on"
    assert len(before) == 8
    assert all(not torch.equal(small.get_buffer(n), b) for n, b in before.items()), "statistics move"
    small.eval()
    before = {n: b.clone() for n, b in small.named_buffers()}
    assert torch.equal(small(x), small(x))
    assert all(torch.equal(b, before[n]) for n, b in small.named_buffers())


def test_statistics_are_the_modules_own(modes: tuple[nn.Module, torch.fx.GraphModule, torch.Tensor]) -> None:
    """Without dropout, a graph that keeps everything moves its statistics as the module does, step by step."""
    module, _, x = modes
    module = copy.deepcopy(module)
    graph = trace(module, x)
    groups = couple(graph)
    whole = Plan({g.id: tuple(range(g.size)) for g in groups.groups}, {}, groups.fingerprint)
    small = rewrite_graph(graph, whole, groups)
    module.train()
    small.train()
    for part in [*module.modules(), *small.modules()]:
        if isinstance(part, (nn.Dropout2d,)) or "dropout" in str(getattr(part, "operator", "")):
            part.eval()
    module.forward = lambda x: module.head(module.norm(module.second(module.first(x))).mean((2, 3)))  # type: ignore[method-assign]
    for step in range(3):
        torch.testing.assert_close(small(x + step), module(x + step))
    for name, buffer in small.named_buffers():
        torch.testing.assert_close(buffer, dict(module.named_buffers())[name])


def test_one_part_can_be_frozen_in_its_mode(modes: tuple[nn.Module, torch.fx.GraphModule, torch.Tensor]) -> None:
    _, small, x = modes
    small = copy.deepcopy(small).train()
    small.get_submodule("first.1").eval()
    before = small.get_buffer("first.1.running_mean").clone(), small.get_buffer("second.1.running_mean").clone()
    small(x)
    assert torch.equal(small.get_buffer("first.1.running_mean"), before[0])
    assert not torch.equal(small.get_buffer("second.1.running_mean"), before[1])


@pytest.mark.parametrize("name", ["mobilenet_v2", "yolo", "swin", "llama", "shufflenet"])
def test_graphs_follow_the_batch_size_type_and_device(name: str) -> None:
    _, args, graph, groups = opened(name)
    small = rewritten(graph, random_plan(groups), groups, form="graph module").module
    one = run(small, args)
    twice = run(small, tuple(torch.cat([a, a.flip(0)]) for a in args))
    for a, b in zip(one, twice, strict=True):
        torch.testing.assert_close(b[: len(a)], a)
    double = run(copy.deepcopy(small).double(), tuple(a.double() if a.is_floating_point() else a for a in args))
    assert far(double, [y.double() for y in one]) < 1e-4
    elsewhere = small.to("meta")(*(a.to("meta") for a in args))
    assert [y.shape for y in tensors(elsewhere)] == [y.shape for y in one]


@pytest.mark.parametrize("name", ["resnet_basic", "vit"])
def test_graphs_compile_export_and_pickle(name: str) -> None:
    _, args, graph, groups = opened(name)
    small = rewritten(graph, random_plan(groups), groups, form="graph module").module
    wanted = run(small, args)
    torch._dynamo.reset()
    assert far(run(torch.compile(small, backend="eager"), args), wanted) < 1e-5
    again = copy.deepcopy(small)
    assert list(again.state_dict()) == list(small.state_dict())
    again.load_state_dict(small.state_dict(), strict=True)
    assert far(run(again, args), wanted) == 0
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file), strict=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_graphs_export_to_onnx() -> None:
    _, args, graph, groups = opened("mobilenet_v2")
    small = rewritten(graph, random_plan(groups), groups, form="graph module").module
    assert far([torch.from_numpy(y) for y in exported(small, args)], run(small, args)) < 1e-5


def exported(module: nn.Module, args: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    file = io.BytesIO()
    torch.onnx.export(module, args, file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)})


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
        y = torch.relu(self.a(x)) * scale
        return self.b(y if shift is None else y + shift.sum())


def test_other_arguments_than_the_captured_ones_are_an_error() -> None:
    x = torch.randn(2, 5)
    graph = trace(Optional(), {"x": x, "shift": None, "scale": 2.0})
    groups = couple(graph)
    small = rewritten(graph, random_plan(groups), groups, form="graph module").module
    small(x=x, shift=None, scale=2.0)
    with pytest.raises(UsageError, match="captured with None"):
        small(x=x, shift=torch.ones(3), scale=2.0)
    with pytest.raises(UsageError, match=r"captured with 2\.0"):
        small(x=x, shift=None, scale=3.0)


def test_an_emptied_group_is_refused() -> None:
    _, _, graph, groups = opened("mlp")
    plan = random_plan(groups)
    empty = Plan({**plan.keep, groups.groups[0].id: ()}, plan.sizes, plan.fingerprint)
    with pytest.raises(PlanError, match="keep at least one"):
        rewrite_graph(graph, empty, groups)


def test_dynamic_shapes_stay_dynamic() -> None:
    torch.manual_seed(0)
    module, _, _, _ = opened("vit_fused")
    graph = trace(module, torch.randn(2, 3, 16, 16), dynamic_shapes=({0: torch.export.Dim("batch")},))
    groups = couple(graph)
    plan = random_plan(groups)
    small = rewrite_graph(graph, plan, groups)
    x = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        wanted = tensors(Masks(graph, groups, kept_by(groups, plan)).run([x]))
    assert far(run(small, (x,)), wanted) < 1e-5
