"""Case 10: shapes computed at run time. Entries read from a tensor follow by themselves, constant ones are edited."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import Coupled, check_equivalence, check_plan, coupled
from onnx_models import Net, initializer, ops_of

from graphprune.coupling import MIXED_SIZES


def size(net: Net, x: str, axis: int) -> str:
    """``x.shape[axis]`` as a vector of one, the way TorchScript spells it."""
    one = net.op("Gather", net.op("Shape", x), net.constant(np.array(axis)), axis=0)
    return net.op("Unsqueeze", one, net.constant(np.array([0])))


def vector(net: Net, *entries: str | int) -> str:
    return net.op("Concat", *(e if isinstance(e, str) else net.constant(np.array([e])) for e in entries), axis=0)


def classifier(entries: list[str | int], batch: int | str = "n") -> Coupled:
    """conv, reshape to (batch, ?) and a linear layer; ``b``, ``c`` stand for sizes read at run time."""
    net = Net()
    x = net.conv(net.input(batch, 3, 4, 4, name="x"), 3, 6, name="conv")
    read = {"b": lambda: size(net, x, 0), "c": lambda: size(net, x, 1)}
    shape = vector(net, *(read[e]() if isinstance(e, str) else e for e in entries))
    return coupled(net.model(net.linear(net.op("Reshape", x, shape), 96, 2, name="fc")))


@pytest.mark.parametrize("entries", [["b", -1], ["b", 96], [-1, 96], [0, -1], [0, 96]])
def test_flattening_with_a_computed_batch(entries: list[str | int]) -> None:
    case = classifier(entries)
    check_equivalence(case.model, others=[{"x": (3, 3, 4, 4)}])
    assert case.group_of("fc.weight", 0) == "conv"


def test_what_follows_by_itself_is_not_touched() -> None:
    case = classifier(["b", -1])
    small = check_plan(case, case.plan(conv=(2, 3)))
    assert ops_of(small) == ops_of(case.model)
    shapes = [
        n for n in small.graph.node if n.op_type in ("Shape", "Gather", "Unsqueeze", "Concat", "Reshape", "Constant")
    ]
    assert [n.SerializeToString() for n in shapes] == [n.SerializeToString() for n in case.model.graph.node[1:-2]]


def test_a_constant_entry_is_edited_where_it_is_stored() -> None:
    case = classifier(["b", 96])
    small = check_plan(case, case.plan(conv=(2, 3)), others=[{"x": (2, 3, 4, 4)}])
    changed = [n for n, old in zip(small.graph.node, case.model.graph.node, strict=True) if n != old]
    assert [n.op_type for n in changed] == ["Constant"]
    assert initializer(small, changed[0].output[0]).tolist() == [32]


def test_a_shape_shared_by_layers_of_other_widths_is_put_together_once_for_each() -> None:
    net = Net()
    x = net.input("n", 4, 3, name="x")
    shape = vector(net, size(net, x, 0), 4, 2, 5)
    parts = [net.op("Reshape", net.linear(x, 3, 10, name=name), shape) for name in "abc"]
    parts = [net.op("Mul", y, net.stored(net.random(2, 1), f"gate{k}")) for k, y in enumerate(parts)]
    parts = [net.linear(net.op("Reshape", y, vector(net, size(net, x, 0), 4, -1)), 10, 2) for y in parts]
    case = check_equivalence(net.model(*parts), others=[{"x": (3, 4, 3)}])
    heads = [case.group_of(f"gate{k}", 0) for k in range(3)]
    small = check_plan(case, case.plan(**{heads[0]: (0,), heads[1]: (1,)}), others=[{"x": (3, 4, 3)}])
    before, after = ops_of(case.model), ops_of(small)
    assert after.count("Concat") == before.count("Concat") + 1, "one for a and b, the old one for c"
    assert {op: after.count(op) for op in set(after) - {"Concat"}} == {
        op: before.count(op) for op in set(before) - {"Concat"}
    }


@pytest.mark.parametrize("last", ["read", "constant", "-1"])
def test_a_shuffle_with_every_size_read_from_the_tensor(last: str) -> None:
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="x"), 3, 12, name="conv")
    b, c, h, w = (size(net, x, k) for k in range(4))
    per_group = net.op("Div", c, net.constant(np.array([3])))
    y = net.op("Reshape", x, vector(net, b, 3, per_group, h, w))
    y = net.transpose(y, 0, 2, 1, 3, 4)
    y = net.op("Reshape", y, vector(net, b, {"read": c, "constant": 12, "-1": -1}[last], h, w))
    case = check_equivalence(net.model(net.conv(y, 12, 2)), others=[{"x": (2, 3, 4, 4)}])
    assert case.size_of("conv.weight", 0) == 12


def test_products_and_quotients_of_sizes() -> None:
    """Tokens to maps and back with h * w and c // heads computed from the shape."""
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="x"), 3, 12, name="conv")
    b, c, h, w = (size(net, x, k) for k in range(4))
    y = net.op("Reshape", x, vector(net, b, c, net.op("Mul", h, w)))
    y = net.transpose(y, 0, 2, 1)
    y = net.op("Reshape", y, vector(net, b, net.op("Mul", h, w), 4, net.op("Div", c, net.constant(np.array([4])))))
    y = net.op("Mul", y, net.stored(net.random(4, 1), "per_head"))
    y = net.op("Reshape", y, vector(net, b, net.op("Mul", h, w), -1))
    case = check_equivalence(net.model(net.linear(y, 12, 2, name="head")), others=[{"x": (3, 3, 4, 4)}])
    assert {case.groups[g].size for g in case.groups_of("conv.weight", 0)} == {3, 4}
    assert case.size_of("per_head", 0) == 4


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_batch_and_heads_merged_into_one_axis(batch: int | str) -> None:
    """bmm attention: (b * heads, t, d) with b * heads computed; its constant factor shrinks with the heads."""
    net = Net()
    x = net.input(batch, 5, 6, name="x")
    b, t = size(net, x, 0), size(net, x, 1)
    merged = net.op("Mul", b, net.constant(np.array([3])))
    q, k, v = (
        folded(net, net.linear(x, 6, 12, name=n), vector(net, b, t, 3, 4), vector(net, merged, t, 4)) for n in "qkv"
    )
    scores = net.op("Softmax", net.op("MatMul", q, net.transpose(k, 0, 2, 1)), axis=-1)
    y = net.op("Reshape", net.op("MatMul", scores, v), vector(net, b, 3, t, 4))
    y = net.op("Reshape", net.transpose(y, 0, 2, 1, 3), vector(net, b, t, 12))
    others = [{"x": (4, 5, 6)}] if batch == "n" else []
    case = check_equivalence(net.model(net.linear(y, 12, 6, name="o")), others=others)
    assert {case.groups[g].size for g in case.groups_of("q.weight", 1)} == {3, 4}


