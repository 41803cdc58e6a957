from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphprune.passes import Random
from handmade import Net, attention, group, weights

from graphprune.errors import UsageError


def many() -> Net:
    return Net(weights(1, w=(10_000, 1)), (group("g", 10_000, ("w", 0, "producer")),))


def test_uniform_over_units() -> None:
    drawn = np.sort(Random()(*many().args())["g"])
    assert drawn[0] > 0
    assert drawn[-1] <= 1
    steps = (np.arange(10_000) + 0.5) / 10_000
    assert np.abs(drawn - steps).max() < 1.63 / 100  # Kolmogorov-Smirnov at 1 %


def test_another_seed_is_another_order() -> None:
    first, second = (Random(seed)(*many().args())["g"] for seed in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_group_does_not_depend_on_the_others() -> None:
    net = attention()
    alone = replace(net, groups=net.groups[1:2])
    assert np.array_equal(Random(3)(*net.args())["q.k"], Random(3)(*alone.args())["q.k"])


def test_groups_draw_different_numbers() -> None:
    scores = Random()(*attention().args())
    assert len(scores["q.k"]) == len(scores["v.o"])
    assert not np.intersect1d(scores["q.k"], scores["v.o"]).size


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True, None])
def test_a_seed_is_a_count(seed: Any) -> None:
    with pytest.raises(UsageError, match="seed"):
        Random(seed)
