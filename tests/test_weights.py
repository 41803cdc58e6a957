from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from handmade import NETS, Net, group, plain

from graphprune import weights as module
from graphprune.graph import Array
from graphprune.groups import Group
from graphprune.weights import Weights, is_weight, slice_sums

SHAPES = [(7,), (5, 3), (4, 3, 2, 2), (1, 1, 6, 5), (1, 9), (9, 1), (2, 0, 3), (3, 300)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("block", [1, 17, 1 << 16])
def test_slice_sums(shape: tuple[int, ...], power: Literal[1, 2], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    sums = slice_sums(array, power)
    assert len(sums) == len(shape)
    for axis, found in enumerate(sums):
        others = tuple(a for a in range(len(shape)) if a != axis)
        np.testing.assert_allclose(found, (np.abs(array.astype(np.float64)) ** power).sum(axis=others), rtol=1e-13)


def test_slice_sums_of_a_scalar_and_of_a_strided_view() -> None:
    assert slice_sums(np.array(3.0)) == ()
    view = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    assert [s.tolist() for s in slice_sums(view, 1)] == [[7, 31], [22, 16]]


def test_a_tensor_that_two_groups_cut_is_read_once() -> None:
    net = plain()
    graph, groups = net.args()
    reads: list[str] = []

    def read(name: str) -> Array:
        reads.append(name)
        return net.parameters[name]

    counted = Weights(replace(graph, parameter=read))
    for g in groups.values():
        counted.table(g)
        counted.dead(g)
    assert sorted(reads) == sorted(net.parameters)


def test_dead_units_own_weights_and_all_are_zero() -> None:
    net = NETS["conv_bn"]().without("channels", 1).without("channels", 4)
    net.parameters["conv"][2] = 0
    graph, groups = net.args()
    assert np.flatnonzero(Weights(graph).dead(groups["channels"])).tolist() == [1, 4]


def test_units_without_weights_are_not_dead() -> None:
    net = Net({"index": np.zeros(3, np.int64)}, (group("g", 3, ("index", 0, "other")), Group("h", "channel", 2, ())))
    graph, groups = net.args()
    assert not any(Weights(graph).dead(g).any() for g in groups.values())


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", True), ("float8e4m3fn", True), ("bfloat16", True), ("int4", True), ("uint8", True), ("int32", True),
     ("int64", False), ("uint64", False), ("bool", False), ("complex64", False), ("string", False)],
)  # fmt: skip
def test_what_a_weight_is(dtype: str, expected: bool) -> None:
    assert is_weight(dtype) is expected
