"""The most importance within quadratic costs, over kept parts instead of whole widths: ITPruner's own problem.

Maximise sum w_g x_g subject to cost(x) <= limit for every limit and low_g <= x_g <= 1 (Zheng et al., arXiv 2108.08532,
who solve it by SLSQP). In log x the limits are convex and the objective is convex too, so a maximum lies on the border
and there may be many: the problem is solved from several starts, with the gradients of the true costs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cost import FloatArray
from .limits import Limits

ROUNDS = 300
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Task:
    """``weight`` (groups,) of the kept parts, ``size`` in units, ``low`` the smallest part allowed: within limits."""

    limits: Limits
    weight: FloatArray
    size: FloatArray
    low: FloatArray

    def used(self, part: FloatArray) -> FloatArray:
        """Return how much of every limit kept parts of shape (groups,) use, shape (rows,): 1 is all of it."""
        return np.asarray(self.limits.smooth(part * self.size) / self.limits.most)

    def used_gradient(self, part: FloatArray) -> FloatArray:
        """Return the derivative of ``used`` by the kept parts, shape (rows, groups)."""
        by_log = self.limits.smooth.log_gradient(part * self.size)
        return np.asarray(by_log / part / self.limits.most[:, None])

    def lowered(self, part: FloatArray) -> FloatArray:
        """Return parts within the limits: those given, or these moved towards the smallest as far as they must be."""
        near, far = 0.0, 1.0
        if (self.used(part) <= 1).all():
            return part
        for _ in range(60):
            middle = (near + far) / 2
            fits = (self.used(part + middle * (self.low - part)) <= 1).all()
            near, far = (near, middle) if fits else (middle, far)
        return np.asarray(part + far * (self.low - part))


def maximise(task: Task, starts: Sequence[FloatArray] = ()) -> FloatArray:
    """Return kept parts of large importance within the limits, shape (groups,): the best that any start leads to.

    Starts are the full widths (the paper's), the smallest parts, and those given.
    """
    full = np.ones_like(task.low)
    found = [task.lowered(full)]
    found += [_climb(task, start) for start in (full, task.low, *starts)]
    values = [float(task.weight @ part) for part in found]
    return found[int(np.argmax(values))]


def _climb(task: Task, start: FloatArray) -> FloatArray:
    """Run SLSQP from a start; what it returns is moved within the limits."""
    from scipy import optimize

    minimize: Any = optimize.minimize
    total = task.weight.sum() or 1.0
    within = {
        "type": "ineq",
        "fun": lambda part: 1.0 - task.used(part),
        "jac": lambda part: -task.used_gradient(part),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps beyond the bounds by a rounding
        result = minimize(
            lambda part: -(task.weight @ part) / total, start, jac=lambda _: -task.weight / total, method="SLSQP",
            bounds=list(zip(task.low, np.ones_like(task.low), strict=True)), constraints=within,
            options={"maxiter": ROUNDS, "ftol": TOLERANCE},
        )  # fmt: skip
    part = np.clip(np.nan_to_num(result.x, nan=0.0), task.low, 1.0)
    return task.lowered(part)
