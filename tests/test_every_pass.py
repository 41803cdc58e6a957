"""The contract: what holds for every registered pass, on every hand-made network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import get_args

import ml_dtypes
import numpy as np
import pytest
from handmade import NETS, Net

from graphprune import registry
from graphprune.scores import FloatArray, Objective, Scores
from graphprune.scoring import Needs, ScoringPass

PASSES = registry.names()
SEEDED = {d["name"] for d in registry.describe() if "seed" in [o["name"] for o in d["options"]]}
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-20, 2.0**20

every_pass = pytest.mark.parametrize("method", PASSES)
every_net = pytest.mark.parametrize("kind", NETS)


@cache
def scorer(method: str, seed: int = 0) -> ScoringPass:
    """Make a pass, with the seed set where it draws numbers."""
    return registry.get(method, **({"seed": seed} if method in SEEDED else {}))


def score(method: str, net: Net, seed: int = 0) -> Scores:
    return scorer(method, seed)(*net.args())


def same(left: Mapping[str, FloatArray], right: Mapping[str, FloatArray]) -> bool:
    return set(left) == set(right) and all(np.array_equal(left[name], right[name]) for name in left)


@every_pass
def test_says_what_it_is(method: str) -> None:
    made = scorer(method)
    assert made.needs in get_args(Needs)
    assert made.summary
    assert "\n" not in made.summary
    assert isinstance(made.scale_equivariant, bool)
    assert made.name in PASSES


@every_pass
def test_options_are_frozen(method: str) -> None:
    made = scorer(method)
    with pytest.raises(AttributeError):
        made.name = "another"  # type: ignore[misc]
    assert made == scorer.__wrapped__(method)


@every_pass
@every_net
def test_one_finite_float64_array_a_group(method: str, kind: str) -> None:
    net = NETS[kind]()
    scores = score(method, net)
    assert list(scores) == [g.id for g in net.groups]
    assert scores.objective in get_args(Objective)
    for group in net.groups:
        assert scores[group.id].dtype == np.float64
        assert scores[group.id].shape == (group.size,)
        assert np.isfinite(scores[group.id]).all()
        assert (scores[group.id] >= 0).all()


@every_pass
@every_net
def test_same_in_same_out(method: str, kind: str) -> None:
    assert same(score(method, NETS[kind](), seed=7), score(method, NETS[kind](), seed=7))


@every_pass
@every_net
def test_parameters_are_left_alone(method: str, kind: str) -> None:
    net, untouched = NETS[kind](), NETS[kind]()
    for array in net.parameters.values():
        array.setflags(write=False)
    score(method, net)
    assert all(np.array_equal(net.parameters[name], array) for name, array in untouched.parameters.items())


@every_pass
@every_net
def test_order_of_parameters_groups_and_members_does_not_matter(method: str, kind: str) -> None:
    expected = score(method, NETS[kind]())
    assert all(same(score(method, NETS[kind]().shuffled(seed)), expected) for seed in range(3))


@every_pass
@every_net
def test_order_of_positions_does_not_matter(method: str, kind: str) -> None:
    """They are added up in the order in which they are listed, so the last digit may differ."""
    before, after = score(method, NETS[kind]()), score(method, NETS[kind]().permuted(0))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-12)


@pytest.mark.parametrize("method", [m for m in PASSES if scorer(m).scale_equivariant])
@every_net
@pytest.mark.parametrize("factor", [SMALLEST_SCALE, 4.0, LARGEST_SCALE])
def test_scaling_all_weights_keeps_the_order(method: str, kind: str, factor: float) -> None:
    before, after = score(method, NETS[kind]()), score(method, NETS[kind]().mapped(lambda a: a * np.float32(factor)))
    for name in before:
        assert np.array_equal(np.argsort(before[name], kind="stable"), np.argsort(after[name], kind="stable"))


@every_pass
@every_net
def test_removing_a_unit_with_all_zero_weights_costs_nothing(method: str, kind: str) -> None:
    for group in NETS[kind]().groups:
        for unit in {0, group.size // 2, group.size - 1}:
            dead = score(method, NETS[kind]().without(group.id, unit))[group.id]
            assert dead[unit] == 0
            assert dead[unit] == dead.min()


@every_pass
def test_a_unit_with_weights_left_is_not_declared_free(method: str) -> None:
    """One weight in the last member that is looked at keeps its unit from being scored as dead."""
    net = NETS["conv_bn"]().without("channels", 2)
    net.parameters["next"][3, 2, 0, 0] = 1e-3
    if method != "bn":  # its score is gamma's, which is zero
        assert score(method, net)["channels"][2] > 0


@every_pass
def test_all_zero_group_is_free_and_leaves_the_others_alone(method: str) -> None:
    scores = score(method, NETS["empty"]())
    assert not scores["zero"].any()
    assert scores["live"].all()


@every_pass
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int8"])
def test_every_number_format_is_scored_by_its_values(method: str, dtype: str) -> None:
    """Weights that all formats hold exactly score the same in all of them."""
    target = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    whole = NETS["residual"]().mapped(lambda a: np.clip(np.round(a * 40), -128, 127).astype(np.float32))
    assert same(score(method, whole.mapped(lambda a: a.astype(target))), score(method, whole))