def folded(net: Net, x: str, spread: str, merged: str) -> str:
    return net.op("Reshape", net.transpose(net.op("Reshape", x, spread), 0, 2, 1, 3), merged)


def test_a_shape_taken_whole_from_another_tensor() -> None:
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="x"), 3, 6, name="conv")
    y = net.op("Tanh", net.op("Reshape", x, vector(net, size(net, x, 0), -1)))
    y = net.op("Reshape", y, net.op("Shape", x))
    case = check_equivalence(net.model(net.conv(y, 6, 2)), others=[{"x": (3, 3, 4, 4)}])
    small = check_plan(case, case.plan(conv=(5,)))
    assert ops_of(small) == ops_of(case.model)


def test_a_shape_of_another_tensor_with_other_units_is_mended() -> None:
    """The shape is read from a tensor that is pruned differently from the one it is given to."""
    net = Net()
    image = net.input("n", 3, 4, 4, name="x")
    a, b = net.conv(image, 3, 6, name="a"), net.conv(image, 3, 6, name="b")
    flat = net.op("Reshape", b, vector(net, size(net, b, 0), -1))
    y = net.op("Reshape", net.op("Tanh", flat), net.op("Shape", a))
    case = coupled(net.model(net.conv(y, 6, 2, name="c"), net.conv(a, 6, 2, name="d")))
    check_plan(case, case.plan(a=(0, 1), b=(2, 3, 4)), others=[{"x": (3, 3, 4, 4)}])
    check_plan(case, case.plan(b=(2, 3, 4)), others=[{"x": (3, 3, 4, 4)}])
    check_plan(case, case.plan(a=(2,)), others=[{"x": (3, 3, 4, 4)}])


