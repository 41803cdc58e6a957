"""The models that are measured: torch modules and their exports, or exports that lie in a folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, load

from graphprune.runtime import real_inputs

TORCHVISION = {
    "resnet50": {},
    "mobilenet_v2": {},
    "efficientnet_b0": {},
    "densenet121": {},
    "convnext_tiny": {},
    "resnext50_32x4d": {},
    "googlenet": {"init_weights": False, "aux_logits": False},
}
"""Architectures that are measured against Torch-Pruning, with what their constructors want."""

FILES_ONLY = ("espcn", "yolov8n", "llama_gqa")
"""More models to measure against onnxsim; all but the first are taken from a folder only."""

KEPT: list[Any] = []
"""What must outlive the function that made it."""


@dataclass(frozen=True)
class Export:
    """A model file, read, with the sizes of its inputs."""

    name: str
    path: Path
    model: ModelProto
    shapes: dict[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """Number of weights in initializers."""
        return sum(int(np.prod(w.dims)) for w in self.model.graph.initializer if w.data_type in (1, 10, 11))


def torch_module(name: str) -> Any:
    """Return an architecture with random weights, ready to run; None, with a line on why, where it cannot be made."""
    try:
        import torch

        if name == "espcn":
            return espcn()
        models = torchvision_models()
    except ImportError as error:
        print(f"{name:18s} skipped: {error}")
        return None
    torch.manual_seed(0)
    return getattr(models, name)(weights=None, **TORCHVISION[name]).eval()


def torchvision_models() -> Any:
    """Import torchvision, also where its operators were built for another torch: none of them is needed here."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        KEPT.append(library)
        import torchvision
    return torchvision.models


def espcn() -> Any:
    """Return a network that triples an image's size with a pixel shuffle (arXiv 1609.05158)."""
    from torch import nn

    layers = [nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers, nn.Conv2d(32, 9, 3, padding=1), nn.PixelShuffle(3)).eval()


def example(name: str) -> Any:
    """Return an input for the architecture."""
    import torch

    return torch.zeros(1, 1, 32, 32) if name == "espcn" else torch.zeros(1, 3, 224, 224)


def export(name: str, folder: Path, zoo: Path | None, exporter: str = "ts") -> Export | None:
    """Return a model's export from ``zoo``, else one made now in ``folder``, else None with a line on why."""
    path = in_folder(name, zoo, exporter) if zoo else None
    if path is None and name in FILES_ONLY[1:]:
        print(f"{name:18s} skipped: no such file under --zoo")
        return None
    path = path or made(name, folder)
    if path is None:
        return None
    model = load(path)
    return Export(name, path, model, input_sizes(model, path))


def in_folder(name: str, zoo: Path, exporter: str) -> Path | None:
    """Return NAME.SPEC.onnx where SPEC begins with the exporter's letters and BatchNormalization is folded."""
    found = sorted(p for p in zoo.rglob(f"{name}.{exporter}*.onnx") if not p.stem.endswith("n"))
    return found[0] if found else None


def made(name: str, folder: Path) -> Path | None:
    """Export an architecture now."""
    path = folder / f"{name}.onnx"
    module = None if path.exists() else torch_module(name)
    if module is not None:
        import torch

        with quiet():
            options = {"input_names": ["input"], "dynamic_axes": {"input": {0: "batch"}}}
            torch.onnx.export(module, (example(name),), path, opset_version=17, dynamo=False, **options)
    return path if path.exists() else None


def input_sizes(model: ModelProto, path: Path) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the samples that lie beside a model as .io.npz, else its own, with 1 for what is dynamic."""
    samples = path.with_suffix(".io.npz")
    if samples.exists():
        with np.load(samples) as arrays:
            return {k.removeprefix("in_"): arrays[k].shape for k in arrays.files if k.startswith("in_")}
    return {v.name: tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim) for v in real_inputs(model)}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the deprecation warnings of exporters and peers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
