"""Case 6: heads and head dimensions, however the queries, keys and values are made; the scale stays the original's."""

from __future__ import annotations

import numpy as np
import pytest
from attention_nets import TOKENS, WIDTH, attend, heads_of, output, runtime_scale
from checks import Coupled, check_equivalence, check_plan, coupled, kept_indices
from onnx_models import Net, initializer


def separate(scale: str = "", batch: int | str = 1) -> Coupled:
    """q and k of 3 heads of 4, v of 3 heads of 5."""
    net = Net()
    x = net.input(batch, TOKENS, WIDTH, name="x")
    first = 1 if batch == 1 else 0
    q, k = (heads_of(net, x, 3, 4, name, batch=first) for name in "qk")
    v = heads_of(net, x, 3, 5, "v", batch=first)
    y = attend(net, q, k, v, runtime_scale(net, q, scale) if scale else "")
    return coupled(net.model(output(net, y, 3, 5, batch=first)))


def test_separate_projections_couple_heads_with_heads_and_depths_in_pairs() -> None:
    case = separate()
    check_equivalence(case.model)
    (depth,) = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    (value_depth,) = case.groups_of("v.weight", 1) - case.groups_of("q.weight", 1)
    (heads,) = case.groups_of("q.weight", 1) & case.groups_of("v.weight", 1)
    assert [case.groups[g].size for g in (heads, depth, value_depth)] == [3, 4, 5]
    assert [case.groups[g].kind for g in (heads, depth, value_depth)] == ["head", "head-dim", "head-dim"]
    assert case.groups_of("k.weight", 1) == case.groups_of("k.bias", 0) == {heads, depth}
    assert case.groups_of("o.weight", 0) == {heads, value_depth}
    plan = case.plan(**{heads: (0, 2), depth: (1, 3), value_depth: (4,)})
    assert kept_indices(case, plan, "k.weight", 1).tolist() == [1, 3, 9, 11]
    assert kept_indices(case, plan, "o.weight", 0).tolist() == [4, 14]


@pytest.mark.parametrize("spelling", ["sqrt", "pow", "reciprocal", "exp-log"])
def test_a_scale_computed_at_run_time_stays_that_of_the_original_depth(spelling: str) -> None:
    case = separate(spelling)
    check_equivalence(case.model)
    (depth,) = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    check_plan(case, case.plan(**{depth: (2,)}))


def test_a_scale_split_over_queries_and_keys() -> None:
    """scaled_dot_product_attention as TorchScript writes it: the root of the scale on either side."""
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 2, 4, name) for name in "qkv")
    root = net.op("Sqrt", runtime_scale(net, q, "sqrt"))
    y = attend(net, net.op("Mul", q, root), net.op("Mul", k, root), v, net.scalar(1.0))
    case = check_equivalence(net.model(output(net, y, 2, 4)))
    assert len(case.groups) == 3


def test_a_dynamic_batch_is_never_fixed() -> None:
    case = separate("sqrt", "n")
    check_equivalence(case.model, others=[{"x": (4, TOKENS, WIDTH)}])


def fused(pick: str) -> Coupled:
    net = Net()
    qkv = net.linear(net.input(1, TOKENS, WIDTH), WIDTH, 3 * 12, name="qkv")
    if pick == "gather":
        stacked = net.transpose(net.reshape(qkv, 1, TOKENS, 3, 3, 4), 2, 0, 3, 1, 4)
        q, k, v = (net.op("Gather", stacked, net.stored(np.array(i)), axis=0) for i in range(3))
    elif pick == "split stack":
        stacked = net.transpose(net.reshape(qkv, 1, TOKENS, 3, 3, 4), 2, 0, 3, 1, 4)
        q, k, v = (net.op("Squeeze", p, net.ints(0)) for p in net.ops("Split", stacked, outputs=3, axis=0))
    else:
        parts = net.ops("Split", qkv, net.ints(12, 12, 12), outputs=3, axis=-1)
        q, k, v = (heads_of(net, p, 3, 4) for p in parts)
    return coupled(net.model(output(net, attend(net, q, k, v), 3, 4)))


@pytest.mark.parametrize("pick", ["gather", "split stack", "split"])
def test_a_fused_projection_loses_heads_from_its_three_parts_alike(pick: str) -> None:
    case = fused(pick)
    check_equivalence(case.model)
    (heads,) = [g.id for g in case.groups.values() if g.kind == "head"]
    assert case.groups[heads].size == 3
    plan = case.plan(**{heads: (0, 2)})
    block = [*range(4), *range(8, 12)]
    assert kept_indices(case, plan, "qkv.weight", 1).tolist() == [12 * part + i for part in range(3) for i in block]
    assert kept_indices(case, plan, "o.weight", 0).tolist() == block
    depths = [g.size for g in case.groups.values() if g.id != heads]
    assert depths == ([4, 4] if pick == "split" else [4]), "a reshape to (3, heads, d) makes one d of the three"


