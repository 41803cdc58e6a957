"""ITPruner's published widths: what they cost in our counting, and for which importances they are optimal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
from graphprune.passes.itpruner import Allocation, scores_of

import graphprune as gp
from graphprune.groups import Groups

FOLDER = Path(__file__).parents[1] / "examples" / "reproduce"
NAMES = ("VGG-16, CIFAR-10", "MobileNetV1", "MobileNetV2")
MMAC = {"VGG-16, CIFAR-10": (313.5, 99.5), "MobileNetV1": (569, 149), "MobileNetV2": (301, 219)}
every_net = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def nets() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield import_module("itpruner_nets")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def published(nets: ModuleType) -> dict[str, Any]:
    return {p.name: p for p in nets.CONFIGURATIONS}


@pytest.fixture(scope="module")
def tied(nets: ModuleType, published: dict[str, Any]) -> dict[str, Any]:
    return {name: nets.tied(p) for name, p in published.items()}


def solved(groups: Groups, importance: np.ndarray, allocation: Allocation, limit: float) -> np.ndarray:
    scores = scores_of(groups, dict(zip(groups, importance.tolist(), strict=True)), allocation)
    plan = gp.solve(groups, scores, gp.Budget(macs=limit / groups.costs.full["macs"]), multiple=1)
    assert plan.costs["macs"] <= limit
    return np.array([len(units) for units in plan.keep.values()])


def macs(groups: Groups, widths: np.ndarray) -> float:
    return float(groups.costs.evaluate("macs", widths))


@every_net
def test_published_costs_are_those_of_our_counting(name: str, published: dict[str, Any], tied: dict[str, Any]) -> None:
    """On the network with the published widths, and by the polynomial that was derived at full width."""
    given, groups = published[name], tied[name].groups
    small = given.traced(given.pruned)
    assert macs(groups, groups.sizes) / 1e6 == pytest.approx(MMAC[name][0], abs=0.5 if MMAC[name][0] > 500 else 0.3)
    assert small.costs.full["macs"] / 1e6 == pytest.approx(MMAC[name][1], abs=0.5)
    assert macs(groups, np.array(given.pruned)) == small.costs.full["macs"]
    assert tied[name].widths(given.pruned).tolist() == small.sizes.tolist()
    assert small.costs.full["macs"] <= given.target * 1e6


def test_resnet_50_costs_what_is_published(nets: ModuleType) -> None:
    assert nets.grouped(nets.resnet50(), 224).costs.full["macs"] / 1e6 == pytest.approx(4089, abs=0.5)


@every_net
def test_geometric_returns_the_published_widths_for_their_importances(
    name: str, published: dict[str, Any], tied: dict[str, Any]
) -> None:
    """Importances for which they are the optimum, by the KKT conditions: the widths come back, to the unit."""
    groups, widths = tied[name].groups, np.array(published[name].pruned)
    importance = groups.costs.macs.log_gradient(widths)[0]
    limit = macs(groups, widths) * (1 + 1e-12)
    assert solved(groups, importance, "geometric", limit).tolist() == widths.tolist()
    searched = solved(groups, importance, "log", limit)
    parts = [(importance * np.log(w / groups.sizes)).sum() / importance.sum() for w in (searched, widths)]
    assert parts[1] - 1e-3 <= parts[0] <= parts[1]


@every_net
def test_no_importance_makes_the_published_widths_a_maximum_of_the_linear_problem(
    name: str, published: dict[str, Any], tied: dict[str, Any]
) -> None:
    """Inside the bounds only the gradient of the cost will do as importance, and then the widths are a saddle.

    Along some direction that costs nothing to first order, costs fall to second order. What is solved there is better.
    """
    groups, widths = tied[name].groups, np.array(published[name].pruned)
    part = widths / groups.sizes
    assert ((part > 0) & (part < 1)).all()

    def gradient(at: np.ndarray) -> np.ndarray:
        return groups.costs.macs.log_gradient(at * groups.sizes)[0] / at / 1e6

    step = 1e-4 * np.eye(len(part))
    hessian = np.array([(gradient(part + s) - gradient(part - s)) / 2e-4 for s in step])
    importance = gradient(part)
    along = np.linalg.svd(importance[None])[2][1:]
    curvature = np.linalg.eigvalsh(along @ (hessian + hessian.T) @ along.T)
    assert curvature[0] < -1e-2 * curvature[-1]
    for allocation in ("linear", "continuous"):
        better = solved(groups, importance, allocation, macs(groups, widths))  # type: ignore[arg-type]
        assert importance @ (better / groups.sizes) > importance @ part


@pytest.mark.parametrize("allocation", get_args(Allocation))
@every_net
def test_targets_are_met_with_equal_importances(
    name: str, allocation: Allocation, published: dict[str, Any], tied: dict[str, Any]
) -> None:
    groups, target = tied[name].groups, published[name].target * 1e6
    widths = solved(groups, np.ones(len(groups)), allocation, target)
    assert 0.995 * target <= macs(groups, widths) <= target


@pytest.mark.parametrize("target", [2300, 2000, 1800])
def test_targets_of_resnet_50_are_met(target: float, nets: ModuleType) -> None:
    groups = nets.grouped(nets.resnet50(), 224)
    for allocation in get_args(Allocation):
        widths = solved(groups, np.ones(len(groups)), allocation, target * 1e6)
        assert macs(groups, widths) >= 0.995 * target * 1e6
