"""The cells of a benchmark of accuracy as Markdown: the best of each in bold, and how often the default is among them.

    python tests/bench/accuracy_table.py CELLS.json

A cell's key is "task|method|part of the MACs|seed", its value the metric, larger is better, or null. Numbers are shown
in per cent of the largest possible metric, means over seeds with their standard deviation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

Cells = Mapping[str, float | None]
Cell = Sequence[float | None]
Rows = dict[str, dict[str, list[float | None]]]
DEFAULT, DATA_FREE = "obs, least-squares", "magnitude, none"
"""What a user gets who names no method, with data and without."""
UNIFORM = "uniform l1"
SAME = 0.005
"""Points within which two cells are the same."""
BLIND = ("onnxsim l2", "onnxsim l2 global", "tp magnitude", "tp bn", UNIFORM)
"""The rivals' rows that see no samples."""
ITEMS = {
    "digits": 10_000, "file types": 400, "speech": 4024, "mobilenet_v2": 1000, "efficientnet_lite0": 1000, "boxes": 545,
    "lines": 2559,
}  # fmt: skip
"""What is right or wrong in a task, for standard errors. Sentences have a cosine instead, which is no such part."""
TOOLS = {"tp": "Torch-Pruning,", "onnxsim": "onnxsim,"}
CRITERIA = {
    "l1": "L1", "l2": "L2", "l2 global": "L2, global", "wanda": "WANDA", "bn": "BN scale", "taylor": "Taylor",
    "hessian": "Hessian",
}  # fmt: skip
WORDS = {"least-squares": "+ repair", "none": "alone", "without data": "+ repair, samples made up"}


def rivals(method: str) -> bool:
    """Tell whether a row is a peer's, or uniform L1."""
    return method.startswith(("onnxsim", "tp ")) or method == UNIFORM


def drawn(method: str) -> bool:
    """Tell whether a row is ours and depends on which samples were drawn."""
    return not rivals(method) and method != DATA_FREE and not method.endswith("without data")


def grid(cells: Cells, task: str) -> Rows:
    """Return the values by method and budget, one a seed, from seed 0 on."""
    found: Rows = {}
    for key, value in sorted(cells.items(), key=lambda item: int(item[0].rpartition("|")[2])):
        name, method, budget, _ = key.split("|")
        if name == task and budget != "1":
            found.setdefault(method, {}).setdefault(budget, []).append(value)
    return found


def tasks_of(cells: Cells) -> list[str]:
    """Return the tasks in the order in which they came."""
    return list(dict.fromkeys(key.split("|")[0] for key in cells))


def mean(cell: Cell) -> float | None:
    """Return the mean over seeds, None where nothing came out."""
    found = [v for v in cell if v is not None]
    return float(np.mean(found)) if found else None


def share(
    cells: Cells, row: str = DEFAULT, against: Callable[[str], bool] = rivals, *, errors: float = 0.0
) -> tuple[int, int]:
    """Return in how many cells a row is best, ties counting, and in how many it and others were tried.

    What does not get there loses to all that does, and what knows nothing any more (0) is never best; where none of the
    others gets there, the row is best if it does.
    ``errors`` is how many standard errors of its own metric it may be behind, where ``ITEMS`` gives one.
    """
    won, all_of = 0, 0
    for task in tasks_of(cells):
        rows = grid(cells, task)
        for budget, cell in rows.get(row, {}).items():
            others = [(m, r[budget]) for m, r in rows.items() if m != row and against(m) and budget in r]
            if not others:
                continue
            behind = [same_draws(cell, other, paired=drawn(row) and drawn(m)) for m, other in others]
            all_of += 1
            slack = errors * standard_error(task, mean(cell)) + 1e-9
            won += (mean(cell) or 0) > 0 and all(b is None or (a is not None and a + slack >= b) for a, b in behind)
    return won, all_of


def same_draws(cell: Cell, other: Cell, *, paired: bool) -> tuple[float | None, float | None]:
    """Return the means of two cells; ``paired`` ones over the draws of samples that both have."""
    count = min(len(cell), len(other)) if paired else None
    return mean(cell[:count]), mean(other[:count])


def beside(cells: Cells, method: str, row: str) -> list[float]:
    """Return by how much a row of ours is ahead of another, in points, in each cell that both get to."""
    ahead = []
    for task in tasks_of(cells):
        rows = grid(cells, task)
        for budget, cell in rows.get(method, {}).items():
            mine, theirs = same_draws(cell, rows.get(row, {}).get(budget, []), paired=drawn(method) and drawn(row))
            if mine is not None and theirs is not None:
                ahead.append(100 * (mine - theirs))
    return ahead


