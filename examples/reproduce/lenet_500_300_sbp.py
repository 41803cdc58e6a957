"""SBP on LeNet-500-300: log-normal gates on all pixels and hidden units, trained with the weights from a dense network.

    python examples/reproduce/lenet_500_300_sbp.py --data mnist.npz [--reduced]

The published network keeps 245 of the 784 pixels. A model's input never changes here, so pixels that are no longer
needed get weights of zero; the table counts what is left, as the paper does.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import NETS, finish, start
from published import LENET_500_300
from sbp import Recipe, table

RECIPE = Recipe(NETS["lenet-500-300"], kl=5.0)
NOTES = (
    "The reference trains (its LeNet-5; we know no settings for this network) for 200 epochs after 200 of "
    "pretraining, in batches of 128, at the bound's own weight of the divergence. Ours trains for a small part of the "
    "steps, at a higher rate, and weighs the divergence five times as heavily: otherwise far fewer units would have "
    "gone by then.",
    "Baselines have the widths of our network; from scratch reads the pixels that it reads.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    finish(run, table(run, RECIPE, LENET_500_300, NOTES))


if __name__ == "__main__":
    main()
