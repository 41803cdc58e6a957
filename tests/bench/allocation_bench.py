"""Compares ITPruner's four allocations on the same networks, importances and budgets.

Run ``python tests/bench/allocation_bench.py [FILE.onnx ...]``: without files on made-up networks of 20, 50, 150 and 300
groups. For every task it prints what each allocation reaches of its own objective, as mean importance-weighted kept
part ("linear", "continuous") or mean importance-weighted log of it ("log", "geometric"), the part of the binding limit
that is used at the true costs, and CPU seconds (the fewer of two runs, without the bound, imports warm). The last lines
are means, with how often each of the two that share an objective is ahead. Widths are free (``multiple=1``) unless
``--aligned``; ``--few`` leaves out the largest networks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from graphprune.passes.itpruner import Allocation, scores_of
from instances import random_groups

import graphprune as gp
from graphprune.groups import Groups

RUNS = 2
BUDGETS = ("macs=0.5", "macs=0.25", "macs=0.5,params=0.6", "macs=0.5,memory=0.8")
ALLOCATIONS: tuple[Allocation, ...] = get_args(Allocation)
PAIRS: tuple[tuple[Allocation, Allocation], ...] = (("linear", "continuous"), ("log", "geometric"))


def importances(groups: Groups, seed: int, spread: float = 1.0) -> dict[str, float]:
    """Draw importances as exp(-beta r) makes them, the largest 1."""
    drawn = np.exp(-spread * np.random.default_rng(seed).standard_normal(len(groups)))
    return dict(zip(groups, (drawn / drawn.max()).tolist(), strict=True))


def reached(plan: gp.Plan, importance: Mapping[str, float], allocation: Allocation) -> float:
    """Return the objective of an allocation at a plan's widths."""
    part = {name: len(units) / plan.sizes[name] for name, units in plan.keep.items()}
    log = allocation in ("log", "geometric")
    total = sum(w * (np.log(part[n]) if log else part[n]) for n, w in importance.items())
    return float(total / sum(importance.values()))


@dataclass(frozen=True)
class Outcome:
    objective: float
    used: float
    seconds: float


def outcome(
    groups: Groups, importance: Mapping[str, float], allocation: Allocation, budget: str, multiple: Any
) -> Outcome:
    """Solve one task."""
    scores, goal = scores_of(groups, importance, allocation), gp.Budget.parse(budget)
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        plan = gp.solve(groups, scores, goal, multiple=multiple, bound=False)
        times.append(time.process_time() - start)
    used = max(plan.costs[m] / limit for m, limit in goal.limits(groups.costs.full).items())
    assert used <= 1, (allocation, budget, used)
    return Outcome(reached(plan, importance, allocation), used, min(times))


def tasks(files: list[str], *, few: bool) -> Iterator[tuple[str, Groups]]:
    """Yield networks by name."""
    for file in files:
        yield Path(file).name.partition(".")[0], gp.couple(gp.trace(file))
    if not files:
        for count in (20, 50, 150) if few else (20, 50, 150, 300):
            for family in ("chain", "residual", "concat"):
                yield f"{family} {count}", random_groups(0, count, [64, 128, 256], family)  # type: ignore[arg-type]


def main(arguments: list[str]) -> None:
    """Print the table and the means."""
    multiple: Literal["auto"] | int = "auto" if "--aligned" in arguments else 1
    files = [a for a in arguments if not a.startswith("-")]
    print(f"{'network':22s} {'groups':>6s} {'budget':20s}" + "".join(f" | {a:^24s}" for a in ALLOCATIONS))
    found: dict[Allocation, list[Outcome]] = {a: [] for a in ALLOCATIONS}
    for name, groups in tasks(files, few="--few" in arguments):
        for seed, budget in enumerate(BUDGETS):
            importance = importances(groups, seed)
            line = f"{name:22s} {len(groups):6d} {budget:20s}"
            for allocation in ALLOCATIONS:
                one = outcome(groups, importance, allocation, budget, multiple)
                found[allocation].append(one)
                line += f" | {one.objective:8.5f} {100 * one.used:6.2f}% {one.seconds:6.2f}s"
            print(line, flush=True)
    for allocation, all_of in found.items():
        means = [float(np.mean([getattr(o, what) for o in all_of])) for what in ("objective", "used", "seconds")]
        print(f"{allocation:12s} objective {means[0]:.5f}, used {100 * means[1]:.2f}%, {means[2]:.3f} s")
    for one_of, other_of in PAIRS:
        gain = np.array([a.objective - b.objective for a, b in zip(found[one_of], found[other_of], strict=True)])
        words = f"by {np.abs(gain).max():.5f} at most"
        print(f"{one_of} ahead of {other_of} in {(gain > 1e-9).sum()}, behind in {(gain < -1e-9).sum()}, {words}")


if __name__ == "__main__":
    main(sys.argv[1:])
