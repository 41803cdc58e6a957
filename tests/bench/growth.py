"""(c) Time a node, from 100 to 10,000 nodes: near linear is a column that stays level."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import onnx
from clock import in_turns
from ours import steps, whole
from synthetic import SHAPES, chain

NODES = (100, 300, 1000, 3000, 10_000)


def main(rounds: int) -> None:
    """Print microseconds a node for every shape and count, of the steps and of the whole run."""
    print("(c) trace + couple + score + solve + rewrite, microseconds a node")
    steps(chain(10))
    table(tuple(SHAPES), rounds, lambda model: lambda: steps(model))
    print("    the whole run, from file to file, with verification")
    with tempfile.TemporaryDirectory() as folder:
        table(("normed",), rounds, lambda model: from_file(model, Path(folder)))


def from_file(model: onnx.ModelProto, folder: Path) -> Callable[[], object]:
    """Write the model and return its whole run."""
    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    onnx.save(model, path)
    return lambda: whole(path, folder / "out.onnx")


def table(names: Sequence[str], rounds: int, work: Callable[[onnx.ModelProto], Callable[[], object]]) -> None:
    """Print a line a count of nodes."""
    print(f"{'nodes':>8s}" + "".join(f"{name:>12s}" for name in names))
    for count in NODES:
        models = {name: SHAPES[name](count) for name in names}
        times = in_turns({name: work(model) for name, model in models.items()}, rounds)
        each = (median(times[name]) / len(models[name].graph.node) for name in names)
        print(f"{count:8d}" + "".join(f"{1e6 * value:12.0f}" for value in each), flush=True)


if __name__ == "__main__":
    main(3)
