"""Small torch modules of well-known architectures, on which the torch front end and back end are tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def conv_bn(
    i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o), act(inplace=True)
    )


# Residual networks ----------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    def __init__(self, i: int, width: int, o: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.reduce, self.mid = conv_bn(i, width, 1), conv_bn(width, width, 3, stride, groups)
        self.expand = nn.Sequential(nn.Conv2d(width, o, 1, bias=False), nn.BatchNorm2d(o))
        self.shortcut = nn.Identity() if i == o else nn.Conv2d(i, o, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.expand(self.mid(self.reduce(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, residual blocks of either kind, global pooling and a classifier."""

    def __init__(self, blocks: list[nn.Module], width: int, out: int) -> None:
        super().__init__()
        self.stem, self.pool = conv_bn(3, width), nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(*blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(out, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.pool(self.stem(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet_basic() -> nn.Module:
    return ResNet([BasicBlock(8, 8), BasicBlock(8, 12, 2), BasicBlock(12, 12)], 8, 12)


def resnet_bottleneck() -> nn.Module:
    return ResNet([Bottleneck(8, 6, 16), Bottleneck(16, 6, 16), Bottleneck(16, 10, 24, 2)], 8, 24)


def resnext() -> nn.Module:
    return ResNet([Bottleneck(8, 12, 16, groups=4), Bottleneck(16, 12, 16, groups=4)], 8, 16)


class RegNetBlock(nn.Module):
    """A grouped convolution with squeeze and excitation in the middle of a bottleneck."""

    def __init__(self, width: int, group_width: int) -> None:
        super().__init__()
        self.a, self.b = conv_bn(width, width, 1), conv_bn(width, width, 3, 1, width // group_width)
        self.se = SqueezeExcite(width, 5, nn.Sigmoid())
        self.c = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.c(self.se(self.b(self.a(x)))))


def regnet() -> nn.Module:
    return ResNet([RegNetBlock(12, 4), RegNetBlock(12, 6)], 12, 12)


# Mobile networks ------------------------------------------------------------------------------------------------------


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, hidden: int, gate: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2, self.gate = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(F.silu(self.fc1(self.pool(x)))))


class InvertedResidual(nn.Module):
    def __init__(
        self, i: int, hidden: int, o: int, act: type[nn.Module] = nn.ReLU6, se: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.expand, self.depthwise = conv_bn(i, hidden, 1, act=act), conv_bn(hidden, hidden, 3, 1, hidden, act=act)
        self.se = se if se is not None else nn.Identity()
        self.project = nn.Sequential(nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o))
        self.residual = i == o

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    def __init__(self, blocks: list[nn.Module], width: int) -> None:
        super().__init__()
        self.stem, self.blocks = conv_bn(3, 6, stride=2, act=nn.Hardswish), nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean([2, 3]))


def mobilenet_v2() -> nn.Module:
    return MobileNet([InvertedResidual(6, 12, 8), InvertedResidual(8, 16, 8), InvertedResidual(8, 16, 10)], 10)


def efficientnet() -> nn.Module:
    first = InvertedResidual(6, 12, 8, nn.SiLU, SqueezeExcite(12, 3, nn.Hardsigmoid()))
    second = InvertedResidual(8, 16, 8, nn.SiLU, SqueezeExcite(16, 4, nn.Sigmoid()))
    return MobileNet([first, second], 8)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2: half of the channels go through a branch, then both halves are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            conv_bn(half, half, 1),
            nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half),
            conv_bn(half, half, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.units = conv_bn(3, 12), nn.Sequential(ShuffleUnit(12), ShuffleUnit(12))
        self.last, self.fc = conv_bn(12, 10, 1), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(self.units(self.stem(x))).mean((2, 3)))


# Concatenation --------------------------------------------------------------------------------------------------------


class DenseLayer(nn.Module):
    def __init__(self, i: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseNet(nn.Module):
    def __init__(self, growth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.layers = nn.ModuleList(DenseLayer(8 + k * growth, growth) for k in range(3))
        total = 8 + 3 * growth
        self.transition = nn.Sequential(nn.BatchNorm2d(total), nn.ReLU(), nn.Conv2d(total, 10, 1), nn.AvgPool2d(2))
        self.norm, self.fc = nn.BatchNorm2d(10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(features))
        x = F.relu(self.norm(self.transition(torch.cat(features, 1))))
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a = conv_bn(3, 10), conv_bn(10, 4, 1)
        self.b, self.c = (
            nn.Sequential(conv_bn(10, 5, 1), conv_bn(5, 6)),
            nn.Sequential(conv_bn(10, 3, 1), conv_bn(3, 4, 5)),
        )
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_bn(10, 4, 1))
        self.head = nn.Conv2d(18, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)
        return self.head(x).amax((2, 3))


class SqueezeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(12, 5, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(F.relu(self.stem(x))))
        x = torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)
        return torch.flatten(self.classifier(x), 1)


class UNet(nn.Module):
    """Skips that are concatenated, one level up by a transposed convolution, one by resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2, self.mid = conv_bn(3, 6), conv_bn(6, 8), conv_bn(8, 12)
        self.up2, self.dec2 = nn.ConvTranspose2d(12, 8, 2, 2), conv_bn(16, 8)
        self.dec1, self.head = conv_bn(14, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        y = self.dec2(torch.cat([self.up2(self.mid(F.max_pool2d(e2, 2))), e2], 1))
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return self.head(self.dec1(torch.cat([y, e1], 1)))


class C2f(nn.Module):
    """YOLO: split in two, every block's result is concatenated too; a head of two branches, flattened and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cv1 = conv_bn(3, 8, act=nn.SiLU), conv_bn(8, 12, 1, act=nn.SiLU)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_bn(6, 6, act=nn.SiLU), conv_bn(6, 6, act=nn.SiLU)) for _ in range(2)
        )
        self.cv2, self.down = conv_bn(24, 10, 1, act=nn.SiLU), conv_bn(10, 10, 3, 2, act=nn.SiLU)
        self.box = nn.ModuleList(nn.Sequential(conv_bn(10, 7), nn.Conv2d(7, 4, 1)) for _ in range(2))
        self.cls = nn.ModuleList(nn.Sequential(conv_bn(10, 6), nn.Conv2d(6, 3, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(self.stem(x)).split((6, 6), 1))
        for block in self.blocks:
            y.append(y[-1] + block(y[-1]))
        fine = self.cv2(torch.cat(y, 1))
        levels = [
            torch.cat((b(z), c(z)), 1) for z, b, c in zip((fine, self.down(fine)), self.box, self.cls, strict=True)
        ]
        joined = torch.cat([z.view(z.shape[0], 7, -1) for z in levels], 2)
        box, scores = joined.split((4, 3), 1)
        return torch.cat((box, scores.sigmoid()), 1)


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(True),
            nn.MaxPool2d(2), nn.AdaptiveAvgPool2d((2, 2)),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(32, 12), nn.ReLU(True), nn.Dropout(), nn.Linear(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class SuperResolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.up = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8)), nn.Conv2d(8, 24, 3, padding=1)
        self.shuffle, self.last = nn.PixelShuffle(2), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.last(F.leaky_relu(self.shuffle(self.up(self.body(x))), 0.1)) + wide


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm and linear layers on channels last, layer scale, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(channels, channels, 7, padding=3, groups=channels), nn.LayerNorm(channels)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 6, 4, 4), nn.Sequential(ConvNeXtBlock(6), ConvNeXtBlock(6))
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean([-2, -1])))


