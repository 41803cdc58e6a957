"""VIBNet on VGG-16 with a quarter of its channels, on a quarter of the 28x28 training images with a margin, 32x32.

    python examples/reproduce/vgg_16_vib.py --data /usr/share/datasets/fashion-mnist [--reduced]

The paper's network and data are VGG-16 and CIFAR-10. CIFAR-10 is in no package, and the whole network takes some 50
trillion multiply-accumulates an epoch: days on a CPU. A quarter of the channels takes a sixteenth of that, a quarter of
the images a quarter again; where there is a GPU, ``NET = "vgg-16"`` and ``IMAGES = 50_000`` are the whole of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common import NETS, baselines, finish, start
from vib import Recipe, table

NET = "vgg-16-quarter"
IMAGES = 12_500
RECIPE = Recipe(NETS[NET], strength=2, epochs=10, gate_rate=3e-2, further=3)
NOTES = (
    "No published row is comparable: the paper's are of the whole network on CIFAR-10.",
    "Baselines have the widths of our network, and are trained as long after the cut as ours is with its gates.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    data = run.data if run.reduced else run.data.reduced(IMAGES, len(run.data.test))
    run = replace(run, data=data.at_32())
    made = table(run, RECIPE, (), NOTES)
    ours = next(row for row in made.rows if row.method == "VIBNet")
    rest = baselines(run, RECIPE.net, ours.kept, epochs=run.pick(RECIPE.epochs + RECIPE.further), modules={})
    finish(run, replace(made, rows=(*made.rows, *rest)))


if __name__ == "__main__":
    main()
