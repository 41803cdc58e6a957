"""Times the solver on made-up networks of 20, 100 and 300 groups of 64 widths, with and without the bound.

Run ``python tests/bench/solve_bench.py``. Prints milliseconds (the fastest of several runs, imports warm), the part of
the binding limit that is used, and the gap to the bound.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from instances import Family, random_groups, random_scores

from graphprune.budget import Budget
from graphprune.scores import Objective
from graphprune.solver.solve import solve

RUNS = 5


def fastest(call: Callable[[], object]) -> float:
    """Return the shortest of several runs in milliseconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def row(count: int, family: Family, objective: Objective, budget: str) -> str:
    """Solve one task and describe it in a line."""
    groups = random_groups(0, count, [64], family)
    scores = random_scores(groups, 0, objective)
    goal = Budget.parse(budget)
    plan = solve(groups, scores, goal, multiple=1)
    bare = fastest(lambda: solve(groups, scores, goal, multiple=1, bound=False))
    full = fastest(lambda: solve(groups, scores, goal, multiple=1))
    used = max(plan.costs[m] / limit for m, limit in goal.limits(groups.costs.full).items())
    numbers = f"{bare:9.1f} {full:9.1f} {100 * used:8.2f} {100 * (plan.gap or 0):7.2f}"
    return f"{count:6d}  {family:9s} {objective:9s} {budget:20s} {numbers}"


def main() -> None:
    """Print the table."""
    numbers = f"{'ms':>9s} {'+ bound':>9s} {'used %':>8s} {'gap %':>7s}"
    print(f"{'groups':>6s}  {'family':9s} {'objective':9s} {'budget':20s} {numbers}")
    for count in (20, 100, 300):
        for family in ("chain", "residual", "concat"):
            for objective in ("retained", "sum"):
                for budget in ("macs=0.5", "macs=0.5,params=0.6", "macs=0.5,memory=0.8"):
                    print(row(count, family, objective, budget), flush=True)


if __name__ == "__main__":
    main()
