"""What the scripts of this folder share. A script is one table:

    from common import NETS, Table, baselines, dense, dense_rows, measure, published, row, start, tune

    def main(arguments: Sequence[str] | None = None) -> None:
        run = start(__doc__, arguments)               # --data, --reduced, --seeds, --cache, --out
        net = NETS["lenet-300-100"]

        def ours(seed: int) -> nn.Module:
            module = dense(run, net.name, seed, select=True)      # trained, from the cache; its pixels can be pruned
            small, report = gp.prune(module, example_inputs=run.data.train.images[:2], method="vib",
                                     data=run.data.train.arrays, epochs=run.pick(60, 1))
            modules[seed] = tune(gathered(small), run, epochs=run.pick(10), seed=seed)   # or no fine-tuning
            return modules[seed]

        modules: dict[int, nn.Module] = {}
        rows = [published(net, "VIBNet", (97, 71, 33), 1.6), row(run, net, "VIBNet", ours)]
        rows += baselines(run, net, rows[-1].kept, epochs=run.pick(10), modules=modules)
        finish(run, Table("vib_lenet_300_100", "VIBNet on LeNet-300-100", net, tuple(rows), {...}, (...)))

``run.data`` has ``train`` (50,000), ``validation`` (10,000) and ``test`` (10,000), each with ``images``, ``labels`` and
``arrays`` (the dictionary that graphprune's ``data`` options take; the networks' input is called ``images``). Choose
anything (epochs, thresholds, rates) on ``run.data.validation`` with ``error(module, run.data.validation)``; ``row``
measures the test error once, on what it is given. ``run.pick(full, reduced)`` is for every number that makes a run
long: the reduced form of a script, which a test runs on generated digits, should take seconds. ``run.seeds`` are the
seeds.

``nets.py`` says what ``select`` and ``gathered`` are for; ``published`` rows are in ``published.py``, add yours there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from digits import VARIABLE, Digits, Split, load
from metrics import Outcome, activations_kept, error, macs_of, measure, weights_kept
from nets import NETS, Net, Widths, gathered, parameters
from pruning import baselines, dense_rows, row, to_widths, uniform
from tables import Row, Table, ours, published
from training import DENSE, EPOCHS, TUNED, Run, dense, fresh, tune

from graphprune.errors import GraphpruneError

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "reproduced"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphprune-reproduce"

__all__ = [
    "DENSE", "EPOCHS", "NETS", "TUNED", "Digits", "Net", "Outcome", "Row", "Run", "Split", "Table", "Widths",
    "activations_kept", "baselines", "dense", "dense_rows", "error", "finish", "fresh", "gathered", "load", "macs_of",
    "measure", "ours", "parameters", "protocol", "published", "row", "start", "to_widths", "tune", "uniform",
    "weights_kept",
]  # fmt: skip


def start(words: str | None, arguments: Sequence[str] | None = None) -> Run:
    """Read a script's arguments and open the data; exits with 2, and one line on what to do, where there is none."""
    parser = argparse.ArgumentParser(description=(words or "").partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get(VARIABLE), help=f".npz, idx folder or synthetic (${VARIABLE})")
    parser.add_argument("--reduced", action="store_true", help="few samples and epochs: to see it run, not to compare")
    parser.add_argument("--seeds", type=int, help="how many (3; reduced: 1)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder of trained dense networks ({CACHE})")
    parser.add_argument("--out", type=Path, help="folder of the tables (docs/reproduced; reduced: in the cache)")
    given = parser.parse_args(arguments)
    try:
        data = load(given.data)
    except GraphpruneError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    reduced = bool(given.reduced)
    return Run(
        data=data.reduced() if reduced else data,
        reduced=reduced,
        seeds=tuple(range(given.seeds or (1 if reduced else 3))),
        cache=given.cache,
        out=given.out or (given.cache / "reduced" if reduced else DOCS),
    )


def protocol(run: Run, name: str) -> dict[str, object]:
    """Return what all tables say about how they were made."""
    data = run.data
    parts = f"{len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test images"
    return {
        "data": f"{data.name}: {parts}",
        "dense networks": f"{run.dense_epochs(name)} epochs of AdamW{_how(run, DENSE)}",
        "all other training": f"AdamW{_how(run, TUNED)}",
        "selection": "choices on the validation images, weights of the last epoch, one measurement on the test images",
        "seeds": f"{len(run.seeds)}; mean ± sample standard deviation",
        **({"reduced": "yes: these numbers only show that the script runs"} if run.reduced else {}),
    }


def _how(run: Run, chosen: Mapping[str, Any]) -> str:
    return f", rate {chosen['lr']:g} with a cosine to 0, batches of {run.pick(chosen['batch_size'], 20)}"


def finish(run: Run, table: Table) -> None:
    """Print a table and write it."""
    print(table.markdown())
    table.write(run.out)
    print(f"wrote {run.out / table.name}.md and .json", file=sys.stderr)
