"""Prune within a training loop of one's own, step by step: python examples/train_and_prune.py

    pip install ".[examples]"

A small network learns scikit-learn's handwritten digits. It is pruned to a fiftieth twice: at once, and in four steps
with two epochs of the same loop in between and scores taken anew.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import graphprune as gp


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.first(images)))


def digits() -> tuple[Tensor, Tensor]:
    """Return images, (1797, 1, 8, 8) from 0 to 1, and labels, in a random order."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)[order] / 16, torch.tensor(labels)[order]


def train(module: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> nn.Module:
    """Train as one always does; a pruned network is a module of the same class."""
    optimiser = torch.optim.AdamW(module.train().parameters(), rate)
    for _ in range(epochs):
        for x, y in zip(images.split(50), labels.split(50), strict=True):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimiser.step()
    return module.eval()


def accuracy(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (module(images).argmax(dim=1) == labels).float().mean().item()


def main() -> None:
    torch.manual_seed(0)
    images, labels = digits()
    known, unseen = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])
    network = train(Digits(), *known, epochs=12, rate=2e-3)
    print(f"trained:    {accuracy(network, *unseen):.1%} of {len(unseen[1])} unseen digits")

    data = {"images": known[0].numpy(), "labels": known[1].numpy()}
    wanted = {"example_inputs": known[0][:2], "method": "taylor", "data": data, "budget": 0.02}
    once, _ = gp.prune(network, **wanted)
    print(f"at once:    {accuracy(once, *unseen):.1%}")
    print(f"fine-tuned: {accuracy(train(once, *known, epochs=12, rate=1e-3), *unseen):.1%} after 12 epochs")

    def between(module: nn.Module, step: int) -> nn.Module:
        """Train what a step left, before the next is scored anew."""
        print(f"  step {step}:   {accuracy(module, *unseen):.1%}")
        return train(module, *known, epochs=2, rate=1e-3)

    small, report = gp.prune(network, steps=4, train=between, **wanted)
    print(f"  step 4:   {accuracy(small, *unseen):.1%}")
    print(f"fine-tuned: {accuracy(train(small, *known, epochs=6, rate=1e-3), *unseen):.1%} after 6 epochs more")
    share, count = report.output.macs / report.input.macs, sum(p.numel() for p in small.parameters())
    print(f"left:       {share:.1%} of the MACs, ~{count:,} parameters, a {report.form}: {type(small).__name__}")


if __name__ == "__main__":
    main()
