"""What is said of a budget that is out of reach: what was asked, what is reachable, and how to get lower."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..cost import FloatArray, Metric
from ..errors import BudgetError
from ..groups import FOLDABLE, Groups
from .limits import firm
from .rules import Rules

UNITS: Mapping[Metric, tuple[str, ...]] = {
    "macs": ("", "K", "M", "G"),
    "params": ("", "K", "M", "G"),
    "size": ("B", "KB", "MB", "GB"),
    "memory": ("B", "KB", "MB", "GB"),
    "latency": ("us", "ms", "s"),
}
"""Units that ``--budget`` reads, each a thousand of the one before."""


def unreachable(groups: Groups, rules: Rules, least: FloatArray, asked: Mapping[Metric, float]) -> BudgetError:
    """Say for every metric what was asked and what the smallest permitted widths cost, and how to get lower."""
    full = groups.costs.full
    words, enough = [], []
    for metric, limit in asked.items():
        low = float(groups.costs.evaluate(metric, least))
        reached = low <= firm(groups.costs, metric, limit)
        verdict = "within" if reached else "out of reach"
        words.append(
            f"{metric} at most {_amount(metric, limit)} ({_part(limit, full[metric])} of the original): {verdict}, "
            f"the smallest reachable is {_amount(metric, low)} ({_part(low, full[metric])})"
        )
        if not reached:
            least_part = low / full[metric] if firm(groups.costs, metric, low) == low else low / full[metric] + 1e-9
            enough.append(f"{metric}={np.ceil(1000 * least_part) / 1000:g}")
    start = "the budget is out of reach" if groups.groups else "nothing can be pruned: there are no groups"
    return BudgetError(
        "budget-unreachable", f"{start}; {'; '.join(words)}", where="--budget", hint=_advice(groups, rules, enough)
    )


def _advice(groups: Groups, rules: Rules, enough: list[str]) -> str:
    """Say what makes a budget reachable; what is open already, or would change nothing, is left out."""
    all_of_it = any(limit.endswith("=1") for limit in enough)
    ways = [] if all_of_it else [f"a higher budget, such as {','.join(enough)}"]
    if rules.min_width > 1:
        ways.append("a smaller --min-width")
    if isinstance(rules.multiple, int) and rules.multiple > 1:
        ways.append("a smaller --multiple")
    if not groups.allow_inexact and (groups.layout is None or groups.layout.facts.inexact):
        ways.append("--allow-inexact, which prunes across normalisation too")
    if groups.keep:
        ways.append("fewer --keep patterns")
    if groups.prune:
        ways.append("more kinds by --prune")
    if any(frozen.reason.endswith(FOLDABLE) for frozen in groups.frozen):
        ways.append("the model with its constants folded, say by onnxsim: it makes weights of stored ones as it runs")
    return "try " + ", or ".join(ways) if ways else "graphprune inspect MODEL says what is not pruned, and why"


def _part(value: float, full: float) -> str:
    return f"{value / full:.3g}" if full else "all"


def _amount(metric: Metric, value: float) -> str:
    """Write a cost with a unit that ``--budget`` reads."""
    units, scale = UNITS[metric], 1e6 if metric == "latency" else 1
    power = min(int(np.log10(max(scale * value, 1.0)) // 3), len(units) - 1)
    return f"{scale * value / 1000**power:.4g}{units[power]}"
