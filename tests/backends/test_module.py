"""The user's own class back: sliced parameters, mended attributes, everything else as it was."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch_models import ARCHITECTURES
from torch_pruning import far, opened, random_plan, run, tensors, with_zeros

from graphprune.backends.fx.cuts import cuts_of
from graphprune.backends.fx.rewrite import mend
from graphprune.backends.fx.same import captures_as
from graphprune.backends.module.rewrite import rewrite_module, rewritten
from graphprune.coupling import couple
from graphprune.frontends.fx.trace import trace
from graphprune.layout import kept_by
from graphprune.plan import Plan
from graphprune.verification.verify_torch import matches, reference_of

AS_GRAPHS = {"yolo": "graph module"}
"""C2f is given as the whole model here, and chunks what is then uneven: no attribute says that."""
WITH_INNER_GRAPHS = {"vit", "vit_fused", "bert", "llama", "tied_embeddings", "swin", "shufflenet"}
"""Architectures with modules that cannot say their new sizes; the classes around them stay."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_comes_back_as_its_class(name: str) -> None:
    module, args, graph, groups = opened(name)
    plan = random_plan(groups, 3)
    reference = reference_of(graph, groups, plan)
    done = rewritten(graph, plan, groups, reference=reference)
    assert done.form == AS_GRAPHS.get(name, "module class"), done.reason
    assert (type(done.module) is type(module)) == (name not in AS_GRAPHS)
    assert matches(done.module, reference) == ""
    assert not done.graphs or name in WITH_INNER_GRAPHS
    assert bool(done.reason) == (bool(done.graphs) or name in AS_GRAPHS)
    shrunk = dict(done.module.named_parameters())
    assert sum(p.numel() for p in shrunk.values()) < sum(p.numel() for p in module.parameters())
    assert set(shrunk) == set(dict(module.named_parameters()))
    graph_form = rewritten(graph, plan, groups, form="graph module").module
    assert far(run(done.module, args), run(graph_form, args)) < 1e-6


@pytest.mark.parametrize("name", ["resnet_basic", "densenet", "mobilenet_v2", "unet", "mlp"])
def test_the_class_equals_the_original_with_zeroed_weights(name: str) -> None:
    module, args, graph, groups = opened(name)
    for seed in range(3):
        plan = random_plan(groups, seed)
        wanted = run(with_zeros(module, graph, groups, plan), args)
        assert far(run(rewrite_module(graph, plan, groups), args), wanted) < 1e-5


@pytest.mark.parametrize("name", ["resnet_basic", "bert"])
def test_the_original_is_not_touched(name: str) -> None:
    module, args, graph, groups = opened(name)
    state = {n: (id(t), t.clone()) for n, t in module.state_dict(keep_vars=True).items()}
    attributes = {n: {k: repr(v) for k, v in vars(m).items()} for n, m in module.named_modules()}
    module.train()
    before = run(copy.deepcopy(module).eval(), args)
    rewritten(graph, random_plan(groups), groups)
    assert module.training
    module.eval()
    for n, t in module.state_dict(keep_vars=True).items():
        assert id(t) == state[n][0]
        assert torch.equal(t, state[n][1])
    assert {n: {k: repr(v) for k, v in vars(m).items()} for n, m in module.named_modules()} == attributes
    assert far(run(module, args), before) == 0


class Attributes(nn.Module):
    """Every layer of torch's whose attributes say sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.mix = nn.Linear(8, 12)
        self.norm = nn.BatchNorm1d(12)
        self.slope = nn.PReLU(12)
        self.grouped = nn.Conv1d(12, 24, 1, groups=4)
        self.group_norm = nn.GroupNorm(4, 24)
        self.up = nn.ConvTranspose1d(24, 10, 2, 2)
        self.instance_norm = nn.InstanceNorm1d(10)
        self.out = nn.Conv1d(10, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.slope(self.norm(self.mix(self.embed(x)).transpose(1, 2)))
        return self.out(self.instance_norm(self.up(self.group_norm(self.grouped(x)))))


def test_attributes_fit_the_tensors() -> None:
    torch.manual_seed(0)
    module, x = Attributes().eval(), torch.randint(0, 11, (2, 5))
    graph = trace(module, x)
    groups = couple(graph)
    done = rewritten(graph, random_plan(groups, 1), groups)
    small = done.module
    assert isinstance(small, Attributes), done.reason
    assert small.embed.weight.shape == (small.embed.num_embeddings, small.embed.embedding_dim)
    assert small.mix.weight.shape == (small.mix.out_features, small.mix.in_features)
    assert small.norm.num_features == small.slope.num_parameters == small.mix.out_features == small.grouped.in_channels
    assert small.grouped.weight.shape[1] * small.grouped.groups == small.grouped.in_channels
    assert small.group_norm.num_groups == small.grouped.groups
    assert small.group_norm.num_channels == small.grouped.out_channels == small.up.in_channels
    assert small.up.weight.shape[:2] == (small.up.in_channels, small.up.out_channels)
    assert small.instance_norm.num_features == small.up.out_channels == small.out.in_channels
    assert small.out.out_channels == 3
    widths = {small.mix.out_features, small.up.out_channels, small.embed.embedding_dim}
    assert widths != {12, 10, 8}


class Config:
    def __init__(self, heads: int, depth: int) -> None:
        self.heads, self.depth = heads, depth


class ConfiguredAttention(nn.Module):
    """Sizes in attributes: of the module, in a tuple, in a config that all layers share."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.split = config, (config.heads, config.depth)
        self.q, self.k, self.v = (nn.Linear(16, 32) for _ in range(3))
        self.scale = config.depth**-0.5
        self.out = nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k = (p(x).unflatten(-1, self.split).transpose(1, 2) for p in (self.q, self.k))
        v = self.v(x).view(b, n, self.config.heads, self.config.depth).transpose(1, 2)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2))


