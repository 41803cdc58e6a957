"""VIBNet on LeNet-5-Caffe: gates on both convolutions, on the 800 inputs of the dense layer, and on its 500 units.

    python examples/reproduce/lenet_5_vib.py --data mnist.npz [--reduced]

How elements of the flattened map are chosen, ``nets.py`` tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import NETS, finish, start
from published import LENET_5
from vib import Recipe, table

RECIPE = Recipe(NETS["lenet-5-caffe"], strength=25)
NOTES = ("The settings are those of the table on LeNet-300-100, where they were chosen on validation images.",)


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    finish(run, table(run, RECIPE, LENET_5, NOTES))


if __name__ == "__main__":
    main()