def test_grouped_queries_by_expand() -> None:
    """Two key/value heads, each for three query heads: repeats are a factor of their own."""
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = heads_of(net, x, 6, 4, "q"), heads_of(net, x, 2, 4, "k"), heads_of(net, x, 2, 4, "v")

    def repeated(y: str) -> str:
        y = net.op("Expand", net.op("Unsqueeze", y, net.ints(2)), net.ints(1, 2, 3, TOKENS, 4))
        return net.reshape(y, 1, 6, TOKENS, 4)

    case = check_equivalence(net.model(output(net, attend(net, q, repeated(k), repeated(v)), 6, 4)))
    (pairs,) = case.groups_of("k.weight", 1) & case.groups_of("v.weight", 1)
    (repeats,) = (case.groups_of("q.weight", 1) & case.groups_of("o.weight", 0)) - {pairs}
    assert [case.groups[pairs].size, case.groups[repeats].size] == [2, 3]
    assert repeats not in case.groups_of("k.weight", 1)
    plan = case.plan(**{pairs: (1,), repeats: (0, 2)})
    rows = [*range(12, 16), *range(20, 24)]
    assert kept_indices(case, plan, "q.weight", 1).tolist() == rows
    assert kept_indices(case, plan, "k.weight", 1).tolist() == [4, 5, 6, 7]


def test_grouped_queries_by_gathering_repeated_heads() -> None:
    """repeat_interleave becomes a Gather with indices 0 0 1 1: a query head lives and dies with its key head."""
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = heads_of(net, x, 4, 3, "q"), heads_of(net, x, 2, 3, "k"), heads_of(net, x, 2, 3, "v")
    k, v = (net.op("Gather", y, net.ints(0, 0, 1, 1), axis=1) for y in (k, v))
    case = check_equivalence(net.model(output(net, attend(net, q, k, v), 4, 3)))
    (heads,) = case.groups_of("q.weight", 1) & case.groups_of("v.weight", 1)
    assert case.groups[heads].size == 2
    assert kept_indices(case, case.plan(**{heads: (1,)}), "q.weight", 1).tolist() == list(range(6, 12))


def test_multi_query_attention_broadcasts_one_head() -> None:
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = heads_of(net, x, 4, 3, "q"), heads_of(net, x, 1, 3, "k"), heads_of(net, x, 1, 3, "v")
    case = check_equivalence(net.model(output(net, attend(net, q, k, v), 4, 3)))
    assert len(case.groups_of("q.weight", 1)) == 2
    assert case.size_of("k.weight", 1) == 3


def test_a_relative_position_bias_table_has_a_column_for_every_head() -> None:
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 3, 4, name) for name in "qkv")
    position = np.arange(TOKENS)[:, None] - np.arange(TOKENS) + TOKENS - 1
    table = net.weight(2 * TOKENS - 1, 3, name="table")
    bias = net.op("Gather", table, net.stored(position.ravel()), axis=0)
    bias = net.transpose(net.reshape(bias, TOKENS, TOKENS, 3), 2, 0, 1)
    y = attend(net, q, k, v, bias=net.op("Unsqueeze", bias, net.ints(0)))
    case = check_equivalence(net.model(output(net, y, 3, 4)))
    heads = case.group_of("table", 1)
    assert case.groups[heads].size == 3
    small = check_plan(case, case.plan(**{heads: (2,)}))
    assert np.array_equal(initializer(small, "table"), initializer(case.model, "table")[:, [2]])


def test_a_learned_temperature_for_every_head() -> None:
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 3, 4, name) for name in "qkv")
    scale = net.op("Exp", net.stored(net.random(3, 1, 1), "temperature"))
    case = check_equivalence(net.model(output(net, attend(net, q, k, v, scale), 3, 4)))
    assert case.groups_of("temperature", 0) < case.groups_of("q.weight", 1)


def test_attention_in_einsums() -> None:
    net = Net()
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (net.reshape(net.linear(x, WIDTH, 12, name=n), 1, TOKENS, 3, 4) for n in "qkv")
    scores = net.op("Softmax", net.op("Einsum", q, k, equation="bshd,bthd->bhst"), axis=-1)
    y = net.op("Einsum", scores, v, equation="bhst,bthd->bshd")
    y = net.op("Einsum", y, net.stored(net.random(3, 4, WIDTH), "o.weight"), equation="bshd, hdm -> bsm")
    case = check_equivalence(net.model(y))
    assert case.groups_of("o.weight", 0) < case.groups_of("q.weight", 1)
    assert case.groups_of("o.weight", 1) < case.groups_of("v.weight", 1)
    assert len(case.groups) == 3


def test_tokens_are_never_removed() -> None:
    """Removing a position of the sequence would change every softmax, though weights have an axis for it."""
    net = Net()
    x = net.op("Add", net.input(1, TOKENS, WIDTH), net.stored(net.random(TOKENS, WIDTH), "position"))
    q, k, v = (heads_of(net, x, 2, 4, name) for name in "qkv")
    case = check_equivalence(net.model(output(net, attend(net, q, k, v), 2, 4)))
    assert not case.groups_of("position", 0)
    assert case.why_frozen("position", 0)
