"""Case 2: dense concatenation, a stream concatenated with itself, split at other borders than it was concatenated."""

from __future__ import annotations

from checks import check_equivalence, check_plan, kept_indices
from onnx_models import Net, initializer


def test_dense_blocks_let_every_layer_have_its_own_width() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 6, 3, name="stem")
    features, width = [x], 6
    for k in range(3):
        joined = net.op("Concat", *features, axis=1) if k else x
        y = net.op("Relu", net.batch_norm(joined, width, name=f"bn{k}"))
        features.append(net.conv(y, width, 4, 3, name=f"layer{k}", bias=False))
        width += 4
    last = net.op("Relu", net.batch_norm(net.op("Concat", *features, axis=1), width, name="bn"))
    case = check_equivalence(net.model(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", last)), width, 5, "fc")))
    groups = ["stem", *(f"layer{k}" for k in range(3))]
    assert list(case.groups) == groups
    assert case.groups_of("fc.weight", 1) == set(groups)
    assert case.groups_of("bn1.gamma", 0) == {"stem", "layer0"}
    plan = case.plan(stem=(0, 5), layer1=(2,))
    assert kept_indices(case, plan, "bn.var", 0).tolist() == [0, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17]


def test_a_stream_concatenated_with_itself_keeps_both_copies_of_a_unit() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="stem")
    case = check_equivalence(net.model(net.conv(net.op("Concat", x, net.op("Neg", x), x, axis=1), 15, 4, name="head")))
    assert case.size_of("head.weight", 1) == 5
    assert kept_indices(case, case.plan(stem=(1, 3)), "head.weight", 1).tolist() == [1, 3, 6, 8, 11, 13]


def test_a_residual_stream_concatenated_with_its_own_past() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 5, name="stem")
    y = net.op("Add", x, net.conv(x, 5, 5, name="block"))
    case = check_equivalence(net.model(net.conv(net.op("Concat", x, y, axis=1), 10, 4, name="head")))
    assert case.groups_of("head.weight", 1) == {"stem"}


def test_split_at_other_borders_than_the_concatenation() -> None:
    net = Net()
    image = net.input(1, 3, 4, 4)
    a, b = net.conv(image, 3, 5, name="a"), net.conv(image, 3, 4, name="b")
    joined = net.op("Concat", a, b, axis=1)
    left, right = net.ops("Split", joined, net.ints(3, 6), outputs=2, axis=1)
    case = check_equivalence(net.model(net.conv(left, 3, 2, name="left"), net.conv(right, 6, 2, name="right")))
    assert sum(g.size for g in case.groups.values()) == 9
    assert case.groups_of("a.weight", 0) & case.groups_of("right.weight", 1)
    assert case.groups_of("left.weight", 1) < case.groups_of("a.weight", 0)


def test_split_halves_added_together_are_coupled_index_by_index() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, name="stem")
    a, b = net.ops("Split", x, outputs=2, axis=1)
    model = net.model(net.conv(net.op("Add", a, net.op("Relu", b)), 4, 2, name="head"))
    case = check_equivalence(model)
    assert case.size_of("stem.weight", 0) == 4
    assert kept_indices(case, case.plan(stem=(1, 2)), "stem.weight", 0).tolist() == [1, 2, 5, 6]


def test_unequal_borders_chain_units_together() -> None:
    """x split 2 + 4, the parts of concat(x[2:], x[:2]) added to x: index i lives with index i + 2 mod 6."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="stem")
    a, b = net.ops("Split", x, net.ints(2, 4), outputs=2, axis=1)
    y = net.op("Add", x, net.op("Concat", b, a, axis=1))
    case = check_equivalence(net.model(net.conv(y, 6, 3, name="head")))
    assert case.size_of("stem.weight", 0) == 2
    assert kept_indices(case, case.plan(stem=(1,)), "head.weight", 1).tolist() == [1, 3, 5]


def test_concatenation_with_the_models_input_freezes_only_that_part() -> None:
    net = Net()
    image = net.input(1, 3, 4, 4)
    x = net.conv(image, 3, 5, name="stem")
    model = net.model(net.conv(net.op("Concat", image, x, axis=1), 8, 2, name="head"))
    case = check_equivalence(model)
    assert case.size_of("head.weight", 1) == 5
    small = check_plan(case, case.plan(stem=(4,)))
    assert initializer(small, "head.weight").shape == (2, 4, 1, 1)


def test_a_learned_token_in_front_of_a_sequence_shares_its_width() -> None:
    net = Net()
    x = net.linear(net.input(1, 5, 3), 3, 8, name="embed")
    token = net.stored(net.random(1, 1, 8), "token")
    y = net.op("Add", net.op("Concat", token, x, axis=1), net.stored(net.random(1, 6, 8), "position"))
    case = check_equivalence(net.model(net.linear(y, 8, 4, name="head")))
    width = case.group_of("embed.weight", 1)
    assert case.group_of("token", 2) == case.group_of("position", 2) == case.group_of("head.weight", 0) == width
