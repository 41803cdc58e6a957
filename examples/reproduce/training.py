"""Training for the tables: dense networks, kept on disk, and everything that is trained after a cut.

All of it is AdamW with a short warm-up and a cosine to zero, on the training part alone; nothing is held out within it,
and the weights are those of the last epoch. Dense networks are trained by ``graphprune.finetune``. The many small ones
are trained by ``tune``, which does the same in memory: on networks of a few thousand weights, reading and checking
batches takes longer than the arithmetic.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from digits import Digits
from nets import NETS, Net
from torch import nn

import graphprune as gp

DENSE: dict[str, Any] = {"batch_size": 128, "lr": 1e-3}
"""How dense networks are trained."""
TUNED: dict[str, Any] = {"batch_size": 256, "lr": 4e-3}
"""How all others are: the rate did best on the validation images for the L1 baseline, of 1e-3, 2e-3 and 4e-3."""
EPOCHS = {"lenet-300-100": 20, "lenet-500-300": 20, "lenet-5-caffe": 10, "vgg-16": 10, "vgg-16-quarter": 8}
"""Epochs that a dense network is trained for."""


@dataclass(frozen=True)
class Run:
    """What a script was asked to do: on which data, how much of it, with which seeds, and where things go."""

    data: Digits
    reduced: bool
    seeds: tuple[int, ...]
    cache: Path
    out: Path

    def pick(self, full: int, reduced: int = 1) -> int:
        """Return the number of the full form, or of the reduced."""
        return reduced if self.reduced else full

    @property
    def batch(self) -> int:
        """Samples a step of a dense network's training."""
        return self.pick(DENSE["batch_size"], 20)

    def dense_epochs(self, name: str) -> int:
        return self.pick(EPOCHS[name], 2)


def tune(
    module: nn.Module, run: Run, *, epochs: int, seed: int, lr: float = TUNED["lr"], batch_size: int | None = None
) -> nn.Module:
    """Return a copy trained on labels, as TUNED says unless told otherwise; the order of the samples is the seed's.

    It is kept in the cache under everything that it follows from: a run that was broken off goes on from there.
    """
    tuned, size = copy.deepcopy(module), batch_size or run.pick(TUNED["batch_size"], 20)
    path = (
        run.cache / f"tuned-{_digest(module, run.data.digest, len(run.data.train), epochs, seed, lr, size)}.safetensors"
    )
    if not path.exists():
        _tune(tuned.train(), run, epochs, seed, lr, size)
        _save(tuned, path, {})
    from safetensors.torch import load_file

    tuned.load_state_dict(load_file(path))
    return tuned.eval()


def _digest(module: nn.Module, *settings: object) -> str:
    """Name what a training starts from: the kind of network, its tensors and the settings."""
    whole = hashlib.sha256(repr((type(module).__name__, settings)).encode())
    for name, tensor in module.state_dict().items():
        whole.update(f"{name}{tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def _save(module: nn.Module, path: Path, told: dict[str, Any]) -> None:
    """Write a module's tensors, all or nothing."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    save_file(module.state_dict(), part, metadata={"training": json.dumps(told)})
    part.replace(path)


def _tune(tuned: nn.Module, run: Run, epochs: int, seed: int, lr: float, size: int) -> None:
    """Train in place."""
    images, labels = run.data.train.images, run.data.train.labels
    steps, random = epochs * math.ceil(len(labels) / size), torch.Generator().manual_seed(seed)
    optimiser = _optimiser(tuned)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: lr * _part(step, steps))
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=random).split(size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(tuned(images[chosen]), labels[chosen]).backward()
            optimiser.step()
            schedule.step()


def _optimiser(module: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW at rate one, with decay on weights but not on biases and normalisations."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01}]
    groups.append({"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=1.0, fused=True)


def _part(step: int, steps: int) -> float:
    """Return the part of the highest rate that a step has: rising over a twentieth, then falling along a cosine."""
    rise = steps // 20
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def fresh(module: nn.Module, seed: int) -> nn.Module:
    """Draw all weights of a module anew, in place; what it selects stays."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.BatchNorm2d)) and layer.weight.requires_grad:
                layer.reset_parameters()
    return module


def dense(run: Run, name: str, seed: int, *, select: bool = False) -> nn.Module:
    """Return a trained dense network of ``nets.NETS``, from the cache where it is; ``select`` as nets.py tells."""
    net = NETS[name]
    path = run.cache / f"{name}-{run.data.digest}-e{run.dense_epochs(name)}-s{seed}.safetensors"
    if not path.exists():
        _train(run, net, seed, path)
    from safetensors.torch import load_file

    made = net.make(select=True) if select else net.make()
    made.load_state_dict(load_file(path), strict=not select)
    return made.eval()


def _train(run: Run, net: Net, seed: int, path: Path) -> None:
    epochs = run.dense_epochs(net.name)
    chosen = DENSE | {"batch_size": run.batch}
    made, arrays = fresh(net.make(), seed), run.data.train.arrays
    trained, _ = gp.finetune(made, data=arrays, labels="labels", epochs=epochs, seed=seed, holdout=0, **chosen)
    assert isinstance(trained, nn.Module)
    told = {"net": net.name, "data": run.data.name, "epochs": epochs, "seed": seed, **chosen}
    _save(trained, path, told)
