"""Networks we wrote ourselves, in the manner of well-known ones; the fast part of the zoo is made of them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def block(a: int, b: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, SiLU."""
    conv = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(b), nn.SiLU())


class AnchorDetector(nn.Module):
    """A backbone with focus slices, two scales, and heads with anchors whose boxes are decoded (as YOLOv5's)."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.per = 5 + classes
        self.first, self.one, self.two = block(12, 16), block(16, 32, stride=2), block(32, 64, stride=2)
        self.lateral, self.merge = block(64, 32, 1), block(64, 32)
        self.heads = nn.ModuleList([nn.Conv2d(n, 3 * self.per, 1) for n in (32, 64)])
        self.register_buffer("anchors", torch.rand(2, 1, 3, 1, 1, 2) * 16 + 4)

    def forward(self, x: Tensor) -> Tensor:
        cut = [x[..., a::2, b::2] for a in (0, 1) for b in (0, 1)]
        one = self.one(self.first(torch.cat(cut, 1)))
        two = self.two(one)
        up = functional.interpolate(self.lateral(two), scale_factor=2.0, mode="nearest")
        scales = (self.merge(torch.cat([up, one], 1)), two)
        found = [self.decode(head(y), k) for k, (head, y) in enumerate(zip(self.heads, scales, strict=True))]
        return torch.cat(found, 1)

    def decode(self, y: Tensor, level: int) -> Tensor:
        """Turn a head's channels into boxes, (batch, 3 * height * width, 5 + classes)."""
        batch, _, height, width = y.shape
        y = y.view(batch, 3, self.per, height, width).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack((columns, rows), 2).view(1, 1, height, width, 2).float()
        at, size, rest = y.split((2, 2, self.per - 4), 4)
        boxes = torch.cat(((at * 2 - 0.5 + grid) * 8, (size * 2) ** 2 * self.anchors[level], rest), 4)
        return boxes.view(batch, 3 * height * width, self.per)


class AttentionUNet(nn.Module):
    """A U-Net whose skips are gated by what comes from below."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(3, 16), block(16, 32, stride=2), block(32, 64, stride=2)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
        self.gate = nn.ModuleList([nn.Conv2d(64, 1, 1), nn.Conv2d(32, 1, 1)])
        self.merge = nn.ModuleList([block(64, 32), block(32, 16)])
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for up, gate, merge, skip in zip(self.up, self.gate, self.merge, skips[-2::-1], strict=True):
            x = up(x)
            x = merge(torch.cat([x, skip * gate(torch.cat([x, skip], 1)).sigmoid()], 1))
        return self.last(x)


class DenseResidual(nn.Module):
    """Super-resolution: densely connected residual blocks, then pixel shuffles (as RRDB and EDSR have them)."""

    def __init__(self, wide: int = 32, grow: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, wide, 3, padding=1)
        self.dense = nn.ModuleList([nn.Conv2d(wide + k * grow, grow, 3, padding=1) for k in range(3)])
        self.merge = nn.Conv2d(wide + 3 * grow, wide, 1)
        self.up = nn.Sequential(nn.Conv2d(wide, 4 * wide, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(wide))
        self.last = nn.Conv2d(wide, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        found = [first]
        for layer in self.dense:
            found.append(functional.leaky_relu(layer(torch.cat(found, 1)), 0.2))
        y = first + 0.2 * self.merge(torch.cat(found, 1))
        return self.last(self.up(y)) + functional.interpolate(x, scale_factor=2.0, mode="bilinear")


class Shuffled(nn.Module):
    """Grouped convolutions with a channel shuffle between them, one half of the channels passed by."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(3, 32, stride=2)
        self.body = nn.ModuleList([nn.Sequential(block(16, 16, 1), block(16, 16, groups=16), block(16, 16, 1))
                                   for _ in range(2)])  # fmt: skip
        self.grouped = nn.Sequential(block(32, 64, groups=4), block(64, 64, groups=8))
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.body:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, layer(right)], 1)
            batch, n, height, width = x.shape
            x = x.view(batch, 2, n // 2, height, width).transpose(1, 2).reshape(batch, n, height, width)
        return self.last(self.grouped(x).mean((2, 3)))


class Captioner(nn.Module):
    """A convolutional encoder, attended to by a decoder of words, tied embeddings."""

    def __init__(self, wide: int = 48, words: int = 200) -> None:
        super().__init__()
        self.encoder = nn.Sequential(block(3, 24, stride=2), block(24, wide, stride=2))
        self.words = nn.Embedding(words, wide)
        self.attend = nn.MultiheadAttention(wide, 4, batch_first=True)
        self.up, self.down = nn.Linear(wide, 128), nn.Linear(128, wide)
        self.norms = nn.ModuleList([nn.LayerNorm(wide) for _ in range(2)])

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        memory = self.encoder(x).flatten(2).transpose(1, 2)
        y = self.words(words)
        y = self.norms[0](y + self.attend(y, memory, memory, need_weights=False)[0])
        y = self.norms[1](y + self.down(functional.gelu(self.up(y))))
        return functional.linear(y, self.words.weight)


class Spectrogram(nn.Module):
    """Convolutions over sound, a bidirectional GRU, attention pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(40, 64, 5, 2, 2), nn.BatchNorm1d(64), nn.ReLU(), nn.Conv1d(64, 48, 3))
        self.rnn = nn.GRU(48, 40, batch_first=True, bidirectional=True)
        self.weight, self.last = nn.Linear(80, 1), nn.Linear(80, 6)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.body(x).transpose(1, 2))
        return self.last((y * self.weight(y).softmax(1)).sum(1))


OWN: dict[str, Callable[[], tuple[Any, tuple[Tensor, ...]]]] = {
    "anchors": lambda: (AnchorDetector(), (torch.rand(1, 3, 64, 64),)),
    "attention_unet": lambda: (AttentionUNet(), (torch.rand(1, 3, 32, 32),)),
    "dense_residual": lambda: (DenseResidual(), (torch.rand(1, 3, 16, 16),)),
    "shuffled": lambda: (Shuffled(), (torch.rand(1, 3, 32, 32),)),
    "captioner": lambda: (Captioner(), (torch.rand(2, 3, 32, 32), torch.randint(0, 200, (2, 7)))),
    "spectrogram": lambda: (Spectrogram(), (torch.rand(2, 40, 50),)),
}
