"""Case 6: the Attention operator of opset 23, folded (3-D) and with heads as an axis (4-D)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_nets import TOKENS, WIDTH, heads_of, output
from checks import Coupled, check_equivalence, check_plan, coupled, kept_indices
from onnx_models import Net, attribute, initializer, node


def folded(heads: int, pairs: int, **attrs: Any) -> Coupled:
    """Queries of ``heads`` x 4, keys of ``pairs`` x 4, values of ``pairs`` x 5."""
    net = Net(opset=23)
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (
        net.linear(x, WIDTH, n * d, name=name) for name, n, d in (("q", heads, 4), ("k", pairs, 4), ("v", pairs, 5))
    )
    y = net.op("Attention", q, k, v, name="attention", q_num_heads=heads, kv_num_heads=pairs, **attrs)
    return coupled(net.model(net.linear(y, heads * 5, WIDTH, name="o")))


@pytest.mark.parametrize("attrs", [{}, {"is_causal": 1}, {"softcap": 2.0}])
def test_folded_heads_and_depths(attrs: dict[str, Any]) -> None:
    case = folded(3, 3, **attrs)
    check_equivalence(case.model)
    (heads,) = case.groups_of("q.weight", 1) & case.groups_of("v.weight", 1)
    (depth,) = case.groups_of("q.weight", 1) - {heads}
    (value_depth,) = case.groups_of("v.weight", 1) - {heads}
    assert [case.groups[g].size for g in (heads, depth, value_depth)] == [3, 4, 5]
    assert case.groups_of("o.weight", 0) == {heads, value_depth}


def test_a_scale_derived_from_the_depth_is_written_out_when_the_depth_shrinks() -> None:
    case = folded(2, 2)
    (heads,) = case.groups_of("q.weight", 1) & case.groups_of("v.weight", 1)
    (depth,) = case.groups_of("q.weight", 1) - {heads}
    small = check_plan(case, case.plan(**{depth: (0,)}))
    assert np.isclose(attribute(node(small, "attention"), "scale"), 0.5)
    small = check_plan(case, case.plan(**{heads: (1,)}))
    assert [a.name for a in node(small, "attention").attribute] == ["kv_num_heads", "q_num_heads"]
    assert attribute(node(small, "attention"), "q_num_heads") == 1


def test_a_scale_that_was_given_stays() -> None:
    case = folded(2, 2, scale=0.3)
    check_equivalence(case.model)
    (depth,) = case.groups_of("q.weight", 1) - case.groups_of("v.weight", 1)
    small = check_plan(case, case.plan(**{depth: (3,)}))
    assert np.isclose(attribute(node(small, "attention"), "scale"), 0.3)


def test_grouped_queries() -> None:
    case = folded(6, 2)
    check_equivalence(case.model)
    (pairs,) = case.groups_of("k.weight", 1) & case.groups_of("v.weight", 1)
    (repeats,) = (case.groups_of("q.weight", 1) & case.groups_of("o.weight", 0)) - {pairs}
    assert [case.groups[pairs].size, case.groups[repeats].size] == [2, 3]
    plan = case.plan(**{pairs: (1,), repeats: (0, 1)})
    small = check_plan(case, plan)
    assert kept_indices(case, plan, "q.weight", 1).tolist() == list(range(12, 20))
    assert attribute(node(small, "attention"), "q_num_heads") == 2
    assert attribute(node(small, "attention"), "kv_num_heads") == 1


@pytest.mark.parametrize("pairs", [4, 2])
def test_heads_as_an_axis(pairs: int) -> None:
    net = Net(opset=23)
    x = net.input("n", TOKENS, WIDTH, name="x")
    q = heads_of(net, x, 4, 3, "q", batch=0)
    k, v = heads_of(net, x, pairs, 3, "k", batch=0), heads_of(net, x, pairs, 2, "v", batch=0)
    y = net.op("Attention", q, k, v, name="attention")
    case = check_equivalence(net.model(output(net, y, 4, 2, batch=0)), others=[{"x": (3, TOKENS, WIDTH)}])
    (heads,) = case.groups_of("k.weight", 1) & case.groups_of("v.weight", 1)
    assert case.groups[heads].size == pairs


def test_a_bias_table_for_every_head() -> None:
    net = Net(opset=23)
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 3, 4, name) for name in "qkv")
    bias = net.stored(net.random(1, 3, TOKENS, TOKENS), "bias")
    case = check_equivalence(net.model(output(net, net.op("Attention", q, k, v, bias), 3, 4)))
    heads = case.group_of("bias", 1)
    small = check_plan(case, case.plan(**{heads: (2,)}))
    assert initializer(small, "bias").shape == (1, 1, TOKENS, TOKENS)


def test_a_mask_without_heads_broadcasts() -> None:
    net = Net(opset=23)
    x = net.input(1, TOKENS, WIDTH)
    q, k, v = (heads_of(net, x, 3, 4, name) for name in "qkv")
    mask = net.stored(np.tril(np.ones((TOKENS, TOKENS), bool)))
    case = check_equivalence(net.model(output(net, net.op("Attention", q, k, v, mask), 3, 4)))
    assert len(case.groups) == 3
