"""The synthetic check of the methods' notes: 300 random ReLU neurons, 10 outputs, uniform inputs, no training."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.coresets.refit import solve
from graphprune.coresets.sampling import sample

UNITS, INPUTS, OUTPUTS, SEEDS = 300, 20, 10, 15
NOTED = {30: (9.6, 2.9, 1.6), 100: (4.8, 2.4, 1.0), 200: (2.9, 1.7, 0.38), 285: (1.7, 0.63, 0.04)}
"""Kept → median of the largest error: sampled and reweighed, sampled as they are, sampled and refit."""


def errors(kept: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The largest error over inputs and outputs, medians over seeds, scaled to outputs of RMS 0.94 as in the notes."""
    found = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((UNITS, INPUTS)) / np.sqrt(INPUTS)
        weights = rng.standard_normal((OUTPUTS, UNITS))
        values = np.maximum(rng.uniform(-1, 1, (500, INPUTS)) @ rows.T, 0)
        wanted = values @ weights.T
        drawn = sample(np.abs(weights).max(axis=0) * np.linalg.norm(rows, axis=1), (seed,))
        scale, units = drawn.weights(kept), np.sort(drawn.order[:kept])
        refit = solve(values, values[:, units], weights, units, 1e-6, centred=False).weights
        unit = 0.94 / np.sqrt(np.square(wanted).mean())
        ways = (values @ (weights * scale).T, values[:, units] @ weights[:, units].T, values[:, units] @ refit.T)
        found.append([unit * np.abs(way - wanted).max() for way in ways])
    return np.median(found, axis=0)


@pytest.mark.parametrize("kept", sorted(NOTED))
def test_reweighing_is_the_worst_and_refitting_the_best(kept: int) -> None:
    reweighed, plain, refit = errors(kept)
    assert reweighed > 1.5 * plain
    assert plain > 1.5 * refit
    for mine, noted in zip((reweighed, plain), NOTED[kept], strict=False):
        assert noted / 2.5 < mine < noted * 2.5


def test_errors_fall_with_the_units_kept() -> None:
    table = np.array([errors(kept) for kept in sorted(NOTED)])
    assert (np.diff(table, axis=0) < 0).all()
