"""What chance, plain norms and training from scratch reach at the sizes of the published rows.

    python examples/reproduce/baselines.py --data mnist.npz [--reduced]

A method is worth what it adds to these: each prunes a dense network to the published widths, removed inputs included,
or to the same part of every layer at as many weights, and is then trained for as long as our own results are.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import (
    NETS,
    Net,
    Row,
    Run,
    Table,
    Widths,
    baselines,
    dense,
    dense_rows,
    finish,
    protocol,
    row,
    start,
    to_widths,
    tune,
)  # fmt: skip
from published import SBP_5, SBP_500, VIBNET_300
from torch import nn

EPOCHS = 10
"""Epochs of fine-tuning."""
TABLES: dict[str, tuple[Row, ...]] = {
    "lenet-300-100": (VIBNET_300,),
    "lenet-500-300": (SBP_500,),
    "lenet-5-caffe": (SBP_5,),
}
IMAGES = 2000
NOTES = (
    "The inputs that a published network does without are removed from the baselines' first (LeNet-5: third) layer as "
    "well: at random, by the L1 norm of their weights in the dense network, or by Fisher scores, which take data "
    f"({IMAGES:,} labelled training images). From scratch uses the inputs that Fisher scores keep.",
    "L1 fails where pixels are to be chosen: large weights also belong to pixels that are seldom lit (LeNet-300-100, "
    "seed 0: 31 of the 97 pixels kept are lit in less than 1% of the training images).",
    "'uniform L1' keeps all pixels, and the same part of every layer: the largest with no more weights (rW) than the "
    "published row.",
    "'trained longer' is what the additional epochs alone do for the dense network.",
)


def table(run: Run, name: str, rows: tuple[Row, ...]) -> Table:
    net = NETS[name]
    epochs = run.pick(EPOCHS)
    found = dense_rows(run, net, epochs)
    for published in rows:
        found += [published, *at_size(run, net, published.kept[0], epochs)]
    settings = {**protocol(run, name), "fine-tuning": f"{epochs} epochs, labels alone"}
    return Table(f"baselines_{name.replace('-', '_')}", f"Baselines on {name}", net, tuple(found), settings, NOTES)


def at_size(run: Run, net: Net, widths: Widths, epochs: int) -> list[Row]:
    """Return the rows of all baselines at some widths."""
    chosen: dict[int, nn.Module] = {}

    def fisher(seed: int) -> nn.Module:
        whole, images = dense(run, net.name, seed, select=True), run.data.train.first(IMAGES).arrays
        chosen[seed] = to_widths(net, whole, widths, "fisher", run, seed, data=images)
        return tune(chosen[seed], run, epochs=epochs, seed=seed)

    first = row(run, net, "Fisher", fisher, "same widths; with data")
    return [first, *baselines(run, net, [widths] * len(run.seeds), epochs=epochs, modules=chosen)]


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    for name, rows in TABLES.items():
        print(name, flush=True)
        finish(run, table(run, name, rows))


if __name__ == "__main__":
    main()
