"""Coresets on LeNet-300-100: 90% fewer parameters, hidden units chosen without any data, then fine-tuned.

    python examples/reproduce/coreset.py --data mnist.npz [--reduced]

The published network keeps all pixels and loses hidden units. The second part of the table removes pixels first, which
takes data, and hidden units to the same number of parameters then: most weights belong to pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import NETS, Row, Run, Table, baselines, dense, dense_rows, finish, gathered, protocol, row, start, tune
from graphprune.passes.coreset import Coreset, Mode
from pruning import Made, to_widths
from published import CORESET_300
from torch import nn

import graphprune as gp

NET = NETS["lenet-300-100"]
EPOCHS = 10
LIMIT = 26_661
"""A tenth of the dense network's 266,610 parameters."""
PIXELS = 250
IMAGES = 2000
MODES: dict[Mode, str] = {
    "sample": "importance sampling, reweighed: the paper's",
    "topk": "largest sensitivities",
    "refit": "largest sensitivities, consumers refitted on noise",
}
NOTES = (
    "Our coresets come in pairs of rows: as pruned, from the weights alone, and fine-tuned. The baselines that follow "
    "have their widths.",
    f"Fewer pixels: {PIXELS} are chosen first, by Fisher scores on {IMAGES:,} training images; from this on no data is "
    "used until fine-tuning. The baselines have these pixels, too.",
    "The budget counts parameters, biases included. The paper's accuracy is that after fine-tuning, too.",
)


def with_pixels(run: Run) -> Made:
    """Return what makes the dense network of a seed with the pixels that matter most."""

    def make(seed: int) -> nn.Module:
        whole = dense(run, NET.name, seed, select=True)
        images = run.data.train.first(IMAGES).arrays
        return to_widths(NET, whole, (PIXELS, *NET.full[1:]), "fisher", run, seed, data=images)

    return make


def coreset(run: Run, module: nn.Module, mode: Mode, seed: int) -> nn.Module:
    """Return a coreset of a network, of at most LIMIT parameters."""
    method = Coreset(mode=mode, seed=seed)
    budget = gp.Budget(params=f"{LIMIT / 1000}K")
    example = run.data.train.images[:2]
    small, _ = gp.prune(module, example_inputs=example, method=method, budget=budget, multiple=1)
    return gathered(small)


def rows_of(run: Run, modes: Sequence[Mode], begin: Made, words: str) -> list[Row]:
    """Return the rows of some modes, each before and after fine-tuning, and of the baselines at their size."""
    epochs, rows = run.pick(EPOCHS), []
    for mode in modes:
        made = {seed: coreset(run, begin(seed), mode, seed) for seed in run.seeds}
        tuned = {seed: tune(module, run, epochs=epochs, seed=seed) for seed, module in made.items()}
        rows.append(row(run, NET, f"coreset {mode}{words}", made.__getitem__, MODES[mode]))
        rows.append(row(run, NET, f"coreset {mode}{words}", tuned.__getitem__, f"{epochs} epochs of fine-tuning"))
    return [*rows, *baselines(run, NET, rows[-1].kept, epochs=epochs, modules=tuned, begin=begin)]


def main(arguments: Sequence[str] | None = None) -> None:
    run = start(__doc__, arguments)
    rows = [*CORESET_300, *dense_rows(run, NET, run.pick(EPOCHS))]
    rows += rows_of(run, tuple(MODES), lambda seed: dense(run, NET.name, seed), "")
    rows += rows_of(run, ("topk", "refit"), with_pixels(run), ", fewer pixels")
    settings = {
        **protocol(run, NET.name),
        "fine-tuning": f"{run.pick(EPOCHS)} epochs, labels alone",
        "budget": f"{LIMIT:,} parameters",
    }
    finish(run, Table("coreset_lenet_300_100", "Coresets on LeNet-300-100", NET, tuple(rows), settings, NOTES))


if __name__ == "__main__":
    main()
