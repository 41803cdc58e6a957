"""What the tables on VIBNet share: how networks are pruned, and which rows a table has."""

from __future__ import annotations

from dataclasses import dataclass

from common import Net, Row, Run, Table, dense, gathered, protocol, row, tune
from graphprune.passes.vib import VIB
from sbp import absorbed
from torch import nn

import graphprune as gp


@dataclass(frozen=True)
class Recipe:
    """How a network is trained with gates, from its dense weights.

    ``strength`` multiplies the divergence beside the evidence lower bound's own 1 / samples. The network is fine-tuned
    for ``further`` epochs after the cut.
    """

    net: Net
    strength: float
    epochs: int = 30
    batch: int = 128
    rate: float = 1e-3
    gate_rate: float = 3e-2
    further: int = 10

    def stamp(self, run: Run) -> str:
        """Return what tells a training apart from others of the same network and seed."""
        sizes = run.pick(self.epochs, 2), run.pick(self.batch, 20), run.pick(self.strength), self.rate, self.gate_rate
        return "-".join([run.data.digest, *map(str, sizes)])

    def words(self, run: Run) -> str:
        return (
            f"{run.pick(self.epochs, 2)} epochs in batches of {run.pick(self.batch, 20)}, rates {self.rate:g} and "
            f"{self.gate_rate:g} (gates), cosine to 0; divergence x {run.pick(self.strength)} / samples; units of log "
            "alpha at most 0 go"
        )


def pruned(run: Run, recipe: Recipe, seed: int) -> nn.Module:
    """Return the dense network after training with gates, without the units of log alpha 0 and less.

    The inputs that are chosen are the model's own, or elements of a flattened map (``nets.py``). What was trained is
    kept in the cache: a run that was broken off goes on from there.
    """
    net = recipe.net
    pixels, inner = net.units[0] == "select", "select" in net.units[1:]
    method = VIB(
        data=run.data.train.arrays, labels="labels", gate_inputs=pixels, epochs=run.pick(recipe.epochs, 2),
        kl=run.pick(recipe.strength) / len(run.data.train), batch_size=run.pick(recipe.batch, 20), lr=recipe.rate,
        gate_lr=recipe.gate_rate, holdout=0.0, seed=seed,
        checkpoint=run.cache / f"vib-{net.name}-{recipe.stamp(run)}-{seed}",
    )  # fmt: skip
    module = dense(run, net.name, seed, select=inner)
    small, _ = gp.prune(module, example_inputs=run.data.train.images[:2], method=method)
    return gathered(absorbed(small))


def table(run: Run, recipe: Recipe, published: tuple[Row, ...], notes: tuple[str, ...]) -> Table:
    """Return the table of a network: published rows, the dense network, ours, and ours fine-tuned."""
    net, further = recipe.net, run.pick(recipe.further)
    made: dict[int, nn.Module] = {}

    def cut(seed: int) -> nn.Module:
        made[seed] = pruned(run, recipe, seed)
        return made[seed]

    def tuned(seed: int) -> nn.Module:
        return tune(made[seed], run, epochs=further, seed=seed, lr=recipe.rate)

    rows = [
        *published,
        row(run, net, "dense", lambda seed: dense(run, net.name, seed)),
        row(run, net, "VIBNet", cut),
        row(run, net, "VIBNet, fine-tuned", tuned, f"+{further} epochs"),
    ]
    settings = {
        **protocol(run, net.name),
        "gates": recipe.words(run),
        "fine-tuning": f"{further} epochs, rate {recipe.rate:g}, labels alone",
    }
    stem = net.name.replace("-", "_").removesuffix("_caffe")
    return Table(f"vib_{stem}", f"VIBNet on {net.name}", net, tuple(rows), settings, notes)