def test_a_border_of_a_slice_computed_from_the_width() -> None:
    """chunk(2) as TorchScript writes it: (c + 1) // 2 at run time."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="conv")
    half = net.op("Div", net.op("Add", size(net, x, 1), net.constant(np.array([1]))), net.constant(np.array([2])))
    axis, step = net.constant(np.array([1])), net.constant(np.array([1]))
    a = net.op("Slice", x, net.constant(np.array([0])), half, axis, step)
    b = net.op("Slice", x, half, net.op("Mul", half, net.constant(np.array([2]))), axis, step)
    y = net.op("Mul", a, net.op("Sigmoid", b))
    case = check_equivalence(net.model(net.conv(y, 4, 2, name="head")))
    assert case.size_of("head.weight", 1) == 4


def test_chunks_whose_border_no_longer_lies_in_the_middle() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="conv")
    half = net.op("Div", size(net, x, 1), net.constant(np.array([2])))
    a = net.op("Slice", x, net.ints(0), half, net.ints(1))
    b = net.op("Slice", x, half, net.ints(2**62), net.ints(1))
    case = check_equivalence(net.model(net.conv(a, 4, 2, name="a"), net.conv(b, 4, 2, name="b")))
    assert case.group_of("a.weight", 1) != case.group_of("b.weight", 1)
    check_plan(case, case.plan(**{case.group_of("a.weight", 1): (1,)}))


def test_expanding_to_a_shape_read_at_run_time() -> None:
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="x"), 3, 6, name="conv")
    token = net.op("Expand", net.stored(net.random(1, 6, 1, 1), "token"), net.op("Shape", x))
    case = check_equivalence(net.model(net.conv(net.op("Add", token, x), 6, 2)), others=[{"x": (3, 3, 4, 4)}])
    assert case.group_of("token", 1) == "conv"


def test_zeros_of_a_shape_read_at_run_time() -> None:
    """new_zeros(b, 6, 1, 1) in front of a map: padding by concatenation."""
    net = Net()
    x = net.conv(net.input("n", 3, 4, 4, name="x"), 3, 6, name="conv")
    zeros = net.op("ConstantOfShape", vector(net, size(net, x, 0), 6, 1, 4))
    y = net.op("Concat", zeros, x, axis=2)
    case = check_equivalence(net.model(net.conv(y, 6, 2)), others=[{"x": (3, 3, 4, 4)}])
    assert case.size_of("conv.weight", 0) == 6


def test_a_size_of_a_pruned_axis_as_data_stays_the_originals() -> None:
    """x / C with C read from the shape: the original divides by its own C."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    count = net.op("Cast", size(net, x, 1), to=1)
    check_equivalence(net.model(net.conv(net.op("Div", x, count), 6, 2)))


def with_height(mix: Callable[[Net, str, str], str]) -> Coupled:
    """conv, tanh, and a reshape to the map's own sizes, its height computed from the height and the channels."""
    net = Net()
    x = net.conv(net.input("n", 3, "h", 4, name="x"), 3, 6, name="conv")
    c, h = size(net, x, 1), size(net, x, 2)
    y = net.op("Reshape", net.op("Tanh", x), vector(net, size(net, x, 0), -1, mix(net, c, h), 4))
    model = net.model(net.conv(net.conv(y, 6, 5, name="free"), 5, 2))
    sizes = {"x": (1, 3, 4, 4)}
    return check_equivalence(model, sizes, others=[{"x": (2, 3, 7, 4)}])


def constant(net: Net, number: int) -> str:
    return net.constant(np.array([number]))


@pytest.mark.parametrize(
    "mix",
    [
        lambda net, c, h: net.op("Sub", net.op("Add", h, c), constant(net, 6)),
        lambda net, c, h: net.op("Sub", net.op("Add", h, constant(net, 6)), c),
        lambda net, c, h: net.op("Max", h, net.op("Sub", constant(net, 8), c)),
        lambda net, c, h: net.op("Div", net.op("Mul", h, c), constant(net, 6)),
        lambda net, c, h: net.op("Add", h, net.op("Mod", constant(net, 6), c)),
    ],
    ids=["sum", "difference", "greatest", "quotient", "remainder"],
)
def test_a_size_mixed_with_one_that_follows_the_input_is_frozen(mix: Callable[[Net, str, str], str]) -> None:
    """No factor makes up for a term: what the sum gives after pruning is right at one input size only."""
    case = with_height(mix)
    assert case.why_frozen("conv.weight", 0) == MIXED_SIZES
    assert list(case.groups) == ["free"]


@pytest.mark.parametrize(
    "mix",
    [
        lambda net, c, h: net.op("Div", net.op("Mul", h, c), c),
        lambda net, c, h: net.op("Sub", net.op("Add", h, constant(net, 6)), constant(net, 6)),
    ],
    ids=["cancelled", "not in it"],
)
def test_a_size_that_leaves_no_term_behind_is_not_frozen(mix: Callable[[Net, str, str], str]) -> None:
    assert list(with_height(mix).groups) == ["conv", "free"]


def test_sizes_that_cancel_unless_they_are_pruned_apart_are_frozen() -> None:
    net = Net()
    image = net.input("n", 3, "h", 4, name="x")
    a, b = net.conv(image, 3, 6, name="a"), net.conv(image, 3, 6, name="b")
    height = net.op("Sub", net.op("Add", size(net, a, 2), size(net, a, 1)), size(net, b, 1))
    y = net.op("Reshape", a, vector(net, size(net, a, 0), -1, height, 4))
    model = net.model(net.conv(y, 6, 2, name="c"), net.conv(net.conv(b, 6, 5, name="free"), 5, 2))
    case = check_equivalence(model, {"x": (1, 3, 4, 4)}, others=[{"x": (2, 3, 7, 4)}])
    assert [case.why_frozen(f"{name}.weight", 0) for name in "ab"] == [MIXED_SIZES, MIXED_SIZES]
    assert list(case.groups) == ["free"]


def test_the_whole_shape_as_an_output_freezes_what_it_shows() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    seen = net.op("Shape", x, name="seen")
    y = net.conv(net.conv(x, 6, 5, name="free"), 5, 2)
    case = check_equivalence(net.model(y, "seen", seen=7))
    assert list(case.groups) == ["free"]
    assert seen
