"""Intervals of activations against the functions themselves, as torch computes them, on a fine grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from graphprune.coresets.activations import RULES, prelu
from graphprune.coresets.reach import Linear, Reach

LOW, HIGH = np.array([-3.0, -0.5, 0.0, 0.25, -8.0]), np.array([2.0, 4.0, 1.0, 7.0, -0.1])
CASES: list[tuple[str, dict[str, Any], Callable[[Tensor], Tensor]]] = [
    ("relu", {}, F.relu),
    ("relu6", {}, F.relu6),
    ("hardtanh", {"min_val": 0.0, "max_val": 6.0}, F.relu6),
    ("clamp", {"min": -0.2}, lambda x: x.clamp(min=-0.2)),
    ("sigmoid", {}, torch.sigmoid),
    ("tanh", {}, torch.tanh),
    ("softplus", {}, F.softplus),
    ("elu", {"alpha": 0.5}, lambda x: F.elu(x, 0.5)),
    ("selu", {}, F.selu),
    ("leakyrelu", {"negative_slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    ("leakyrelu", {"alpha": -0.3}, lambda x: F.leaky_relu(x, -0.3)),
    ("gelu", {}, F.gelu),
    ("gelu", {}, lambda x: F.gelu(x, approximate="tanh")),
    ("silu", {}, F.silu),
    ("quickgelu", {}, lambda x: x * torch.sigmoid(1.702 * x)),
    ("hardswish", {}, F.hardswish),
    ("hardsigmoid", {}, F.hardsigmoid),
    ("hardsigmoid", {"world": "onnx"}, lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    ("mish", {}, F.mish),
    ("softsign", {}, F.softsign),
    ("exp", {}, torch.exp),
    ("erf", {}, torch.erf),
    ("abs", {}, torch.abs),
    ("square", {}, torch.square),
    ("neg", {}, torch.neg),
    ("thresholdedrelu", {"alpha": 0.3}, lambda x: x * (x > 0.3)),
]
FITS = {"relu", "relu6", "hardtanh", "sigmoid", "softplus", "exp", "hardsigmoid", "thresholdedrelu"}
"""Non-negative and non-decreasing."""


def grid() -> Tensor:
    return torch.from_numpy(np.linspace(LOW, HIGH, 4001))


@pytest.mark.parametrize(("op", "attributes", "function"), CASES)
def test_values_stay_within(op: str, attributes: dict[str, Any], function: Callable[[Tensor], Tensor]) -> None:
    found = RULES[op](Reach(LOW, HIGH), attributes)
    values = function(grid()).numpy()
    assert (values.min(axis=0) >= found.low - 1e-9).all()
    assert (values.max(axis=0) <= found.high + 1e-9).all()
    if found.monotone:
        assert np.allclose(values.max(axis=0), found.high, atol=1e-3)
        assert np.allclose(values.min(axis=0), found.low, atol=1e-3)
        rises = op != "neg"  # a negated row is a row
        assert not rises or (np.diff(values, axis=0) >= -1e-12).all()


@pytest.mark.parametrize(("op", "attributes", "function"), CASES)
def test_the_theorems_assumptions_are_read_off(
    op: str, attributes: dict[str, Any], function: Callable[[Tensor], Tensor]
) -> None:
    found = RULES[op](Reach(np.full(3, -3.0), np.full(3, 3.0)), attributes)
    assert (found.monotone and found.non_negative) == (op in FITS)


def test_prelu_takes_the_worst_slope() -> None:
    found = prelu(Reach(LOW, HIGH), -0.5, 0.25)
    x = grid()
    for slope in (-0.5, 0.0, 0.25):
        values = torch.where(x < 0, slope * x, x).numpy()
        assert (values.min(axis=0) >= found.low - 1e-12).all()
        assert (values.max(axis=0) <= found.high + 1e-12).all()
    assert not found.monotone
    assert prelu(Reach(LOW, HIGH), 0.1, 0.25).monotone


def test_a_batch_norm_is_folded_into_the_row() -> None:
    rng = np.random.default_rng(0)
    rows, bias, scale, shift = rng.standard_normal((4, 3)), *rng.standard_normal((3, 4))
    found = Reach.of_rows(Linear(1.5, np.square(rows).sum(axis=1), bias), 0).scaled(scale, shift)
    folded = np.concatenate([rows * scale[:, None], (bias * scale + shift)[:, None]], axis=1)
    assert found.high == pytest.approx(1.5 * np.linalg.norm(folded, axis=1))
    assert found.low == pytest.approx(-found.high)


def test_sums_and_products_hold_their_corners() -> None:
    a, b = Reach(np.array([-1.0]), np.array([2.0])), Reach(np.array([-3.0]), np.array([0.5]))
    assert (a.plus(b).low, a.plus(b).high) == (-4, 2.5)
    assert (a.times(b).low, a.times(b).high) == (-6, 3)
    assert (a.or_else(b).low, a.or_else(b).high) == (-3, 2)
