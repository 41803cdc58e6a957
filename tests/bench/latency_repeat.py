"""Does a budget of latency hold? Prune again and again, and time every result by itself afterwards.

    python tests/bench/latency_repeat.py MODEL.onnx [MODEL.onnx ...] [--budget 0.5] [--times 10] [--threads 1]

What is counted is a timing that the pruning knew nothing of: other sessions, other random inputs.
At least nine of ten results are to be within the budget.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import graphprune as gp
from graphprune.latency.clock import Effort, interleaved
from graphprune.latency.inputs import inputs_for
from graphprune.latency.machine import Machine


def main() -> None:
    """Print every repetition, and how many were within the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    found = {str(p): [once(p, given.budget, k, given.threads) for k in range(given.times)] for p in given.models}
    for path, ratios in found.items():
        within = sum(r <= given.budget for r in ratios)
        print(f"{path}: {within} of {len(ratios)} within {given.budget}, from {min(ratios):.3f} to {max(ratios):.3f}")
    if given.report is not None:
        given.report.write_text(json.dumps({"budget": given.budget, "ratios": found}, indent=1), encoding="utf-8")


def once(path: Path, budget: float, number: int, threads: int) -> float:
    """Prune, time the result anew, and return its part of the original's time."""
    small, report = gp.prune(path, budget=f"latency={budget}", threads=threads, seed=number)
    told = report.latency
    assert told is not None
    machine, feeds = Machine(threads=threads), inputs_for(gp.trace(path).source.model, {}, seed=1000 + number)
    effort = Effort(tolerance=0.005, seconds=8.0)
    ratio = interleaved([machine.lap(m, feeds) for m in (path, small)], effort).ratio(1)
    print(
        f"{path.name} {number}: {ratio.median:.4f} ({ratio.low:.3f} .. {ratio.high:.3f}); when pruned "
        f"{told.ratio.median:.4f}, {told.tries} plans, {report.output.macs / report.input.macs:.2f} of the MACs",
        flush=True,
    )
    return ratio.median


if __name__ == "__main__":
    main()
