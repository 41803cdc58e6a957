"""VIBNet on LeNet-5-Caffe: gates on both convolutions, on the 800 inputs of the dense layer, and on its 500 units.

    python examples/reproduce/lenet_5_vib.py --data mnist.npz [--reduced]

How elements of the flattened map are chosen, ``nets.py`` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common import NETS, baselines, finish, start
from published import LENET_5
from vib import Recipe, table

RECIPE = Recipe(NETS["lenet-5-caffe"], strength=25)
NOTES = (
    "The settings are those of the table on LeNet-300-100, where they were chosen on validation images.",
    "Baselines have the widths of our network; elements of the flattened map go by the L1 norm of their weights.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    made = table(run, RECIPE, LENET_5, NOTES)
    rest = baselines(run, RECIPE.net, made.rows[-1].kept, epochs=run.pick(RECIPE.further))
    finish(run, replace(made, rows=(*made.rows, *rest)))


if __name__ == "__main__":
    main()
