"""The networks of the published tables as plain modules, and what their widths mean: weights, MACs, activations.

A network's *widths* are what the tables list: 784-300-100 for LeNet-300-100 (the first are input pixels), 20-50-800-500
for LeNet-5-Caffe (the third are inputs of the first dense layer), and the outputs of every layer for VGG-16.

Some methods remove inputs of a layer that no other layer makes: pixels, or single elements of the flattened feature
maps. A model's inputs never change in graphprune, so with ``select=True`` a network has a frozen identity matrix in
that place, whose outputs are a group like any other; methods may also zero the weights of inputs that they do without.
``gathered`` turns both into a list of indices, which has no weights and costs no multiply-accumulates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLASSES = 10
Widths = tuple[int, ...]


class Gather(nn.Module):
    """Keeps some of the features, by index."""

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, features: Tensor) -> Tensor:
        return features.index_select(1, self.index)


class LeNet300(nn.Module):
    """784-300-100-10, or any other widths; ReLU between the layers."""

    def __init__(self, widths: Widths = (784, 300, 100), *, select: bool = False) -> None:
        super().__init__()
        pixels, first, second = widths
        self.select = _selection(784, pixels, select=select)
        self.fc1 = nn.Linear(pixels, first)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.select(images.flatten(1))
        x = torch.relu(self.fc1(x))
        return self.fc3(torch.relu(self.fc2(x)))


class LeNet5(nn.Module):
    """LeNet-5 as in Caffe: 5x5 convolutions without padding, ReLU and 2x2 max-pooling, twice; then two dense layers."""

    def __init__(self, widths: Widths = (20, 50, 800, 500), *, select: bool = False) -> None:
        super().__init__()
        first, second, inputs, third = widths
        self.conv1 = nn.Conv2d(1, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.select = _selection(16 * second, inputs, select=select)
        self.fc1 = nn.Linear(inputs, third)
        self.fc2 = nn.Linear(third, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(images)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = self.select(x.flatten(1))
        return self.fc2(torch.relu(self.fc1(x)))


STAGES = (2, 2, 3, 3, 3)
"""Convolutions of VGG-16 between two poolings."""


class VGG16(nn.Module):
    """VGG-16 for 3x32x32 images: 13 convolutions with batch normalisation, one hidden dense layer (512)."""

    def __init__(self, widths: Widths = (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 7) -> None:
        super().__init__()
        *convs, hidden = widths
        layers: list[nn.Module] = []
        inputs, ends = 3, {sum(STAGES[: k + 1]) for k in range(len(STAGES))}
        for k, width in enumerate(convs):
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if k + 1 in ends else []
            inputs = width
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(self.features(images).flatten(1))))


def _selection(size: int, kept: int, *, select: bool) -> nn.Module:
    """Return a frozen identity matrix, to be pruned; or nothing where all is kept, or the first ``kept`` features."""
    if not select:
        return nn.Identity() if kept == size else Gather(torch.arange(kept))
    if kept != size:
        raise ValueError("a network with a selection to prune is made with all of its inputs")
    identity = nn.Linear(size, size, bias=False)
    identity.weight.data.copy_(torch.eye(size))
    identity.weight.requires_grad_(False)
    return identity


def gathered(module: nn.Module) -> nn.Module:
    """Return a copy whose ``select``, a pruned identity matrix or nothing yet, is the indices of what is read.

    Inputs that the dense layer behind it gives no weight, and elements of channels that were removed before it, go.
    """
    result = copy.deepcopy(module)
    if not hasattr(result, "select"):
        return result
    alive = result.fc1.weight.count_nonzero(dim=0) > 0
    matrix = result.select.weight if isinstance(result.select, nn.Linear) else torch.eye(len(alive))
    index = result.select.index if isinstance(result.select, Gather) else matrix.argmax(dim=1)
    there = matrix.sum(dim=1) == 1
    if matrix.count_nonzero() != there.sum():
        raise ValueError("the selection is no longer one: its weights were trained or scaled")
    alive &= there
    if not isinstance(result.select, nn.Identity) or not alive.all():
        result.select = Gather(index[alive])
        result.fc1.weight = nn.Parameter(result.fc1.weight.detach()[:, alive])
        result.fc1.in_features = int(alive.sum())
    return result


@dataclass(frozen=True)
class Layer:
    """A layer of a network: which widths it goes from and to (-1: the image's channels, None: the classes)."""

    name: str
    source: int
    target: int | None
    kernel: int = 1
    positions: int = 1


@dataclass(frozen=True)
class Net:
    """A network of the tables.

    ``units`` are the layers whose outputs the widths count, ``activations`` how many values a unit of each holds, as
    the literature counts them: a convolution's outputs, and again what is left of them behind a max-pooling.
    """

    name: str
    make: Callable[..., nn.Module]
    full: Widths
    units: tuple[str, ...]
    activations: tuple[int, ...]
    layers: tuple[Layer, ...]
    channels: int = 1

    def products(self, widths: Sequence[int]) -> list[int]:
        """Return the weights of every layer at some widths."""
        sizes = dict(enumerate(widths))
        ins = [sizes.get(layer.source, self.channels) for layer in self.layers]
        outs = [CLASSES if layer.target is None else sizes[layer.target] for layer in self.layers]
        return [a * b * layer.kernel for a, b, layer in zip(ins, outs, self.layers, strict=True)]

    def widths_of(self, module: nn.Module) -> Widths:
        """Read the widths off a module, pruned or not."""
        state = module.state_dict()
        sizes = {layer.source: state[f"{layer.name}.weight"].shape[1] for layer in self.layers}
        sizes |= {k: state[f"{x.name}.weight"].shape[0] for x in self.layers if (k := x.target) is not None}
        return tuple(sizes[k] for k in range(len(self.full)))


def _dense(name: str, first: int, second: int) -> Net:
    full = (784, first, second)
    layers = (Layer("fc1", 0, 1), Layer("fc2", 1, 2), Layer("fc3", 2, None))

    def make(widths: Widths = full, *, select: bool = False) -> nn.Module:
        return LeNet300(widths, select=select)

    return Net(name, make, full, ("select", "fc1", "fc2"), (1, 1, 1), layers)


def _lenet5() -> Net:
    layers = (
        Layer("conv1", -1, 0, 25, 24 * 24),
        Layer("conv2", 0, 1, 25, 8 * 8),
        Layer("fc1", 2, 3),
        Layer("fc2", 3, None),
    )
    activations = (24 * 24 + 12 * 12, 8 * 8 + 4 * 4, 1, 1)
    return Net("lenet-5-caffe", LeNet5, (20, 50, 800, 500), ("conv1", "conv2", "select", "fc1"), activations, layers)


def _vgg16(name: str, part: int = 1) -> Net:
    """Return VGG-16 with all widths divided by ``part``."""
    layers: list[Layer] = []
    units: list[str] = []
    activations, position = [], 0
    count = sum(STAGES)
    for stage, convs in enumerate(STAGES):
        side = 32 >> stage
        for k in range(convs):
            index, pooled = len(layers), k + 1 == convs
            units.append(f"features.{position}")
            layers.append(Layer(units[-1], index - 1, index, 9, side * side))
            activations.append(side * side + (side // 2) ** 2 * pooled)
            position += 4 if pooled else 3
    layers += [Layer("fc1", count - 1, count), Layer("fc2", count, None)]
    full = tuple(n // part for n in (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 7)

    def make(widths: Widths = full, *, select: bool = False) -> nn.Module:
        if select:
            raise ValueError("nothing of VGG-16 but its own layers is chosen from")
        return VGG16(widths)

    return Net(name, make, full, (*units, "fc1"), (*activations, 1), tuple(layers), channels=3)


NETS = {
    net.name: net
    for net in (
        _dense("lenet-300-100", 300, 100), _dense("lenet-500-300", 500, 300), _lenet5(), _vgg16("vgg-16"),
        _vgg16("vgg-16-quarter", 4),
    )
}  # fmt: skip
"""The networks by name; "vgg-16-quarter" has a quarter of VGG-16's channels, and a sixteenth of its work."""


def parameters(module: nn.Module) -> int:
    """Count the parameters that are trained or were: a selection is none."""
    return sum(math.prod(p.shape) for name, p in module.named_parameters() if not name.startswith("select."))
