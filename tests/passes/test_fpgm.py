from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphprune.passes import FPGM, fpgm
from handmade import NETS, Net, group, member, plain, unit_slices, weights

from graphprune.scores import FloatArray


def brute_force(net: Net, name: str) -> FloatArray:
    """Compare filters two by two, each tensor divided by its norm."""
    chosen = next(g for g in net.groups if g.id == name)
    wide = tuple(m for m in chosen.members if net.parameters[m.tensor].ndim > 1 and m.role == "producer")
    units = unit_slices(net, replace(chosen, members=wide))
    energy = [sum((unit[i] ** 2).sum() for unit in units) for i in range(len(wide))]
    vectors = [np.concatenate([part / np.sqrt(e) for part, e in zip(u, energy, strict=True) if e > 0]) for u in units]
    return np.array([sum(np.linalg.norm(a - b) for b in vectors) for a in vectors])


NAMES = [("plain", "first"), ("plain", "second"), ("residual", "stream"), ("conv_bn", "channels"),
         ("attention", "heads"), ("attention", "q.k"), ("attention", "v.o"), ("lonely", "one")]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_against_distances_two_by_two(kind: str, name: str) -> None:
    net = NETS[kind]()
    np.testing.assert_allclose(FPGM()(*net.args())[name], brute_force(net, name), rtol=1e-12)


@pytest.mark.parametrize(("cells", "pairs"), [(1, 1), (16, 1 << 23), (1 << 22, 13), (20, 20)])
def test_blocks_of_any_size_agree(cells: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS["residual"]()
    expected = brute_force(net, "stream")
    monkeypatch.setattr(fpgm, "CELLS", cells)
    monkeypatch.setattr(fpgm, "PAIRS", pairs)
    np.testing.assert_allclose(FPGM()(*net.args())["stream"], expected, rtol=1e-12)


def test_distances_by_hand() -> None:
    """Points 0, 3 and 7 on a line: the sums of distances are 10, 7 and 11, over the norm sqrt(58)."""
    net = Net({"w": np.array([[0.0], [3.0], [7.0]])}, (group("g", 3, ("w", 0, "producer")),))
    scores = FPGM()(*net.args())["g"]
    np.testing.assert_allclose(scores[1:] * np.sqrt(58), [7, 11], rtol=1e-12)
    assert scores[0] == 0  # far from the others, but all its weights are zero


def test_redundant_filters_go_before_small_ones() -> None:
    net = Net(weights(1, w=(6, 40)), (group("g", 6, ("w", 0, "producer")),))
    net.parameters["w"][1] = net.parameters["w"][0]
    net.parameters["w"][2] = net.parameters["w"][0]
    scores = FPGM()(*net.args())["g"]
    assert set(np.argsort(scores)[:3]) == {0, 1, 2}


def test_equal_filters_are_at_no_distance() -> None:
    """Equal filters that are not zero: what cancels must cancel wholly, also far from the origin."""
    rows = np.tile(weights(2, w=(1, 300))["w"] + 1000, (5, 1))
    net = Net({"w": rows}, (group("g", 5, ("w", 0, "producer")),))
    assert not FPGM()(*net.args())["g"].any()
    rows[3, 7] += 1
    np.testing.assert_allclose(FPGM()(*net.args())["g"], brute_force(net, "g"), rtol=1e-9)


def test_small_differences_on_a_large_offset_are_exact() -> None:
    net = Net({"w": weights(3, w=(7, 50))["w"].astype(np.float64) + 1e5}, (group("g", 7, ("w", 0, "producer")),))
    np.testing.assert_allclose(FPGM()(*net.args())["g"], brute_force(net, "g"), rtol=1e-9)


def test_every_producer_weighs_the_same() -> None:
    net = NETS["residual"]()
    before = FPGM()(*net.args())["stream"]
    net.parameters["up"][:] *= 1024
    np.testing.assert_allclose(FPGM()(*net.args())["stream"], before, rtol=1e-12)


def test_biases_and_consumers_do_not_count() -> None:
    net = plain()
    before = FPGM()(*net.args())["first"]
    net.parameters["a_bias"][:] *= 9
    net.parameters["b"][0] *= 9
    np.testing.assert_allclose(FPGM()(*net.args())["first"], before, rtol=1e-15)


def test_a_group_without_filters_is_compared_by_what_it_has() -> None:
    biases = Net({"b": np.array([1.0, 2.0, 4.0])}, (group("g", 3, ("b", 0, "producer")),))
    np.testing.assert_allclose(FPGM()(*biases.args())["g"] * np.sqrt(21), [4, 3, 5], rtol=1e-12)
    takers = Net({"w": np.array([[1.0, 2.0, 4.0]])}, (group("g", 3, ("w", 1, "consumer")),))
    np.testing.assert_allclose(FPGM()(*takers.args())["g"] * np.sqrt(21), [4, 3, 5], rtol=1e-12)


def test_units_may_own_different_numbers_of_positions() -> None:
    """A unit that lacks a position is as far from another as if it held zeros there."""
    rows = np.array([[3.0], [5.0], [4.0]])
    net = Net({"w": rows}, (group("g", 2, member("w", 0, "producer", np.array([0, 1, 1]))),))
    distance = np.hypot(5 - 3, 4) / np.sqrt(50)
    np.testing.assert_allclose(FPGM()(*net.args())["g"], [distance, distance], rtol=1e-12)