def ours(cells: Cells) -> str:
    """Return how our other methods do beside ``obs``, both repaired and both alone, as Markdown."""
    methods = {key.split("|")[1].partition(", ")[0] for key in cells if ", " in key.split("|")[1]} - {"obs"}
    lines = [
        "| row | beside | cells | ahead | behind | on average | most ahead | most behind |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for repair in ("least-squares", "none"):
        found = {f"{m}, {repair}": beside(cells, f"{m}, {repair}", f"obs, {repair}") for m in methods}
        for method, ahead in sorted(found.items(), key=lambda item: -float(np.mean(item[1] or [-np.inf]))):
            if ahead:
                up, down = (sum(sign * a > SAME for a in ahead) for sign in (1, -1))
                numbers = " | ".join(f"{a:+.2f}" for a in (np.mean(ahead), max(ahead), min(ahead)))
                lines.append(
                    f"| {title(method)} | {title(f'obs, {repair}')} | {len(ahead)} | {up} | {down} | {numbers} |"
                )
    return "\n".join(lines)


def standard_error(task: str, metric: float | None) -> float:
    """Return the standard error of a part of a task's items, 0 where the metric is none."""
    if metric is None or task not in ITEMS:
        return 0.0
    return float(np.sqrt(max(metric * (1 - metric), 0.0) / ITEMS[task]))


def table(cells: Cells) -> str:
    """Return all cells as Markdown, a table a task: rows are methods, columns budgets; and the summary."""
    parts = (f"### {task}\n\n{task_table(cells, task)}\n" for task in tasks_of(cells))
    return "\n".join([*parts, summary(cells), "", ours(cells)])


def summary(cells: Cells) -> str:
    """Return in how many cells the defaults are best, as Markdown."""
    lines = ["| row | best beside | cells | or within a standard error |", "| --- | --- | --- | --- |"]
    for row, words, against in (
        (DEFAULT, "the peers and uniform L1", rivals),
        (DEFAULT, "all other rows, ours too", lambda method: True),
        (DATA_FREE, "the peers without samples and uniform L1", lambda method: method in BLIND),
    ):
        (won, all_of), (nearly, _) = (share(cells, row, against, errors=e) for e in (0, 1))
        if all_of:
            lines.append(f"| {title(row)} | {words} | {won} of {all_of} ({won / all_of:.0%}) | {nearly} of {all_of} |")
    return "\n".join(lines)


def task_table(cells: Cells, task: str) -> str:
    """Return a task's table; rows in which nothing got there are named below it."""
    rows = grid(cells, task)
    budgets = sorted({b for row in rows.values() for b in row}, key=float, reverse=True)
    means = {b: [v for row in rows.values() if (v := mean(row.get(b, []))) is not None] for b in budgets}
    best = {b: max(values, default=np.inf) for b, values in means.items()}
    dense = cells.get(f"{task}|original|1|0")
    lines = ["| part of the MACs | " + " | ".join(f"{float(b):.0%}" for b in budgets) + " |"]
    lines += ["| --- |" + " --- |" * len(budgets)]
    if dense is not None:
        lines.append("| the original |" + f" {100 * dense:.2f} |" * len(budgets))
    nothing = []
    for method in sorted(rows, key=_rank):
        if all(mean(cell) is None for cell in rows[method].values()):
            nothing.append(title(method))
            continue
        texts = [_text(rows[method].get(b), best[b]) for b in budgets]
        lines.append(f"| {title(method)} | " + " | ".join(texts) + " |")
    if nothing:
        lines += ["", f"Does not get to any of these: {'; '.join(nothing)}."]
    return "\n".join(lines)


def title(method: str) -> str:
    """Return what a row is called on paper."""
    name, comma, repair = method.partition(", ")
    if not comma:
        tool, _, rest = method.partition(" ")
        return f"{TOOLS.get(tool, tool)} {CRITERIA.get(rest, rest)}"
    default = {DEFAULT: " (default with data)", DATA_FREE: " (default without)"}.get(method, "")
    return f"`{name}` {WORDS.get(repair, repair)}{default}"


def _rank(method: str) -> tuple[bool, int, bool]:
    """Order rows: repaired ones with the default first, ours alone, made-up samples, uniform, the peers."""
    groups = (", least-squares", ", bias", ", none", ", without data", UNIFORM, "onnxsim", "tp ")
    place = next((k for k, words in enumerate(groups) if words in method), len(groups))
    return (method != DEFAULT, place, not method.startswith("obs,"))


def _text(values: Cell | None, best: float) -> str:
    """Return a cell: per cent, its spread over seeds, bold where it is the best; nothing where it was not run."""
    if values is None:
        return ""
    found = [v for v in values if v is not None]
    if not found:
        return "-"
    spread = f" ± {100 * np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
    text = f"{100 * np.mean(found):.2f}"
    return (f"**{text}**" if np.mean(found) >= max(best - 1e-9, 1e-9) else text) + spread


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
