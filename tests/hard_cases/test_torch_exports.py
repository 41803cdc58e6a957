"""The same hard cases as both of torch's exporters write them."""

from __future__ import annotations

import io
import warnings
from functools import cache

import onnx
import pytest
import torch
from checks import Coupled, check_equivalence
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

EXPORTERS = ["torchscript", "dynamo"]


class Convolutional(nn.Module):
    """Split, grouped branch, gate, shuffle, residual; flattened and pooled classifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.branch = nn.Sequential(
            nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12), nn.Hardswish(), nn.Conv2d(12, 8, 3, padding=1, groups=4)
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid()
        )
        self.down = nn.Conv2d(16, 6, 3, stride=2, padding=1)
        self.flat = nn.Linear(6 * 16, 5)
        self.pooled = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = x.chunk(2, dim=1)
        y = torch.cat([a, self.branch(b)], dim=1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = torch.relu(self.down(y * self.gate(y)))
        return self.flat(y.flatten(1)) + self.pooled(y.mean((2, 3)))


class Tokens(nn.Module):
    """Grouped queries with rotary halves through scaled_dot_product_attention, then a fused projection, then a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 4 * 6), nn.Linear(8, 2 * 6), nn.Linear(8, 2 * 6)
        self.o = nn.Linear(4 * 6, 8)
        self.qkv, self.proj = nn.Linear(8, 3 * 2 * 5), nn.Linear(2 * 5, 8)
        self.up, self.down = nn.Linear(8, 2 * 11), nn.Linear(11, 8)
        self.register_buffer("angle", torch.arange(7)[:, None] * 0.3 ** torch.arange(3).repeat(2))

    def rotated(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return x * self.angle.cos() + torch.cat([-b, a], dim=-1) * self.angle.sin()

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q = self.rotated(self.q(x).view(n, t, 4, 6).transpose(1, 2))
        k = self.rotated(self.k(x).view(n, t, 2, 6).transpose(1, 2)).repeat_interleave(2, dim=1)
        v = self.v(x).view(n, t, 2, 6).transpose(1, 2).repeat_interleave(2, dim=1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, -1))
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, 5).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1)) * 5**-0.5).softmax(-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, -1))
        a, b = self.up(x).chunk(2, dim=-1)
        return x + self.down(F.silu(a) * b)


class Decoder(nn.Module):
    """GroupNorm, a skip connection resized to, a pixel shuffle, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(3, 12)
        self.low = nn.Conv2d(12, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.mix = nn.Conv2d(12 + 8 + 6, 20, 1)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.silu(self.norm(self.stem(x)))
        low = F.gelu(self.low(skip))
        wide = F.interpolate(low, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.head(F.pixel_shuffle(self.mix(torch.cat([skip, wide, self.up(low)], 1)), 2))


MODULES: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "convolutional": (Convolutional, (2, 3, 8, 8)), "tokens": (Tokens, (2, 7, 8)), "decoder": (Decoder, (2, 3, 8, 8)),
}  # fmt: skip


@cache
def exported(name: str, exporter: str) -> onnx.ModelProto:
    """A freshly initialised module with a dynamic batch; its vectors are moved off zero and one."""
    torch.manual_seed(0)
    kind, shape = MODULES[name]
    module = kind().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            torch.onnx.export(
                module,
                (torch.randn(shape),),
                file,
                dynamo=False,
                opset_version=17,
                input_names=["x"],
                dynamic_axes={"x": {0: "n"}},
            )
            return onnx.load_from_string(file.getvalue())
        program = torch.onnx.export(
            module,
            (torch.randn(shape),),
            dynamo=True,
            input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
        assert program is not None
        return program.model_proto


def checked(name: str, exporter: str) -> Coupled:
    shape = MODULES[name][1]
    return check_equivalence(exported(name, exporter), others=[{"x": (3, *shape[1:])}], tolerance=2e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_convolutional_network(exporter: str) -> None:
    case = checked("convolutional", exporter)
    assert len(case.groups_of("flat.weight", 1)) == 1
    assert case.groups_of("flat.weight", 1) == case.groups_of("pooled.weight", 1) == case.groups_of("down.weight", 0)
    assert case.groups_of("gate.1.weight", 0) == case.groups_of("gate.3.weight", 1)
    assert case.groups_of("stem.weight", 0) & case.groups_of("down.weight", 1)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_attention_over_tokens(exporter: str) -> None:
    case = checked("tokens", exporter)
    sizes = sorted(g.size for g in case.groups.values())
    # rotary pairs, depths of the values, heads (and repeats) of both, the fused depth, the gate's hidden width
    assert {3, 6, 2, 5, 11} <= set(sizes), sizes


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_decoder(exporter: str) -> None:
    case = checked("decoder", exporter)
    assert sorted(g.size for g in case.groups.values()) == [3, 5, 6, 8]
    assert case.size_of("head.weight", 1) == 5
    assert case.size_of("stem.weight", 0) == 3, "whole groups of the normalisation"
