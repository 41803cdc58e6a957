"""Compares ways to choose widths on the same networks of 50 groups, candidate widths, losses and budgets.

Run ``python tests/bench/solver_alternatives.py [--seeds N] [--milp]``. Networks are chains, residual networks,
bottlenecks and inverted bottlenecks with measured latencies whose kernels charge for whole blocks
(``tests/networks.py``); every group has 16 to 64 candidate widths. Losses are drawn scores ("drawn"), linear in the
kept part (ITPruner's objective: "linear") or in its logarithm (a geometric programme's: "log"). All ways end within
every limit. Printed for each way: how far its loss is above the best known lower bound, on average and at worst, for
each kind of loss; the gap it proves itself; and CPU seconds. ``--milp`` adds an integer programme with linearised
products (HiGHS, 60 s an instance).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from instances import random_scores
from networks import SHAPES, alignment, network

from graphprune.budget import Budget
from graphprune.cost import FloatArray
from graphprune.groups import Groups
from graphprune.scores import Scores
from graphprune.solver.allocation import Allocation, allocate
from graphprune.solver.choices import Choices, losses, ranking
from graphprune.solver.dual import Priced
from graphprune.solver.limits import Limits
from graphprune.solver.proof import effort_of, loss_of, proved
from graphprune.solver.rules import Rules
from graphprune.solver.search import search

BUDGETS = ("latency=0.5", "latency=0.5,params=0.5", "latency=0.5,macs=0.5,memory=0.8")
KINDS = ("drawn", "linear", "log")
SECONDS = 10.0
MILP_SECONDS = 60.0


@dataclass(frozen=True)
class Task:
    """An instance: what to choose from within which limits."""

    name: str
    kind: str
    groups: Groups
    limits: Limits
    choices: Choices

    def weights(self, log: bool) -> FloatArray:
        """Return the weight of every group for which a loss linear in the kept part, or its log, fits best."""
        found = []
        for g, size in enumerate(self.groups.sizes):
            mine = slice(self.choices.start[g], self.choices.start[g] + self.choices.count[g])
            part = self.choices.width[mine] / size
            gone = -np.log(part) if log else 1 - part
            found.append(float(gone @ self.choices.loss[mine]) / max(float(gone @ gone), 1e-12))
        return np.array(found)


@dataclass(frozen=True)
class Answer:
    """Widths, CPU seconds, and the lower bound that came with them."""

    widths: FloatArray
    seconds: float
    bound: float | None = None


def tasks(seeds: int) -> Iterator[Task]:
    """Yield the instances."""
    for shape in SHAPES:
        for kind in KINDS:
            for budget in BUDGETS:
                for seed in range(seeds):
                    groups = network(shape, 50, seed)
                    choices = Rules(1, alignment(groups, seed)).choices(groups, tables_of(groups, kind, seed), 10**6)
                    limits = Limits.of(groups.costs, Budget.parse(budget).limits(groups.costs.full))
                    yield Task(f"{shape} {budget} {seed}", kind, groups, limits, limits.worthwhile(choices))


def tables_of(groups: Groups, kind: str, seed: int) -> list[FloatArray]:
    """Return the loss of every width of every group, the largest 1."""
    rng = np.random.default_rng(seed)
    if kind == "drawn":
        scores: Scores = random_scores(groups, seed, "retained")
        tables = [losses(v[ranking(v)], "retained") for v in scores.values()]
    else:
        parts = [np.arange(1, size + 1) / size for size in groups.sizes]
        shapes = [1 - p if kind == "linear" else -np.log(p) for p in parts]
        tables = [rng.lognormal() * np.append(np.inf, s) for s in shapes]
    most = max(float(t[1:].max()) for t in tables)
    return [t / most for t in tables]


def uniform(task: Task) -> FloatArray:
    """Keep the same part of every group, as much as the limits allow."""
    parts = np.linspace(1, 0, 1001)
    for part in parts:
        widths = task.choices.width[task.choices.start + task.choices.find(part * task.choices.most)]
        if task.limits.holds(widths):
            return widths
    return task.choices.least


def greedy(task: Task) -> FloatArray:
    """Lower, a step at a time, the group that loses least for what it frees of the exceeded limits."""
    choices, limits = task.choices, task.limits
    rank = choices.count - 1
    group = np.arange(len(rank))
    while True:
        widths = choices.width[choices.start + rank]
        slack = limits.slack(widths)
        if (slack >= 0).all():
            return widths
        below = choices.start + np.maximum(rank - 1, 0)
        at, change = limits.incidences, limits.changes(widths, choices.width[below][:, None])
        worth = np.where(slack < 0, 1 / limits.most, 0.0)
        freed = -np.add.reduceat(change[:, 0] * worth[at.row], at.first)
        lost = choices.loss[below] - choices.loss[choices.start + rank]
        rate = np.where((rank > 0) & (freed > 0), lost / np.maximum(freed, 1e-300), np.inf)
        if np.isinf(rate).all():
            rate = np.where(rank > 0, lost, np.inf)
        rank = np.where(group == rate.argmin(), rank - 1, rank)


def relaxed(task: Task, kind: str) -> FloatArray:
    """Solve the problem over real widths, round and repair."""
    weight = task.weights(kind == "geometric")
    wanted = Allocation(kind, dict(zip(task.groups, weight.tolist(), strict=True)))  # type: ignore[arg-type]
    return allocate(wanted, task.groups, task.limits, task.choices)[0]


def ours(task: Task, seconds: float | None) -> tuple[FloatArray, float]:
    """Search, and prove: by a fixed amount of work, or for some CPU seconds."""
    effort = effort_of(seconds, time.process_time)
    widths, price = search(task.limits, task.choices)
    return proved(task.limits, task.choices, widths, price, effort, improve=True)


def milp(task: Task) -> tuple[FloatArray, float | None]:
    """State the products as shares of pairs of choices, and let HiGHS branch; the least widths where it finds none."""
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as solve
    from scipy.sparse import coo_array, csr_array, hstack, vstack

    choices, priced = task.choices, Priced.of(task.limits, task.choices, 10**9)
    assert priced is not None
    n, sizes = len(choices.width), [t[0].size for t in priced.tables]
    one_each = coo_array((np.ones(n), (choices.owner, np.arange(n))), shape=(len(choices.start), n + sum(sizes)))
    rows, columns, values, row, pair = [], [], [], 0, n
    for (a, b), table in zip(priced.scopes, priced.tables, strict=True):
        left, right = table.shape[1:]
        index = pair + np.arange(left * right).reshape(left, right)
        for shares, group in ((index, a), (index.T, b)):
            for k, mine in enumerate(shares):
                rows += [row] * (len(mine) + 1)
                columns += [*mine.tolist(), int(choices.start[group]) + k]
                values += [*[1.0] * len(mine), -1.0]
                row += 1
        pair += left * right
    agree = csr_array((values, (rows, columns)), shape=(row, n + sum(sizes)))
    woven = [csr_array(w.T @ t.reshape(len(t), -1)) for t, w in zip(priced.tables, priced.weights, strict=True)]
    costs = hstack([csr_array(priced.alone), *woven])
    matrix = vstack([one_each.tocsr(), agree, costs]).tocsr()
    low = np.concatenate([np.ones(len(choices.start)), np.zeros(row), np.full(len(priced.fixed), -np.inf)])
    high = np.concatenate([np.ones(len(choices.start)), np.zeros(row), 1 - priced.fixed])
    found = solve(
        np.append(choices.loss, np.zeros(sum(sizes))), integrality=np.append(np.ones(n), np.zeros(sum(sizes))),
        bounds=Bounds(0, 1), constraints=LinearConstraint(matrix, low, high),
        options={"time_limit": MILP_SECONDS, "mip_rel_gap": 1e-3},
    )  # fmt: skip
    bound = getattr(found, "mip_dual_bound", None)
    if found.x is None:
        return choices.least, bound
    best = [int(x.argmax()) for x in np.split(found.x[:n], choices.start[1:])]
    return choices.width[choices.start + np.array(best)], bound


WAYS: dict[str, Callable[[Task], FloatArray | tuple[FloatArray, float | None]]] = {
    "uniform widths": uniform,
    "greedy by score per cost": greedy,
    "ITPruner's problem, rounded": lambda task: relaxed(task, "continuous"),
    "geometric programme, rounded": lambda task: relaxed(task, "geometric"),
    "our search alone": lambda task: search(task.limits, task.choices)[0],
    "ours": lambda task: ours(task, None),
    f"ours, {SECONDS:g} s": lambda task: ours(task, SECONDS),
}


def answered(task: Task, way: Callable[[Task], FloatArray | tuple[FloatArray, float | None]]) -> Answer:
    """Run a way on an instance and check that it ends within the limits."""
    start = time.process_time()
    found = way(task)
    seconds = time.process_time() - start
    widths, bound = found if isinstance(found, tuple) else (found, None)
    assert task.limits.holds(widths), task.name
    return Answer(widths, seconds, bound)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--milp", action="store_true")
    options = parser.parse_args()
    ways = {**WAYS, "integer programme, 60 s": milp} if options.milp else WAYS
    above: dict[tuple[str, str], list[float]] = {}
    gaps: dict[str, list[float]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for task in tasks(options.seeds):
        found = {name: answered(task, way) for name, way in ways.items()}
        bound = max(a.bound for a in found.values() if a.bound is not None)
        for name, answer in found.items():
            loss = loss_of(task.choices, answer.widths)
            above.setdefault((name, task.kind), []).append(100 * (loss / bound - 1))
            seconds[name].append(answer.seconds)
            if answer.bound is not None:
                gaps[name].append(100 * (loss - answer.bound) / loss)
        print(f"# {task.name}, {task.kind}: " + ", ".join(f"{g[-1]:.2f}%" for g in gaps.values() if g), flush=True)
    header = "".join(f" {kind + ': mean':>14s} {'worst':>7s}" for kind in KINDS)
    print(f"{'loss above the bound, %':30s}{header} {'gap: mean':>10s} {'worst':>6s} {'CPU s':>7s} {'worst':>6s}")
    for name in ways:
        parts = [above[name, kind] for kind in KINDS]
        line = "".join(f" {np.mean(p):14.2f} {np.max(p):7.2f}" for p in parts)
        gap = f"{np.mean(gaps[name]):10.2f} {np.max(gaps[name]):6.2f}" if gaps[name] else f"{'':10s} {'':6s}"
        print(f"{name:30s}{line} {gap} {np.mean(seconds[name]):7.2f} {np.max(seconds[name]):6.2f}")


if __name__ == "__main__":
    main()
