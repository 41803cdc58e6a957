"""Small models and samples under the names that pages use for a reader's own: model.onnx, calib.npz, a module, images.

The method does not matter to the pages that use them, so they are as small as they can be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import residual_cnn
from torch import nn

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """A classifier of small pictures, with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = x + torch.relu(self.norm(self.second(x)))
        return self.last(x.mean((2, 3)))


def lay_out(folder: Path) -> dict[str, Any]:
    """Write model.onnx, small.onnx, calib.npz, images.npz, train.npz; return what blocks of Python begin with."""
    random = np.random.default_rng(0)
    images = random.normal(size=(40, *SHAPE)).astype(np.float32)
    labels = random.integers(0, 10, 40)
    for name in ("model.onnx", "small.onnx"):
        (folder / name).write_bytes(residual_cnn(batch="batch").SerializeToString())
    for name in ("calib.npz", "images.npz"):
        np.savez(folder / name, x=images)
    np.savez(folder / "train.npz", x=images, labels=labels)
    torch.manual_seed(0)
    import graphprune as gp

    batch = torch.from_numpy(images)
    pairs = torch.utils.data.TensorDataset(batch, torch.from_numpy(labels))
    module = Net().eval()
    loader = torch.utils.data.DataLoader(pairs, batch_size=8)
    return {
        "gp": gp, "np": np, "torch": torch, "nn": nn, "images": images, "batch": batch, "x": batch[:2],
        "module": module, "MyModel": Net, "train": {"x": images, "labels": labels}, "loader": loader, "batches": loader,
    }  # fmt: skip
