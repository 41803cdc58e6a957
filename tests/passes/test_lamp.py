from __future__ import annotations

import numpy as np
import pytest
from graphprune.passes import LAMP
from handmade import NETS, residual, unit_slices

from graphprune.errors import UsageError
from graphprune.scoring import energy_share


def test_shares_by_hand() -> None:
    assert energy_share(np.array([1.0, 4.0, 0.0, 5.0])).tolist() == [0.1, 4 / 9, 0.0, 1.0]


def test_equal_units_get_equal_shares() -> None:
    assert energy_share(np.array([2.0, 1.0, 2.0, 1.0])).tolist() == [1 / 2, 1 / 6, 1 / 2, 1 / 6]


@pytest.mark.parametrize("kind", NETS)
def test_against_the_definition(kind: str) -> None:
    net = NETS[kind]()
    scores = LAMP()(*net.args())
    for group in net.groups:
        energy = np.array([sum((part**2).sum() for part in unit) for unit in unit_slices(net, group)])
        expected = [a / energy[energy >= a].sum() if a > 0 else 0.0 for a in energy]
        np.testing.assert_allclose(scores[group.id], expected, rtol=1e-12)


def test_every_group_keeps_a_unit_of_score_one_whatever_its_scale() -> None:
    net = NETS["plain"]()
    net.parameters["fc"][:] *= 1e6
    scores = LAMP()(*net.args())
    assert scores.objective == "sum"
    assert [scores[name].max() for name in scores] == [1, 1]


def test_producers_only() -> None:
    net = residual()
    slices = unit_slices(net, net.groups[0], "producer")
    expected = energy_share(np.array([sum((part**2).sum() for part in unit) for unit in slices]))
    np.testing.assert_allclose(LAMP(roles="producer")(*net.args())["stream"], expected, rtol=1e-12)


def test_a_role_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="roles"):
        LAMP(roles="consumer")  # type: ignore[arg-type]
