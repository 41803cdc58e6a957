"""What the tables on SBP share: how networks are pruned, and which rows a table has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from common import Net, Row, Run, Table, baselines, dense, dense_rows, gathered, protocol, row, tune
from graphprune.passes.sbp import SBP
from torch import nn

import graphprune as gp


@dataclass(frozen=True)
class Recipe:
    """How a network is trained with gates, from its dense weights.

    ``kl`` multiplies the divergence beside the evidence lower bound's own 1 / samples. Baselines, and our network after
    the cut, are fine-tuned for ``further`` epochs.
    """

    net: Net
    kl: float
    epochs: int = 16
    batch: int = 500
    rate: float = 1.5e-3
    gate_rate: float = 0.1
    further: int = 5

    def sizes(self, run: Run) -> tuple[int, int, float, float]:
        """Return epochs, batch, the rate of gates and the factor of the divergence, in the full or reduced form."""
        if run.reduced:
            return 2, 20, 2 * self.gate_rate, 1.0
        return self.epochs, self.batch, self.gate_rate, self.kl

    def words(self, run: Run) -> str:
        epochs, batch, gate_rate, kl = self.sizes(run)
        return (
            f"{epochs} epochs in batches of {batch}, rates {self.rate:g} (weights) and {gate_rate:g} (gates), cosine "
            f"to 0; divergence x {kl:g} / samples; one draw a batch; units of SNR at most 1 go"
        )


def pruned(run: Run, recipe: Recipe, seed: int) -> nn.Module:
    """Return the dense network after training with gates, without the units of SNR 1 and less.

    The inputs that are chosen are the model's own, or elements of a flattened map (``nets.py``). What was trained is
    kept in the cache: a run that was broken off goes on from there.
    """
    net, name = recipe.net, recipe.net.name
    epochs, batch, gate_rate, kl = recipe.sizes(run)
    inner = net.units[0] != "select"
    method = SBP(
        data=run.data.train.arrays, labels="labels", gate_inputs=not inner, kl=kl / len(run.data.train), epochs=epochs,
        batch_size=batch, lr=recipe.rate, gate_lr=gate_rate, holdout=0.0, seed=seed,
        checkpoint=run.cache / f"sbp-{name}-{run.data.digest}-{epochs}-{batch}-{kl:g}-{seed}",
    )  # fmt: skip
    module = dense(run, name, seed, select=inner)
    small, _ = gp.prune(module, example_inputs=run.data.train.images[:2], method=method)
    return gathered(absorbed(small))


def absorbed(module: Any) -> nn.Module:
    """Move the means of gates before the selection into the weights behind it: it is only a selection then."""
    if isinstance(getattr(module, "select", None), nn.Linear):
        weight = module.select.weight
        with torch.no_grad():
            module.fc1.weight *= weight.sum(dim=1)
            weight.copy_(weight != 0)
    result: nn.Module = module
    return result


def table(run: Run, recipe: Recipe, published: tuple[Row, ...], notes: tuple[str, ...]) -> Table:
    """Return the table of a network: published rows, dense networks, ours, and the baselines at our widths."""
    net, further = recipe.net, run.pick(recipe.further)
    made: dict[int, nn.Module] = {}

    def cut(seed: int) -> nn.Module:
        made[seed] = pruned(run, recipe, seed)
        return made[seed]

    def tuned(seed: int) -> nn.Module:
        return tune(made[seed], run, epochs=further, seed=seed)

    rows = [*published, *dense_rows(run, net, further), row(run, net, "SBP", cut)]
    rows.append(row(run, net, "SBP, fine-tuned", tuned, f"+{further} epochs"))
    rows += baselines(run, net, rows[-1].kept, epochs=further, modules=made)
    settings = {**protocol(run, net.name), "gates": recipe.words(run), "fine-tuning": f"{further} epochs, labels alone"}
    stem = net.name.replace("-", "_").removesuffix("_caffe")
    return Table(f"sbp_{stem}", f"SBP on {net.name}", net, tuple(rows), settings, notes)
