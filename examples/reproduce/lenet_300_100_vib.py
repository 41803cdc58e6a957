"""VIBNet on LeNet-300-100: a noise gate for every pixel and hidden unit, trained with the weights from a dense network.

    python examples/reproduce/lenet_300_100_vib.py --data mnist.npz [--reduced]

The published network keeps 97 of the 784 pixels. A model's input never changes here, so pixels that are no longer
needed get weights of zero; the table counts what is left, as the paper does.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import NETS, Run, Table, dense, finish, gathered, protocol, row, start, tune
from graphprune.passes.vib import VIB
from published import LENET_300_100
from torch import nn

import graphprune as gp

NET = NETS["lenet-300-100"]
EPOCHS, BATCH, RATE, GATE_RATE, STRENGTH = 30, 128, 1e-3, 3e-2, 25
"""``STRENGTH`` multiplies the divergence beside the evidence lower bound's own 1 / samples."""
FURTHER = 10
"""Epochs of fine-tuning after the cut."""
NOTES = (
    "The paper trains for hundreds of epochs and does not tell the strength of the divergence for this network; ours "
    f"is {STRENGTH} times that of the evidence lower bound, chosen on the validation images for a size near the "
    "paper's, and the gates learn 30 times as fast as the weights, so that they separate in few epochs.",
    "Baselines at the published widths are in baselines_lenet_300_100.",
)


def gated(run: Run, seed: int) -> nn.Module:
    """Return the dense network after training with gates, without the units of log alpha 0 and less."""
    method = VIB(
        data=run.data.train.arrays, labels="labels", gate_inputs=True, kl=run.pick(STRENGTH) / len(run.data.train),
        epochs=run.pick(EPOCHS, 2), batch_size=run.pick(BATCH, 20), lr=RATE, gate_lr=GATE_RATE, holdout=0.0, seed=seed,
    )  # fmt: skip
    small, _ = gp.prune(dense(run, NET.name, seed), example_inputs=run.data.train.images[:2], method=method)
    return gathered(small)


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    made: dict[int, nn.Module] = {}

    def cut(seed: int) -> nn.Module:
        made[seed] = gated(run, seed)
        return made[seed]

    def tuned(seed: int) -> nn.Module:
        return tune(made[seed], run, epochs=run.pick(FURTHER), seed=seed, lr=RATE)

    rows = [
        *LENET_300_100,
        row(run, NET, "dense", lambda seed: dense(run, NET.name, seed)),
        row(run, NET, "VIBNet", cut),
        row(run, NET, "VIBNet, fine-tuned", tuned, f"+{run.pick(FURTHER)} epochs"),
    ]
    settings = {
        **protocol(run, NET.name),
        "gates": f"{run.pick(EPOCHS, 2)} epochs in batches of {run.pick(BATCH, 20)}, rates {RATE:g} and {GATE_RATE:g} "
        f"(gates), cosine to 0; divergence x {run.pick(STRENGTH)} / samples; units of log alpha at most 0 go",
        "fine-tuning": f"{run.pick(FURTHER)} epochs, rate {RATE:g}, labels alone",
    }
    finish(run, Table("vib_lenet_300_100", "VIBNet on LeNet-300-100", NET, tuple(rows), settings, NOTES))


if __name__ == "__main__":
    main()
