"""(c) Time a node, from 100 to 10,000 nodes: near linear is a column that stays level."""

from __future__ import annotations

from statistics import median

from clock import in_turns
from ours import steps
from synthetic import SHAPES, chain

NODES = (100, 300, 1000, 3000, 10_000)


def main(rounds: int) -> None:
    """Print microseconds a node for every shape and count."""
    print("(c) trace + couple + score + solve + rewrite, microseconds a node")
    print(f"{'nodes':>8s}" + "".join(f"{name:>12s}" for name in SHAPES))
    steps(chain(10))
    for count in NODES:
        models = {name: make(count) for name, make in SHAPES.items()}
        times = in_turns({name: lambda m=model: steps(m) for name, model in models.items()}, rounds)
        each = (median(times[name]) / len(models[name].graph.node) for name in SHAPES)
        print(f"{count:8d}" + "".join(f"{1e6 * value:12.0f}" for value in each), flush=True)
