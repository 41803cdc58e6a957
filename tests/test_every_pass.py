"""The contract: what holds for every registered pass, on every hand-made network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import graphprune.passes
import ml_dtypes
import numpy as np
import pytest
from handmade import NETS, Net
from runnable import RUNNABLE, Runnable

from graphprune import registry
from graphprune.scores import FloatArray, Objective, Scores
from graphprune.scoring import Needs, ScoringPass

PASSES = registry.names()
OPTIONS = {d["name"]: {o["name"] for o in d["options"]} for d in registry.describe()}
FED = {d["name"] for d in registry.describe() if d["needs"] != "nothing"}
KINDS = {**NETS, **RUNNABLE}
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-20, 2.0**20

every_pass = pytest.mark.parametrize("method", PASSES)
weights_alone = pytest.mark.parametrize("method", [m for m in PASSES if m not in FED])
"""Passes that look at parameters only: hand-made nets without a model will do, with weights of any kind."""
every_net = pytest.mark.parametrize(
    ("method", "kind"), [(m, k) for m in PASSES for k in (RUNNABLE if m in FED else NETS)]
)


def scorer(method: str, net: Net | None = None, seed: int = 0) -> ScoringPass:
    """Make a pass: with the seed set where it draws numbers, the net's data where it needs some, a little training."""
    options: dict[str, Any] = {"seed": seed} if "seed" in OPTIONS[method] else {}
    options |= {"epochs": 1} if "epochs" in OPTIONS[method] else {}
    if method in FED and isinstance(net, Runnable):
        return registry.get(method, data=net.data, **options)
    return registry.get(method, **options)


def score(method: str, net: Net, seed: int = 0) -> Scores:
    return scorer(method, net, seed)(*net.args())


def same(left: Mapping[str, FloatArray], right: Mapping[str, FloatArray]) -> bool:
    return set(left) == set(right) and all(np.array_equal(left[name], right[name]) for name in left)


def close(left: Mapping[str, FloatArray], right: Mapping[str, FloatArray], rtol: float) -> bool:
    """Compare to rounding; gradients are sums in single precision, in the order of the parameters."""
    return set(left) == set(right) and all(
        np.allclose(left[name], right[name], rtol=rtol, atol=rtol * right[name].max(initial=0)) for name in left
    )


@every_pass
def test_says_what_it_is(method: str) -> None:
    made = scorer(method)
    assert made.needs in get_args(Needs)
    assert made.summary
    assert "\n" not in made.summary
    assert isinstance(made.scale_equivariant, bool)
    assert made.name in PASSES


@every_pass
def test_its_class_is_there_by_name(method: str) -> None:
    kind = type(scorer(method))
    if kind.__module__.startswith("graphprune.passes."):
        assert kind.__name__ in graphprune.passes.__all__
        assert getattr(graphprune.passes, kind.__name__) is kind


@every_pass
def test_options_are_frozen(method: str) -> None:
    made = scorer(method)
    with pytest.raises(AttributeError):
        made.name = "another"  # type: ignore[misc]
    assert made == scorer(method)


@every_net
def test_one_finite_float64_array_a_group(method: str, kind: str) -> None:
    net = KINDS[kind]()
    scores = score(method, net)
    assert list(scores) == [g.id for g in net.groups]
    assert scores.objective in get_args(Objective)
    for group in net.groups:
        assert scores[group.id].dtype == np.float64
        assert scores[group.id].shape == (group.size,)
        assert np.isfinite(scores[group.id]).all()
        assert (scores[group.id] >= 0).all()


@every_net
def test_same_in_same_out(method: str, kind: str) -> None:
    assert same(score(method, KINDS[kind](), seed=7), score(method, KINDS[kind](), seed=7))


@every_net
def test_parameters_are_left_alone(method: str, kind: str) -> None:
    net, untouched = KINDS[kind](), KINDS[kind]()
    for array in net.parameters.values():
        array.setflags(write=False)
    score(method, net)
    assert not isinstance(net, Runnable) or net.model == KINDS[kind]().model  # type: ignore[attr-defined]
    assert all(np.array_equal(net.parameters[name], array) for name, array in untouched.parameters.items())


@every_net
def test_order_of_parameters_groups_and_members_does_not_matter(method: str, kind: str) -> None:
    expected = score(method, KINDS[kind]())
    for seed in range(3):
        found = score(method, KINDS[kind]().shuffled(seed))
        assert close(found, expected, 1e-5) if method in FED else same(found, expected)


@every_net
def test_order_of_positions_does_not_matter(method: str, kind: str) -> None:
    """They are added up in the order in which they are listed, so the last digit may differ."""
    before, after = score(method, KINDS[kind]()), score(method, KINDS[kind]().permuted(0))
    assert close(after, before, 1e-12)


@pytest.mark.parametrize(
    ("method", "kind"), [(m, k) for m in PASSES if scorer(m).scale_equivariant for k in NETS if m not in FED]
)
@pytest.mark.parametrize("factor", [SMALLEST_SCALE, 4.0, LARGEST_SCALE])
def test_scaling_all_weights_keeps_the_order(method: str, kind: str, factor: float) -> None:
    before, after = score(method, KINDS[kind]()), score(method, KINDS[kind]().mapped(lambda a: a * np.float32(factor)))
    for name in before:
        assert np.array_equal(np.argsort(before[name], kind="stable"), np.argsort(after[name], kind="stable"))


@every_net
def test_removing_a_unit_with_all_zero_weights_costs_nothing(method: str, kind: str) -> None:
    for group in KINDS[kind]().groups:
        for unit in {0, group.size // 2, group.size - 1}:
            dead = score(method, KINDS[kind]().without(group.id, unit))[group.id]
            assert dead[unit] == 0
            assert dead[unit] == dead.min()


@weights_alone
def test_a_unit_with_weights_left_is_not_declared_free(method: str) -> None:
    """One weight in the last member that is looked at keeps its unit from being scored as dead."""
    net = NETS["conv_bn"]().without("channels", 2)
    net.parameters["next"][3, 2, 0, 0] = 1e-3
    if method != "bn":  # its score is gamma's, which is zero
        assert score(method, net)["channels"][2] > 0


@weights_alone
def test_all_zero_group_is_free_and_leaves_the_others_alone(method: str) -> None:
    scores = score(method, NETS["empty"]())
    assert not scores["zero"].any()
    assert scores["live"].all()


@weights_alone
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int8"])
def test_every_number_format_is_scored_by_its_values(method: str, dtype: str) -> None:
    """Weights that all formats hold exactly score the same in all of them."""
    target = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    whole = NETS["residual"]().mapped(lambda a: np.clip(np.round(a * 40), -128, 127).astype(np.float32))
    assert same(score(method, whole.mapped(lambda a: a.astype(target))), score(method, whole))
