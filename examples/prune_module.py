"""Prune a torch module with gradient scores, fine-tune it from the original, save it, and load it again.

    pip install ".[train]" && python examples/prune_module.py

The network is trained here, on stripes of four orientations under noise, so that accuracies can be told honestly: on
samples that neither training nor pruning saw.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import graphprune as gp


class Stripes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1))
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = torch.relu(x + self.block(x))
        return self.head(x.mean(dim=(2, 3)))


def stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images of stripes, shape (count, 1, 16, 16), and their orientation, one of four."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=random)
    angle = labels * torch.pi / 4
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    across = row * torch.cos(angle)[:, None, None] + column * torch.sin(angle)[:, None, None]
    phase = 6.3 * torch.rand(count, 1, 1, generator=random)
    return (torch.sin(across + phase) + 1.5 * torch.randn(count, 16, 16, generator=random))[:, None], labels


def train(module: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimiser = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(epochs):
        for x, y in zip(images.split(50), labels.split(50), strict=True):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimiser.step()


def accuracy(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (module.eval()(images).argmax(dim=1) == labels).float().mean().item()


def main() -> None:
    torch.manual_seed(0)
    (images, labels), unseen = stripes(1000, seed=1), stripes(1000, seed=2)
    module = Stripes()
    train(module.train(), images, labels, epochs=5)
    print(f"trained:    {accuracy(module, *unseen):.1%} of 1,000 unseen images")

    data = {"images": images[:200].numpy(), "labels": labels[:200].numpy()}
    small, report = gp.prune(module, example_inputs=images[:1], budget=0.1, method="fisher", data=data)
    kept = f"{report.output.macs / report.input.macs:.0%} of the MACs"
    print(f"pruned:     {accuracy(small, *unseen):.1%}, with {kept}; a {report.form}: {type(small).__name__}")

    tuned, told = gp.finetune(small, teacher=module, data={"images": images.numpy()}, epochs=3)
    print(f"fine-tuned: {accuracy(tuned, *unseen):.1%}; {told.after.agreement:.1%} as the original, on images held out")

    with tempfile.TemporaryDirectory() as folder:
        gp.save(tuned, Path(folder) / "stripes.safetensors")
        again = gp.load(Path(folder) / "stripes.safetensors", Stripes())
        print(f"loaded:     {accuracy(again, *unseen):.1%}, {sum(p.numel() for p in again.parameters()):,} parameters")


if __name__ == "__main__":
    main()
