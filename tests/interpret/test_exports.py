"""Whole networks as both of torch's exporters write them: at the size they were exported at, and at others."""

from __future__ import annotations

import io
import os
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import TOLERANCE, assert_same, difference, grads, reference
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from graphprune.errors import GraphpruneError
from graphprune.frontends.files.load import load
from graphprune.interpret import from_torch, run, to_torch

FOLDER = "GRAPHPRUNE_EXPORTS"
"""Environment variable: a folder of NAME.onnx with NAME.io.npz beside it (in_*, out_* in order) for the slow test."""


class Picture(nn.Module):
    """Batch norm, an uneven pool, squeeze and excitation, a skip that is resized to fit, a channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid()
        )
        self.grouped, self.up = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ConvTranspose2d(8, 8, 2, 2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.stem(x)))
        y = F.max_pool2d(x, 3, 2, 1)
        n, c, h, w = y.shape
        y = self.grouped(y).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = F.interpolate(self.up(y), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.head((x + y * self.gate(y)).mean((2, 3)))


class Words(nn.Module):
    """Embeddings, causal attention at any length, layer norm, GELU, a tied output projection."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(40, 16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        n, t = tokens.shape
        x = self.words(tokens) + self.places(torch.arange(t, device=tokens.device))
        q, k, v = (p.view(n, t, 4, 4).transpose(1, 2) for p in self.qkv(self.norm(x)).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, 16))
        return (x + self.down(F.gelu(self.up(x)))) @ self.words.weight.T


class Sound(nn.Module):
    """A recurrent layer in both directions over convolved frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(3, 6, 5, 2), nn.GRU(6, 7, batch_first=True, bidirectional=True)
        self.head = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(F.relu(self.conv(x)).transpose(1, 2))
        return F.log_softmax(self.head(y), -1)


NETS: dict[str, tuple[type[nn.Module], dict[int, str], list[tuple[int, ...]]]] = {
    "picture": (Picture, {0: "n", 2: "h", 3: "w"}, [(2, 3, 16, 20), (1, 3, 16, 20), (3, 3, 23, 33)]),
    "words": (Words, {0: "n", 1: "t"}, [(2, 9), (1, 9), (3, 17)]),
    "sound": (Sound, {0: "n", 2: "t"}, [(2, 3, 21), (1, 3, 21), (2, 3, 40)]),
}


def sample(shape: tuple[int, ...]) -> Tensor:
    torch.manual_seed(sum(shape))
    return torch.randn(shape) if len(shape) > 2 else torch.randint(0, 20, shape)


@cache
def exported(name: str, exporter: str, *, training: bool = False) -> onnx.ModelProto:
    kind, axes, shapes = NETS[name]
    torch.manual_seed(0)
    module = kind().eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
            torch.onnx.export(
                module, (sample(shapes[0]),), buffer, dynamo=False, opset_version=17, input_names=["x"],
                dynamic_axes={"x": axes}, do_constant_folding=not training, training=mode,
            )  # fmt: skip
            return onnx.load_from_string(buffer.getvalue())
        dims = {a: torch.export.Dim(n) for a, n in axes.items()}
        program = torch.onnx.export(
            module, (sample(shapes[0]),), dynamo=True, opset_version=18, input_names=["x"], dynamic_shapes=(dims,),
            verbose=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


PAIRS = [
    *((name, "torchscript") for name in NETS),
    ("words", "dynamo"),
    pytest.param("picture", "dynamo", marks=pytest.mark.slow),  # exporting alone takes ten seconds
]  # the dynamo exporter cannot follow the recurrent layer of "sound" over a dynamic time axis


@pytest.mark.parametrize(("name", "exporter"), PAIRS)
def test_at_every_size(name: str, exporter: str) -> None:
    model, module = exported(name, exporter), None
    for shape in NETS[name][2]:
        module = assert_same(model, {"x": sample(shape).numpy()}, module=module)
    made = grads(module, {"x": sample(NETS[name][2][0]).numpy()})
    assert all(g is not None and torch.isfinite(g).all() for g in made.values())
    original = sum(p.numel() for p in NETS[name][0]().parameters())
    assert sum(p.numel() for p in module.parameters()) >= 0.9 * original  # equal tensors are stored once


def test_training_is_the_same_as_of_the_original() -> None:
    """One step of the copy is one step of the module it was exported from, batch norm included."""
    torch.manual_seed(0)
    original = Picture().train()
    module = to_torch(exported("picture", "torchscript", training=True)).train()
    before = {n: b.clone() for n, b in module.named_buffers()}  # exporting has moved them
    x = sample((4, 3, 16, 20))
    loss = [m(x)[0] if k else m(x) for k, m in enumerate((original, module))]
    assert torch.allclose(loss[0], loss[1], atol=1e-5)
    for y in loss:
        y.square().sum().backward()
    ours = dict(module.named_parameters())
    shared = [n for n, _ in original.named_parameters() if n in ours]
    assert len(shared) == len(list(original.named_parameters()))
    for name in shared:
        assert torch.allclose(ours[name].grad, original.get_parameter(name).grad, atol=1e-4, rtol=1e-3), name
    mean, var = (module.get_buffer(f"norm.running_{s}") - 0.9 * before[f"norm.running_{s}"] for s in ("mean", "var"))
    n = x.shape[0] * 8 * 10  # torch divides the batch's variance by n - 1, ONNX by n
    assert torch.allclose(mean, original.norm.running_mean, atol=1e-6)
    assert torch.allclose(var * n / (n - 1), original.norm.running_var - 0.9, atol=1e-5)


def folder(tmp_path: Path) -> Path:
    """The folder that the environment names; without one, a folder of the networks above."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    for name, (_, _, shapes) in NETS.items():
        model, x = exported(name, "torchscript"), sample(shapes[0]).numpy()
        onnx.save(model, tmp_path / f"{name}.onnx")
        outputs = {f"out_{k}": y for k, y in enumerate(reference(model, {"x": x}).values())}
        np.savez(tmp_path / f"{name}.io.npz", in_x=x, **outputs)
    return tmp_path


def check_file(path: Path) -> None:
    """Outputs as onnxruntime gave them, gradients that are finite, and back to the same file."""
    known = np.load(path.with_suffix(".io.npz"))
    module = to_torch(path).eval()
    assert from_torch(module, path).SerializeToString() == load(path).model.SerializeToString(), path.name
    values = [known[k] for k in known.files if k.startswith("in_")]
    made = list(run(module, dict(zip(module.onnx_inputs.values(), values, strict=True))).values())
    expected = [known[k] for k in known.files if k.startswith("out_")]
    worst = max(difference(y.detach().numpy(), z) for y, z in zip(made, expected, strict=True))
    assert worst <= TOLERANCE, (path.name, worst)
    losses = [y.double().square().mean() for y in made if y.requires_grad]
    if losses:
        sum(losses).backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in module.parameters()), path.name


@pytest.mark.slow
def test_a_folder_of_exports(tmp_path: Path) -> None:
    """At least 95 of 100 files; those that fail are named."""
    paths = [p for p in sorted(folder(tmp_path).glob("*.onnx")) if p.with_suffix(".io.npz").exists()]
    assert paths
    failed = []
    for path in paths:
        try:
            check_file(path)
        except (AssertionError, GraphpruneError, RuntimeError, TypeError, ValueError) as error:
            failed.append(f"{path.stem}: {error}")
    assert len(failed) <= 0.05 * len(paths), "\n".join(failed)