def test_attributes_of_the_users_classes_are_found_by_running_them() -> None:
    torch.manual_seed(0)
    config = Config(4, 8)
    module, x = nn.Sequential(ConfiguredAttention(config), ConfiguredAttention(config)).eval(), torch.randn(2, 5, 16)
    graph = trace(module, x)
    groups = couple(graph)
    heads = [g for g in groups.groups if g.kind == "head"]
    assert len(heads) == 2
    keep = {g.id: tuple(range(g.size)) for g in groups.groups} | {heads[0].id: (0, 3), heads[1].id: (1,)}
    plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    done = rewritten(graph, plan, groups)
    assert done.form == "module class"
    assert not done.graphs
    first, second = done.module
    assert (first.split, first.config.heads) == ((2, 8), 2)
    assert (second.split, second.config.heads) == ((1, 8), 1)
    assert (config.heads, module[0].config) == (4, config)
    assert first.scale == 8**-0.5
    assert matches(done.module, reference_of(graph, groups, plan)) == ""


class Hooked(nn.Module):
    """What a copy must not lose: ties, flags, hooks, plain attributes, buffers that are not saved, kinds of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mlp, self.head = nn.Embedding(9, 6), nn.Linear(6, 20), nn.Linear(20, 6)
        self.out = nn.Linear(6, 9, bias=False)
        self.out.weight = self.embed.weight
        self.mlp.bias.requires_grad_(False)
        self.mlp.weight.decay = False
        self.held = [self.mlp.weight]
        self.gain = torch.linspace(0.5, 1.5, 20)
        self.register_buffer("shift", torch.linspace(-1, 1, 20), persistent=False)
        self.calls: list[int] = []
        self.mlp.register_forward_hook(lambda _m, _i, y: y * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.head(torch.tanh(self.mlp(self.embed(x)) * self.gain + self.shift)))


def test_a_copy_loses_nothing() -> None:
    torch.manual_seed(0)
    module, x = Hooked().eval(), torch.randint(0, 9, (2, 4))
    graph = trace(module, x)
    groups = couple(graph)
    done = rewritten(graph, random_plan(groups, 1), groups)
    small = done.module
    assert isinstance(small, Hooked), done.reason
    assert small.out.weight is small.embed.weight
    assert small.mlp.bias.requires_grad is False
    assert small.mlp.weight.requires_grad
    assert small.mlp.weight.decay is False
    assert small.held[0] is small.mlp.weight
    assert len(small.mlp._forward_hooks) == 1
    assert small.gain.shape == small.shift.shape == (small.mlp.out_features,) != (20,)
    assert list(small.state_dict()) == list(module.state_dict())
    assert all(p.grad is None for p in small.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_types_survive(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).to(dtype).eval()
    x = torch.randn(4, 6, dtype=dtype)
    graph = trace(module, x)
    groups = couple(graph)
    plan = random_plan(groups)
    done = rewritten(graph, plan, groups)
    assert done.form == "module class"
    assert {p.dtype for p in done.module.parameters()} == {dtype}
    exact = with_zeros(module, graph, groups, plan).double()
    with torch.no_grad():
        assert far([done.module(x).double()], [exact(x.double())]) < 0.03


@pytest.mark.parametrize("name", ["resnet_basic", "mobilenet_v2", "vit", "llama"])
def test_the_class_trains(name: str) -> None:
    _, args, graph, groups = opened(name)
    small = rewrite_module(graph, random_plan(groups), groups).train()
    torch.manual_seed(0)
    start = {n: p.clone() for n, p in small.named_parameters()}
    statistics = {n: b.clone() for n, b in small.named_buffers() if "running" in n}
    optimizer = torch.optim.SGD(small.parameters(), 0.02)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = sum(F.mse_loss(y, torch.zeros_like(y)) for y in tensors(small(*args)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < losses[0]
    assert all(p.grad is not None for p in small.parameters())
    assert any(not torch.equal(p, start[n]) for n, p in small.named_parameters())
    assert all(not torch.equal(b, statistics[n]) for n, b in small.named_buffers() if n in statistics)
    again = rewrite_module(graph, random_plan(groups), groups)
    again.load_state_dict(small.state_dict(), strict=True)
    assert far(run(again.eval(), args), run(small.eval(), args)) == 0


@pytest.mark.parametrize("name", ["resnet_basic", "vit"])
def test_the_class_compiles_and_takes_other_batches(name: str) -> None:
    _, args, graph, groups = opened(name)
    small = rewrite_module(graph, random_plan(groups), groups)
    wanted = run(small, args)
    torch._dynamo.reset()
    assert far(run(torch.compile(small, backend="aot_eager"), args), wanted) < 1e-5
    many = run(small, tuple(torch.cat([a, a, a]) for a in args))
    for a, b in zip(wanted, many, strict=True):
        torch.testing.assert_close(b[len(a) : 2 * len(a)], a)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ["densenet", "vit"])
def test_the_class_exports_to_onnx(name: str) -> None:
    import onnxruntime

    _, args, graph, groups = opened(name)
    small = rewrite_module(graph, random_plan(groups), groups)
    file = io.BytesIO()
    torch.onnx.export(small, args, file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    feeds = {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)}
    assert far([torch.from_numpy(y) for y in session.run(None, feeds)], run(small, args)) < 1e-5


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        self.cache = (self.a.weight * 2,)  # not a leaf: deepcopy refuses

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


def test_what_cannot_be_copied_comes_back_as_a_graph() -> None:
    module, x = Uncopyable().eval(), torch.randn(3, 4)
    graph = trace(module, x)
    groups = couple(graph)
    plan = random_plan(groups)
    done = rewritten(graph, plan, groups)
    assert done.form == "graph module"
    assert "cannot be copied" in done.reason
    assert matches(done.module, reference_of(graph, groups, plan)) == ""


class QuietScale(nn.Module):
    """An attention whose scale follows the depth by itself; at even attention nobody would notice."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        with torch.no_grad():
            self.q.weight.mul_(1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (p(x).unflatten(-1, (2, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_a_scale_that_would_change_is_noticed_however_quiet() -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(QuietScale(), nn.Linear(16, 3)).eval(), torch.randn(2, 5, 16)
    graph = trace(module, x)
    groups = couple(graph)
    depths = [g for g in groups.groups if {m.tensor.split(".")[1] for m in g.members if "." in m.tensor} >= {"q", "k"}]
    keep = {g.id: tuple(range(g.size)) for g in groups.groups}
    depth = next(g for g in depths if g.kind == "head-dim")
    keep[depth.id] = tuple(range(depth.size // 2))
    plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    done = rewritten(graph, plan, groups)
    assert done.graphs == ("0",)
    scales = [n.kwargs.get("scale") for n in done.module[0].graph.nodes if "scaled_dot" in str(n.target)]
    assert scales == pytest.approx([8**-0.5])


@pytest.mark.parametrize("name", ["resnet_basic", "resnext", "densenet", "vit", "llama"])
def test_a_capture_tells_a_right_module_from_a_wrong_one(name: str) -> None:
    module, _, graph, groups = opened(name)
    plan = random_plan(groups, 1)
    kept = kept_by(groups, plan)
    cuts = cuts_of(graph, groups, kept)
    mended = mend(graph, groups, kept, cuts)
    small = rewrite_module(graph, plan, groups)
    assert captures_as(small, graph.source, mended, cuts)
    assert not captures_as(module, graph.source, mended, cuts)
    layer = next(m for m in small.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    layer.register_forward_hook(lambda _m, _i, y: y + 0)
    assert not captures_as(small, graph.source, mended, cuts)


class Chunks(nn.Module):
    """Halves that pruning leaves uneven, and one activation that every layer of the model shares."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.wide, self.inner, self.join, self.act = (
            nn.Conv2d(8, 12, 1),
            nn.Conv2d(6, 6, 3, 1, 1),
            nn.Conv2d(18, 8, 1),
            act,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.act(self.wide(x)).chunk(2, 1)
        return self.join(torch.cat([a, b, self.act(self.inner(b))], 1))


def test_a_child_with_a_shared_layer_becomes_a_graph_within_the_class() -> None:
    torch.manual_seed(0)
    act = nn.SiLU()
    module = nn.Sequential(nn.Conv2d(3, 8, 3), act, Chunks(act), act, nn.Conv2d(8, 4, 1)).eval()
    graph = trace(module, torch.randn(2, 3, 9, 9))
    groups = couple(graph)
    keep = {g.id: tuple(range(k, 2 * k + 2)) for k, g in enumerate(g for g in groups.groups if g.size == 6)}
    assert len(keep) == 3, "two halves and what comes of the second"
    keep = {g.id: keep.get(g.id, tuple(range(g.size)))[: g.size] for g in groups.groups}
    plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    done = rewritten(graph, plan, groups)
    assert (done.form, done.graphs) == ("module class", ("2",))
    assert matches(done.module, reference_of(graph, groups, plan)) == ""
    x = torch.randn(5, 3, 9, 9)
    assert far(run(done.module, (x,)), run(with_zeros(module, graph, groups, plan), (x,))) < 1e-5
