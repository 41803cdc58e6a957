from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphprune.passes import Magnitude
from handmade import NETS, Net, group, plain, residual, unit_slices

from graphprune import registry
from graphprune.errors import ModelError, UsageError
from graphprune.weights import Power


def powers(net: Net, name: str, norm: int, role: str | None = None) -> np.ndarray[Any, Any]:
    """Sum |w|**norm, member by unit, one weight at a time."""
    chosen = next(g for g in net.groups if g.id == name)
    rows = [[math.fsum(abs(w) ** norm for w in part.tolist()) for part in unit]
            for unit in unit_slices(net, chosen, role)]  # fmt: skip
    return np.array(rows).T


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("norm", [1, 2])
def test_sums_all_weights_of_a_unit(kind: str, norm: int) -> None:
    net = NETS[kind]()
    scores = registry.get(f"l{norm}")(*net.args())
    for g in net.groups:
        np.testing.assert_allclose(scores[g.id], powers(net, g.id, norm).sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("norm", [1, 2])
def test_scales_as_the_power_of_the_norm(norm: Power) -> None:
    before, after = (Magnitude(norm)(*n.args()) for n in (plain(), plain().mapped(lambda a: a * np.float32(4))))
    assert all(np.array_equal(after[name], before[name] * 4**norm) for name in before)


def test_l2_is_the_default_and_names_fix_the_norm() -> None:
    assert registry.get("magnitude") == registry.get("l2") == Magnitude(norm=2)
    assert registry.get("l1", roles="producer") == Magnitude(norm=1, roles="producer")


def test_producers_only() -> None:
    net = residual()
    scores = Magnitude(1, roles="producer")(*net.args())["stream"]
    np.testing.assert_allclose(scores, powers(net, "stream", 1, "producer").sum(axis=0), rtol=1e-13)
    assert (scores < Magnitude(1)(*net.args())["stream"]).all()


def test_producers_only_counts_everything_where_there_are_none() -> None:
    net = Net(residual().parameters, (group("ends", 6, ("head", 0, "consumer")),))
    expected = (net.parameters["head"].astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(Magnitude(roles="producer")(*net.args())["ends"], expected, rtol=1e-13)


def test_running_statistics_do_not_count() -> None:
    net = NETS["conv_bn"]()
    before = Magnitude()(*net.args())["channels"]
    net.parameters["var"][:] *= 100
    net.parameters["gamma"][0] *= 2
    after = Magnitude()(*net.args())["channels"]
    assert np.array_equal(after[1:], before[1:])
    assert after[0] > before[0]


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_members_of_any_size_count_alike(aggregate: Any) -> None:
    net = plain()
    table = powers(net, "first", 2)
    shares = table / table.mean(axis=1, keepdims=True)
    expected = shares.mean(axis=0) if aggregate == "mean" else shares.max(axis=0)
    np.testing.assert_allclose(Magnitude(aggregate=aggregate)(*net.args())["first"], expected, rtol=1e-12)
    grown = replace(net, parameters={**net.parameters, "b": net.parameters["b"] * 1000})
    np.testing.assert_allclose(Magnitude(aggregate=aggregate)(*grown.args())["first"], expected, rtol=1e-6)


def test_a_member_of_zeros_adds_nothing() -> None:
    net = plain()
    net.parameters["a_bias"][:] = 0
    table = powers(net, "first", 2)
    table = table[table.any(axis=1)]
    expected = (table / table.mean(axis=1, keepdims=True)).sum(axis=0) / 4
    np.testing.assert_allclose(Magnitude(aggregate="mean")(*net.args())["first"], expected, rtol=1e-12)


@pytest.mark.parametrize("normalize", ["mean", "max"])
def test_normalised_groups_compare(normalize: Any) -> None:
    net = plain()
    scores = Magnitude(normalize=normalize, objective="sum")(*net.args())
    raw = Magnitude()(*net.args())
    assert scores.objective == "sum"
    for name in raw:
        divisor = getattr(raw[name], normalize)()
        np.testing.assert_allclose(scores[name], raw[name] / divisor, rtol=1e-14)


@pytest.mark.parametrize("normalize", ["mean", "max", "lamp"])
def test_a_group_of_zeros_stays_zero_when_normalised(normalize: Any) -> None:
    assert not Magnitude(normalize=normalize)(*NETS["empty"]().args())["zero"].any()


def test_lamp_normalisation_is_lamp() -> None:
    ours, lamp = Magnitude(normalize="lamp")(*plain().args()), registry.get("lamp")(*plain().args())
    assert all(np.array_equal(ours[name], lamp[name]) for name in lamp)


def test_ranking_groups_together_without_normalising_is_refused() -> None:
    with pytest.raises(UsageError, match="normalize") as caught:
        Magnitude(objective="sum")
    assert caught.value.where == "objective"


@pytest.mark.parametrize(
    "options", [{"norm": 3}, {"norm": "2"}, {"norm": True}, {"roles": "consumer"}, {"aggregate": "median"},
                {"normalize": "zscore"}, {"objective": "best"}]
)  # fmt: skip
def test_a_value_that_is_no_choice_is_refused(options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(UsageError, match="choose one of") as caught:
        Magnitude(**options)
    assert caught.value.where == option


def test_float32_sums_do_not_drift() -> None:
    """A float32 running sum of a million 0.1s is off by a part in a thousand."""
    net = Net({"w": np.full((3, 1 << 20), 0.1, np.float32)}, (group("g", 3, ("w", 0, "producer")),))
    np.testing.assert_allclose(Magnitude(1)(*net.args())["g"], float(np.float32(0.1)) * (1 << 20), rtol=1e-12)


def test_float16_squares_do_not_overflow() -> None:
    net = Net({"w": np.full((2, 4), 300, np.float16)}, (group("g", 2, ("w", 0, "producer")),))
    assert Magnitude()(*net.args())["g"].tolist() == [360_000, 360_000]


def test_int8_minus_128_is_128() -> None:
    net = Net({"w": np.array([[-128, 1], [-1, 0]], np.int8)}, (group("g", 2, ("w", 0, "producer")),))
    assert Magnitude(1)(*net.args())["g"].tolist() == [129, 1]


def test_parameters_that_are_no_weights_are_ignored() -> None:
    others = {"mask": np.ones((2, 4), bool), "places": np.full(2, 9), "phase": np.ones(2, np.complex64)}
    members = [("w", 0, "producer"), *((name, 0, "other") for name in others)]
    net = Net({"w": np.ones((2, 4), np.float32), **others}, (group("g", 2, *members),))  # type: ignore[arg-type]
    assert Magnitude()(*net.args())["g"].tolist() == [4, 4]


def test_activations_are_ignored() -> None:
    """A member may be a tensor that no parameter stands for."""
    net = Net({"w": np.ones((2, 4), np.float32), "x": np.ones((2, 4), np.float32)},
              (group("g", 2, ("w", 0, "producer"), ("x", 0, "other")),))  # fmt: skip
    graph, groups = net.args()
    tensors = {**graph.tensors, "x": replace(graph.tensors["x"], kind="activation")}
    assert Magnitude()(replace(graph, tensors=tensors), groups)["g"].tolist() == [4, 4]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("method", ["magnitude", "lamp", "fpgm"])
def test_weights_that_do_not_add_up_name_the_tensor(method: str, value: float) -> None:
    net = plain().mapped(lambda a: a.astype(np.float64))
    net.parameters["b"][0, 1, 0, 0] = value
    with pytest.raises(ModelError, match="weights") as caught:
        registry.get(method)(*net.args())
    assert caught.value.where == "b"
