"""Plans without a budget: the units that a method itself would keep, with widths made regular."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from ..groups import Group, Groups, IntArray
from ..plan import Plan
from ..scores import Scores
from .choices import permitted, ranking
from .rules import Multiple, Rules


def keep_chosen(
    groups: Groups, scores: Scores, *, min_width: int = 1, multiple: Multiple = "auto", seed: int = 0
) -> Plan:
    """Return the plan that keeps ``scores.chosen``, in every group rounded up to a permitted width.

    The units that are kept beyond those are the best by score. "auto" rounds nothing up: the method has decided.
    ``seed`` is only noted. Raises UsageError where the scores have no choice of their own, and for options out of
    range.
    """
    rules = Rules(min_width, 1 if multiple == "auto" else multiple)
    if scores.chosen is None:
        words, hint = f"{scores.method} does not decide by itself how much to keep", "0.5 keeps half of the MACs"
        raise UsageError("budget-missing", words, where="budget", hint=hint)
    keep = {g.id: tuple(_kept(g, scores, rules).tolist()) for g in groups.groups}
    widths = np.array([len(units) for units in keep.values()], dtype=np.float64)
    return Plan(
        keep=keep,
        sizes={g.id: g.size for g in groups.groups},
        fingerprint=groups.fingerprint,
        method=scores.method,
        seed=seed,
        costs={m: float(groups.costs.evaluate(m, widths)) for m in groups.costs.metrics},
        coupling=groups.options,
    )


def _kept(group: Group, scores: Scores, rules: Rules) -> IntArray:
    """Return the units to keep, ascending: those chosen, and of the others the best as far as the width asks."""
    assert scores.chosen is not None
    chosen = np.asarray(scores.chosen[group.id], dtype=bool)
    order = ranking(np.asarray(scores[group.id]))
    order = order[np.argsort(~chosen[order], kind="stable")]
    widths = permitted(group, rules.min_width, rules.alignment(group, rules.steps[0]))
    width = widths[np.searchsorted(widths, chosen.sum())]
    kept: IntArray = np.sort(order[:width])
    return kept