# Linear layers and tokens ---------------------------------------------------------------------------------------------


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4), nn.Softmax(1)
    )


class Mixer(nn.Module):
    """MLP-Mixer: one block mixes tokens, transposed, the other mixes channels."""

    def __init__(self, tokens: int = 16, width: int = 8) -> None:
        super().__init__()
        self.stem, self.norm1, self.norm2 = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 10), nn.GELU(), nn.Linear(10, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(x.mean(1))


class ViT(nn.Module):
    """A class token, positions, and encoder blocks around torch's own attention layer."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 17, width))
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Dropout(0.1), nn.Linear(20, width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.positions
        y = self.ln1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.ln2(x))
        return self.head(self.ln3(x)[:, 0])


class FusedAttention(nn.Module):
    """Queries, keys and values from one projection, reshaped, permuted and unbound."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class FusedViT(nn.Module):
    def __init__(self, width: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.attention, self.head = FusedAttention(width, heads), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head((x + self.attention(self.norm(x))).mean(1))


class BertLayer(nn.Module):
    """Separate projections, scores and softmax spelled out, an additive mask, layer norms behind the residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.norm1, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 20), nn.Linear(20, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / (q.shape[-1] ** 0.5) + mask
        context = torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).contiguous()
        x = self.norm1(x + self.out(context.view(*context.shape[:2], -1)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(30, width), nn.Embedding(16, width)
        self.norm, self.layers = nn.LayerNorm(width), nn.ModuleList(BertLayer(width, 3) for _ in range(2))
        self.pooler, self.classifier = nn.Linear(width, 10), nn.Linear(10, 3)
        self.register_buffer("position_ids", torch.arange(16)[None], persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        n = input_ids.shape[1]
        x = self.norm(self.words(input_ids) + self.positions(self.position_ids[:, :n]))
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class LlamaLayer(nn.Module):
    """Grouped queries, rotary halves, a causal mask, and a gated feed-forward."""

    def __init__(self, width: int, heads: int, pairs: int, depth: int) -> None:
        super().__init__()
        self.heads, self.pairs, self.depth = heads, pairs, depth
        self.q_proj, self.o_proj = (
            nn.Linear(width, heads * depth, bias=False),
            nn.Linear(heads * depth, width, bias=False),
        )
        self.k_proj, self.v_proj = (nn.Linear(width, pairs * depth, bias=False) for _ in range(2))
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.gate, self.up, self.down = (
            nn.Linear(width, 14, bias=False), nn.Linear(width, 14, bias=False), nn.Linear(14, width, bias=False)
        )  # fmt: skip

    @staticmethod
    def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin

    def repeat(self, x: Tensor) -> Tensor:
        b, g, t, d = x.shape
        return x[:, :, None].expand(b, g, self.heads // g, t, d).reshape(b, self.heads, t, d)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        b, t, _ = x.shape
        y = self.norm1(x)
        q = self.rotate(self.q_proj(y).view(b, t, self.heads, self.depth).transpose(1, 2), cos, sin)
        k = self.rotate(self.k_proj(y).view(b, t, self.pairs, self.depth).transpose(1, 2), cos, sin)
        v = self.v_proj(y).view(b, t, self.pairs, self.depth).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, self.repeat(k), self.repeat(v), attn_mask=mask)
        x = x + self.o_proj(y.transpose(1, 2).reshape(b, t, -1))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self, width: int = 12, depth: int = 4, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, width), RMSNorm(width)
        self.layers = nn.ModuleList(LlamaLayer(width, 4, 2, depth) for _ in range(2))
        self.lm_head = nn.Linear(width, 20, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight
        angles = torch.outer(torch.arange(16.0), 100.0 ** (-torch.arange(0, depth, 2) / depth)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids: Tensor) -> Tensor:
        t = ids.shape[1]
        mask = torch.full((t, t), float("-inf")).triu(1)
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, self.cos[:t], self.sin[:t], mask)
        return self.lm_head(self.norm(x))


class WindowAttention(nn.Module):
    """Swin: attention inside windows, with a table of relative positions looked up by a stored index."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        spots = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offsets = (spots[:, :, None] - spots[:, None, :]) + window - 1
        self.register_buffer("index", (offsets[0] * (2 * window - 1) + offsets[1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        m = self.window
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        x = x.view(b, h // m, m, w // m, m, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, m * m, c)
        qkv = self.qkv(x).reshape(x.shape[0], m * m, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1)
        bias = self.table[self.index].view(m * m, m * m, -1).permute(2, 0, 1).contiguous()
        y = ((scores + bias[None]).softmax(-1) @ v).transpose(1, 2).reshape(x.shape[0], m * m, c)
        y = self.proj(y).view(b, h // m, w // m, m, m, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2)) if self.shift else y


class Swin(nn.Module):
    """Two window attentions, the second shifted, and patch merging: four slices, concatenated."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patch, self.norm1, self.norm2 = nn.Conv2d(3, width, 2, 2), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention1, self.attention2 = WindowAttention(width, 2, 4, 0), WindowAttention(width, 2, 4, 2)
        self.norm3, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 10, bias=False)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        x = x + self.attention1(self.norm1(x))
        x = x + self.attention2(self.norm2(x))
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.head(self.reduction(self.norm3(torch.cat(parts, -1))).mean((1, 2)))


class Recurrent(nn.Module):
    """A recurrent layer between linear ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Linear(6, 8), nn.LSTM(8, 7, num_layers=2, batch_first=True, bidirectional=True)
        self.hidden, self.head = nn.Linear(14, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(torch.relu(self.embed(x)))
        return self.head(torch.relu(self.hidden(y[:, -1])))


def tied_embeddings() -> nn.Module:
    return Llama(tied=True)


class GroupNormNet(nn.Module):
    """Group norm, a gated linear unit over channels, and a one-dimensional convolution behind a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.wide = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.Conv2d(12, 16, 1)
        self.time, self.head = nn.Conv1d(8, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.wide(F.silu(self.norm(self.stem(x)))), dim=1)
        return self.head(torch.relu(self.time(x.mean(-1))).mean(-1))


# The room -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """How to build a module and what to call it with."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]


def image(side: int = 16, batch: int = 2) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(batch, 3, side, side),)


def numbers(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(*shape),)


def words() -> tuple[Tensor, ...]:
    return torch.randint(0, 20, (2, 7)), torch.ones(2, 7, dtype=torch.int64)


ARCHITECTURES: dict[str, Architecture] = {
    "resnet_basic": Architecture(resnet_basic, image()),
    "resnet_bottleneck": Architecture(resnet_bottleneck, image()),
    "resnext": Architecture(resnext, image()),
    "regnet": Architecture(regnet, image()),
    "densenet": Architecture(DenseNet, image()),
    "mobilenet_v2": Architecture(mobilenet_v2, image()),
    "efficientnet": Architecture(efficientnet, image()),
    "convnext": Architecture(ConvNeXt, image()),
    "inception": Architecture(Inception, image()),
    "shufflenet": Architecture(ShuffleNet, image()),
    "squeezenet": Architecture(SqueezeNet, image()),
    "unet": Architecture(UNet, image()),
    "yolo": Architecture(C2f, image()),
    "vgg": Architecture(VGG, image()),
    "super_resolution": Architecture(SuperResolution, image(8)),
    "group_norm": Architecture(GroupNormNet, image()),
    "mlp": Architecture(mlp, numbers(3, 6)),
    "mixer": Architecture(Mixer, image()),
    "vit": Architecture(ViT, image()),
    "vit_fused": Architecture(FusedViT, image()),
    "bert": Architecture(Bert, words),
    "llama": Architecture(Llama, lambda: words()[:1]),
    "tied_embeddings": Architecture(tied_embeddings, lambda: words()[:1]),
    "swin": Architecture(Swin, image()),
    "lstm": Architecture(Recurrent, numbers(2, 5, 6)),
}
"""Architectures by name; ``made`` builds one with weights off their defaults."""


def made(name: str, seed: int = 0) -> tuple[nn.Module, tuple[Any, ...]]:
    """Build a module in inference mode, every parameter and statistic off its default, and its example inputs."""
    torch.manual_seed(seed)
    module = ARCHITECTURES[name].build().eval()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 2.0)
    return module, ARCHITECTURES[name].inputs()
