"""SBP on LeNet-5-Caffe: gates on both convolutions, on the 800 inputs of the dense layer, and on its 500 units.

    python examples/reproduce/lenet_5_sbp.py --data mnist.npz [--reduced]

The published network keeps 284 of the 800 elements of the flattened map, from 18 channels; ``nets.py`` tells how such
elements are chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import NETS, finish, start
from published import LENET_5
from sbp import Recipe, table

RECIPE = Recipe(NETS["lenet-5-caffe"], kl=5.0)
NOTES = (
    "The settings are those of the table on LeNet-500-300, where they were chosen on validation images.",
    "Baselines have the widths of our network.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    finish(run, table(run, RECIPE, LENET_5, NOTES))


if __name__ == "__main__":
    main()
