"""Case 6: rotary embeddings tie the two halves, or the two of a pair, of every head dimension."""

from __future__ import annotations

import numpy as np
import pytest
from attention_nets import TOKENS, WIDTH, attend, heads_of, output, rotate_halves, rotate_pairs, size_at_runtime
from checks import check_equivalence, kept_indices
from onnx_models import Net


@pytest.mark.parametrize("rotate", [rotate_halves, rotate_pairs])
def test_rotated_dimensions_live_in_pairs(rotate) -> None:  # type: ignore[no-untyped-def]
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 2, 6, name) for name in "qkv")
    case = check_equivalence(net.model(output(net, attend(net, rotate(net, q, 6), rotate(net, k, 6), v), 2, 6)))
    (pairs,) = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    assert case.groups[pairs].size == 3
    kept = kept_indices(case, case.plan(**{pairs: (1,)}), "k.weight", 1).tolist()
    assert kept == ([1, 4, 7, 10] if rotate is rotate_halves else [2, 3, 8, 9])
    (values,) = case.groups_of("v.weight", 1) - case.groups_of("q.weight", 1)
    assert case.groups[values].size == 6, "values are not rotated"


def test_a_rotation_of_some_dimensions_only() -> None:
    """GPT-NeoX turns the first quarter of a head and passes the rest."""
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 2, 8, name) for name in "qkv")

    def partly(y: str) -> str:
        turning, passing = net.ops("Split", y, net.ints(4, 4), outputs=2, axis=3)
        return net.op("Concat", rotate_halves(net, turning, 4), passing, axis=3)

    case = check_equivalence(net.model(output(net, attend(net, partly(q), partly(k), v), 2, 8)))
    dims = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    assert sorted(case.groups[g].size for g in dims) == [2, 4]


def test_halves_found_at_run_time() -> None:
    """x.shape[-1] // 2 read from the tensor: the border follows the kept depth by itself, or is written out."""
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 2, 6, name) for name in "qkv")

    def rotated(y: str) -> str:
        half = net.op("Div", size_at_runtime(net, y, 3), net.stored(np.array(2)))
        half = net.op("Unsqueeze", half, net.ints(0))
        front = net.op("Slice", y, net.ints(0), half, net.ints(3))
        back = net.op("Slice", y, half, net.ints(2**62), net.ints(3))
        return net.op("Add", y, net.op("Concat", net.op("Neg", back), front, axis=3))

    case = check_equivalence(net.model(output(net, attend(net, rotated(q), rotated(k), v), 2, 6)))
    (pairs,) = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    assert case.groups[pairs].size == 3
