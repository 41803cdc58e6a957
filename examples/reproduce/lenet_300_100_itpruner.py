"""ITPruner on LeNet-300-100, at the sizes of the coreset and of VIBNet: does its allocation beat the same part of all?

    python examples/reproduce/lenet_300_100_itpruner.py --data mnist.npz [--reduced]

The paper has no table for this network. At VIBNet's size, pixels are removed first, by Fisher scores: ITPruner
distributes units over layers, and a pixel belongs to none.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import (
    NETS,
    Row,
    Run,
    Table,
    dense,
    finish,
    fresh,
    gathered,
    protocol,
    row,
    start,
    to_widths,
    tune,
    uniform,
    weights_kept,
)  # fmt: skip
from graphprune.passes.itpruner import Allocation, ITPruner
from pruning import Made
from published import VIBNET_300
from torch import nn

import graphprune as gp

NET = NETS["lenet-300-100"]
EPOCHS = 10
IMAGES = 2000
SIZES = {784: 26_661, 97: 9_674}
"""Parameters allowed, by the number of pixels: a tenth of the dense network's, and as many as VIBNet's."""
ALLOCATIONS: dict[Allocation, str] = {"log": "ours: importance times the logarithm", "linear": "the paper's objective"}
NOTES = (
    "ITPruner sees 100 training images, without labels; units within a layer are chosen by L1, as for uniform widths.",
    f"97 pixels: chosen by Fisher scores on {IMAGES:,} training images, the same for all rows of a seed.",
    "Two groups depend on each other alike, so both hidden layers are equally important: widths follow from the costs "
    "and the objective alone. ITPruner's measure has nothing to say on a network this shallow.",
    "'random units' and 'from scratch' have the first ITPruner row's widths.",
    "'uniform L1' keeps the same part of both hidden layers, as many weights as the first ITPruner row. From scratch "
    "has that row's widths, and the same number of epochs as the fine-tuning.",
)


def with_pixels(run: Run, pixels: int) -> Made:
    """Return what makes the dense network of a seed with some of its pixels."""

    def make(seed: int) -> nn.Module:
        if pixels == NET.full[0]:
            return dense(run, NET.name, seed)
        whole, images = dense(run, NET.name, seed, select=True), run.data.train.first(IMAGES).arrays
        return to_widths(NET, whole, (pixels, *NET.full[1:]), "fisher", run, seed, data=images)

    return make


def allocated(run: Run, module: nn.Module, how: Allocation, limit: int) -> nn.Module:
    """Return a network pruned to a number of parameters by ITPruner."""
    images = {"images": run.data.train.images[:100].numpy()}
    budget, example = gp.Budget(params=f"{limit / 1000}K"), run.data.train.images[:2]
    method = ITPruner(data=images, allocation=how)
    small, _ = gp.prune(module, example_inputs=example, method=method, budget=budget, multiple=1)
    return gathered(small)


def rows_of(run: Run, pixels: int, limit: int) -> list[Row]:
    """Return the rows of both allocations, of uniform widths and of training from scratch, at one size."""
    begin, epochs, made = with_pixels(run, pixels), run.pick(EPOCHS), {}

    def ours(how: Allocation) -> Made:
        def make(seed: int) -> nn.Module:
            small = allocated(run, begin(seed), how, limit)
            made.setdefault(seed, small)
            return tune(small, run, epochs=epochs, seed=seed)

        return make

    def same_part(seed: int) -> nn.Module:
        size = uniform(NET, weights_kept(NET, NET.widths_of(made[seed])), pixels)
        return tune(to_widths(NET, begin(seed), size, "l1", run, seed), run, epochs=epochs, seed=seed)

    def chance(seed: int) -> nn.Module:
        size = NET.widths_of(made[seed])
        return tune(to_widths(NET, begin(seed), size, "random", run, seed), run, epochs=epochs, seed=seed)

    def scratch(seed: int) -> nn.Module:
        return tune(fresh(made[seed], seed), run, epochs=epochs, seed=seed)

    words = f"at most {limit:,} parameters, {pixels} pixels"
    rows = [row(run, NET, f"ITPruner, {how}", ours(how), f"{words}; {what}") for how, what in ALLOCATIONS.items()]
    others = {"random units": chance, "uniform L1": same_part, "from scratch": scratch}
    return [*rows, *(row(run, NET, name, make, words) for name, make in others.items())]


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    rows = [row(run, NET, "dense", lambda seed: dense(run, NET.name, seed)), VIBNET_300]
    for pixels, limit in SIZES.items():
        rows += rows_of(run, pixels, limit)
    settings = {**protocol(run, NET.name), "fine-tuning": f"{run.pick(EPOCHS)} epochs, labels alone"}
    finish(run, Table("itpruner_lenet_300_100", "ITPruner on LeNet-300-100", NET, tuple(rows), settings, NOTES))


if __name__ == "__main__":
    main()
