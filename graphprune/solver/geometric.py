"""A convex allocation: the largest weighted mean of log kept parts within the limits, a geometric programme.

Maximise sum w_g log x_g subject to cost(x) <= limit for every limit and low_g <= x_g <= 1. Costs are posynomials, so
that log cost is convex in log x (Boyd et al., *A Tutorial on Geometric Programming*, 2007, section 2.5): there is one
optimum, and it is found. No group can be emptied, as log x falls without bound.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ..cost import FloatArray
from .continuous import Task

STEPS, GAIN = 30, 1e-6
"""How many programmes follow each other at most, and the gain below which they end."""


def maximise(task: Task) -> FloatArray | None:
    """Return the kept parts at the optimum, shape (groups,), within the limits; None where the solver finds none."""
    import cvxpy as cp

    log = cp.Variable(len(task.low))
    within = [cp.log_sum_exp(exponents @ log + level) <= 0 for exponents, level in _rows(task)]
    scale = task.weight.max(initial=0.0) or 1.0
    problem = cp.Problem(cp.Maximize((task.weight / scale) @ log), [log <= 0, log >= np.log(task.low), *within])
    with warnings.catch_warnings(), suppress(cp.SolverError):
        warnings.simplefilter("ignore")  # an inaccurate solution is moved within the limits like any other
        problem.solve(solver=cp.CLARABEL)
    if log.value is None or not np.isfinite(log.value).all():
        return None
    return task.lowered(np.clip(np.exp(np.asarray(log.value)), task.low, 1.0))


def successive(task: Task, part: FloatArray) -> FloatArray:
    """Return parts of larger sum w_g x_g than those given, where no geometric programme leads further.

    At any x, sum w_g x_g grows at least as the weighted mean of logs with weights w_g x_g, which touches it there: each
    programme's optimum is better than the last (the convex-concave procedure; Lipp and Boyd, *Variations and extension
    of the convex-concave procedure*, 2016).
    """
    for _ in range(STEPS):
        found = maximise(replace(task, weight=task.weight * part))
        if found is None or task.weight @ (found - part) <= GAIN * (task.weight @ part):
            break
        part = found
    return part


def _rows(task: Task) -> list[tuple[Any, FloatArray]]:
    """Return for every limit the exponents of its terms, sparse of shape (terms, groups), and their logs at full size.

    Levels are those of terms divided by the limit, shape (terms,).
    """
    from scipy.sparse import csr_array

    rows, most = task.limits.smooth, task.limits.most
    size = np.append(np.log(task.size), 0.0)
    found = []
    for r in range(rows.rows):
        mine = np.flatnonzero((rows.row == r) & (rows.coefficient > 0))
        factor = rows.factor[mine]
        term = np.repeat(np.arange(len(mine)), factor.shape[1])
        counts = csr_array((np.ones(factor.size), (term, factor.ravel())), shape=(len(mine), rows.n_groups + 1))
        found.append((counts[:, :-1], np.log(rows.coefficient[mine]) + size[factor].sum(axis=1) - np.log(most[r])))
    return found
