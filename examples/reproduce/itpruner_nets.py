"""The networks of ITPruner's tables, with the widths that its authors published, and what these widths stand for.

A published width may tie several groups of ours (an inverted bottleneck's expansion is six times its input) and leaves
others whole (the hidden dense layer of VGG-16, MobileNetV2's last convolution). ``tied`` turns the costs that
graphprune derives from the module into costs of the published variables alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from nets import VGG16, Widths
from torch import Tensor, nn

import graphprune as gp
from graphprune.cost import Costs, IntArray, Polynomial
from graphprune.groups import Group

CLASSES = 1000


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int, act: nn.Module) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), act]


def _head(inputs: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)]


def mobilenet_v1(widths: Widths) -> nn.Module:
    """MobileNetV1: a convolution, then 13 pairs of a depthwise and a pointwise one."""
    layers = _convolution(3, widths[0], 3, 2, 1, nn.ReLU())
    for k, (inputs, outputs) in enumerate(pairwise(widths)):
        stride = 2 if k in (1, 3, 5, 11) else 1
        layers += _convolution(inputs, inputs, 3, stride, inputs, nn.ReLU())
        layers += _convolution(inputs, outputs, 1, 1, 1, nn.ReLU())
    return nn.Sequential(*layers, *_head(widths[-1]))


class InvertedBottleneck(nn.Module):
    """Expands its input, filters every channel, and projects."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = _convolution(inputs, hidden, 1, 1, 1, nn.ReLU6()) if expansion > 1 else []
        layers += _convolution(hidden, hidden, 3, stride, hidden, nn.ReLU6())
        self.layers = nn.Sequential(*layers, *_convolution(hidden, outputs, 1, 1, 1, nn.Identity()))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v2(widths: Widths) -> nn.Module:
    """MobileNetV2: a convolution, 17 inverted bottlenecks in seven stages, and a convolution to 1280 channels."""
    layers: list[nn.Module] = _convolution(3, widths[0], 3, 2, 1, nn.ReLU6())
    inputs = widths[0]
    for stage, (count, stride) in enumerate(((1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1))):
        for k in range(count):
            outputs, expansion = widths[stage + 1], 6 if stage else 1
            layers.append(InvertedBottleneck(inputs, outputs, 1 if k else stride, expansion))
            inputs = outputs
    return nn.Sequential(*layers, *_convolution(inputs, 1280, 1, 1, 1, nn.ReLU6()), *_head(1280))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int, *, projected: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(inputs, middle, 1, 1, 1, nn.ReLU()),
            *_convolution(middle, middle, 3, stride, 1, nn.ReLU()),
            *_convolution(middle, outputs, 1, 1, 1, nn.Identity()),
        )
        short = _convolution(inputs, outputs, 1, stride, 1, nn.Identity()) if projected else []
        self.shortcut = nn.Sequential(*short)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.layers(x))


def resnet50() -> nn.Module:
    """ResNet-50 with the stride in the 3x3 convolutions."""
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2, 1, nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        middle = 64 << stage
        for k in range(count):
            stride = 2 if stage and not k else 1
            layers.append(Bottleneck(inputs, middle, 4 * middle, stride, projected=not k))
            inputs = 4 * middle
    return nn.Sequential(*layers, *_head(inputs))


def vgg16(widths: Widths) -> nn.Module:
    """VGG-16 for CIFAR-10; the widths are those of the 13 convolutions."""
    return VGG16((*widths, 512))


@dataclass(frozen=True)
class Published:
    """A configuration: the widths at full size and pruned, the target in MMAC, and what the authors' widths cost."""

    name: str
    make: Callable[[Widths], nn.Module]
    full: Widths
    pruned: Widths
    target: float
    mmac: tuple[float, float]
    side: int = 224

    def traced(self, widths: Widths | None = None) -> gp.Groups:
        """Return the groups of the network at some widths."""
        return grouped(self.make(widths or self.full), self.side)


CONFIGURATIONS = (
    Published(
        "VGG-16, CIFAR-10", vgg16, (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6,
        (44, 35, 71, 71, 145, 104, 145, 290, 205, 325, 432, 429, 469), 100, (313.5, 99.5), 32,
    ),
    Published(
        "MobileNetV1", mobilenet_v1, (32, 64) + (128,) * 2 + (256,) * 2 + (512,) * 6 + (1024,) * 2,
        (23, 42, 63, 67, 132, 134, 275, 194, 202, 202, 194, 277, 522, 687), 150, (569, 149),
    ),
    Published(
        "MobileNetV2", mobilenet_v2, (32, 16, 24, 32, 64, 96, 160, 320), (31, 14, 20, 28, 54, 74, 130, 298), 220,
        (301, 219),
    ),
)  # fmt: skip
RESNET50: dict[int, float] = {2300: 2236, 2000: 1943, 1800: 1742}
"""MMAC as published: of what was found for every target, of 4089. The widths were not at hand."""


def grouped(module: nn.Module, side: int) -> gp.Groups:
    """Trace a network on an image and couple it."""
    return gp.couple(gp.trace(module.eval(), torch.zeros(1, 3, side, side)))


@dataclass(frozen=True)
class Tied:
    """Costs of published variables: ``variable[g]`` is group g's, or the number of variables where it stays whole.

    A group is ``factor[g]`` times as wide as its variable.
    """

    groups: gp.Groups
    variable: IntArray = field(repr=False)
    factor: IntArray = field(repr=False)

    def widths(self, values: Sequence[int]) -> IntArray:
        """Return the widths of all groups of the network, shape (groups,)."""
        return np.append(np.asarray(values, dtype=np.int64), 1)[self.variable] * self.factor


def tied(published: Published) -> Tied:
    """Match the groups of a network with its published variables, by their sizes at full width and pruned."""
    whole, small = published.traced(), published.traced(published.pruned)
    count = len(published.full)
    found = []
    for size, kept in zip(whole.sizes.tolist(), small.sizes.tolist(), strict=True):
        fits = [
            (k, f)
            for f in (1, 6)
            for k in range(count)
            if (f * published.full[k], f * published.pruned[k]) == (size, kept)
        ]
        found.append(_next(fits, found) if fits else (count, size))
    variable, factor = np.array(found, dtype=np.int64).T
    groups = tuple(Group(f"width {k}", "channel", n, ()) for k, n in enumerate(published.full))
    return Tied(
        gp.Groups(groups, (), _substituted(whole.costs, variable, factor, np.array(published.full))), variable, factor
    )


def _next(fits: list[tuple[int, int]], before: list[tuple[int, int]]) -> tuple[int, int]:
    """Take the first variable not used yet, or used last: equal sizes come in the order of the network."""
    used = {k for k, _ in before}
    fresh = [fit for fit in fits if fit[0] not in used]
    return fresh[0] if fresh else fits[-1]


def _substituted(costs: Costs, variable: IntArray, factor: IntArray, sizes: IntArray) -> Costs:
    def of(polynomial: Polynomial) -> Polynomial:
        scale, place = np.append(factor, 1), np.append(variable, len(sizes))
        coefficient = polynomial.coefficient * scale[polynomial.factor].prod(axis=1)
        return replace(
            polynomial, coefficient=coefficient, factor=np.sort(place[polynomial.factor], axis=1), n_groups=len(sizes)
        )

    return replace(
        costs, sizes=sizes, macs=of(costs.macs), params=of(costs.params), size=of(costs.size), tensors=of(costs.tensors)
    )
