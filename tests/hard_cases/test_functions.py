"""Case 15: the model's own functions prune as if their nodes stood in the graph, and stay functions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnx.inliner
import pytest
from bodies import BOOL, Feeds, Weights, body, check, check_plan, function, ints, model_of, op, tensors, value
from checks import Coupled, assert_same_outputs, coupled, make_plan
from onnx import helper

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.errors import ModelError
from graphprune.pipeline.run import prune
from graphprune.plan import Plan


def call(name: str, inputs: list[str], *outputs: str, domain: str = "local", **attrs: object) -> onnx.NodeProto:
    return helper.make_node(name, inputs, list(outputs), name=outputs[0], domain=domain, **attrs)


def x_of(seed: int = 0, *shape: int) -> list[Feeds]:
    return [{"x": np.random.default_rng(seed).standard_normal(shape or (2, 4)).astype(np.float32)}]


def only(case: Coupled, place: tuple[str, int], units: tuple[int, ...]) -> Plan:
    """A plan that cuts the group with this member only."""
    (name,) = [g.id for g in case.groups.values() if place in {(m.tensor, m.axis) for m in g.members}]
    keep = {g.id: tuple(range(g.size)) for g in case.groups.values()} | {name: units}
    return Plan(keep, {g.id: g.size for g in case.groups.values()}, case.groups.fingerprint)


def functions(model: onnx.ModelProto) -> dict[str, onnx.FunctionProto]:
    return {f.name: f for f in model.functions}


# Weights handed over --------------------------------------------------------------------------------------------------

LINEAR = function(
    "Linear", ["a", "w", "b"], ["c"], [op("MatMul", ["a", "w"], "m"), op("Add", ["m", "b"], "c")], domain="my.layers"
)
BLOCK = function(
    "Block", ["a", "w1", "b1", "w2", "b2"], ["c"],
    [
        call("Linear", ["a", "w1", "b1"], "h", domain="my.layers"), op("Relu", ["h"], "r"),
        call("Linear", ["r", "w2", "b2"], "c", domain="my.layers"),
    ],
    domains=["my.layers"],
)  # fmt: skip


def two_blocks(shared_bias: bool = False) -> onnx.ModelProto:
    """Two calls of one function that calls another twice; weights are initializers outside."""
    w = Weights()
    shapes = {"w1": (4, 8), "w2": (8, 5), "w3": (5, 8), "w4": (8, 3), "b1": (8,), "b2": (5,), "b3": (8,), "b4": (3,)}
    third = "b1" if shared_bias else "b3"
    main = [call("Block", ["x", "w1", "b1", "w2", "b2"], "h"), call("Block", ["h", "w3", third, "w4", "b4"], "y")]
    stored = [w.tensor(n, *s) for n, s in shapes.items() if n != "b3" or not shared_bias]
    return model_of(main, [value("x", 2, 4)], [value("y", 2, 3)], stored, [LINEAR, BLOCK])


def test_weights_handed_over_are_cut_outside_and_the_functions_stay() -> None:
    model = two_blocks()
    case = check(model, x_of())
    assert [g.size for g in case.groups.values()] == [8, 5, 8]
    assert case.groups.costs.full["macs"] == 2 * (4 * 8 + 8 * 5 + 5 * 8 + 8 * 3)
    small = rewrite(case.graph, make_plan(case.groups, "random", np.random.default_rng(0)), case.groups)
    assert [f.SerializeToString() for f in small.functions] == [f.SerializeToString() for f in model.functions]
    assert list(small.graph.node) == list(model.graph.node)


def test_a_vector_that_two_calls_share_is_parted_at_the_calls() -> None:
    """Exporters store equal vectors once: each use keeps its own entries."""
    model = two_blocks(shared_bias=True)
    case = coupled(model)
    plan = only(case, ("w1", 1), (0, 3, 5))
    small = check_plan_apart(case, plan)
    assert list(small.functions) == list(model.functions)
    names = [n.input[2] for n in small.graph.node]
    assert len(set(names)) == 2
    sizes = {n: t.dims[0] for n, t in tensors(small).items() if n in names}
    assert sorted(sizes.values()) == [3, 8]


def check_plan_apart(case: Coupled, plan: Plan) -> onnx.ModelProto:
    """As check_plan, where one vector has two values: the plain model with a vector for each use is the reference."""
    apart = onnx.ModelProto()
    apart.CopyFrom(case.model)
    extra = apart.graph.initializer.add()
    extra.CopyFrom(tensors(case.model)["b1"])
    extra.name = apart.graph.node[1].input[2] = "b1.second"
    other = coupled(apart)
    keep = dict(zip(other.groups, plan.keep.values(), strict=True))
    wanted = rewrite(other.graph, Plan(keep, plan.sizes, other.groups.fingerprint), other.groups)
    small = rewrite(case.graph, plan, case.groups)
    onnx.checker.check_model(small, full_check=True)
    for run in x_of():
        assert_same_outputs(small, wanted, run)
    return small


# Weights inside -------------------------------------------------------------------------------------------------------


def with_weights_inside(calls: int, *, sized: bool = False) -> onnx.ModelProto:
    """A function that stores an MLP 4 -> 6 -> 4, called one or more times in a row."""
    w = Weights()
    nodes = [
        w.node("up.w", 4, 6), w.node("up.b", 6), w.node("down.w", 6, 4), op("MatMul", ["a", "up.w"], "m"),
        op("Add", ["m", "up.b"], "n"), op("Relu", ["n"], "r"),
    ]  # fmt: skip
    if sized:  # a shape that says how wide the hidden layer is
        nodes += [ints("shape", -1, 2, 3), op("Reshape", ["r", "shape"], "r3"), op("Tanh", ["r3"], "t3"),
                  ints("back", -1, 6), op("Reshape", ["t3", "back"], "r2")]  # fmt: skip
    nodes.append(op("MatMul", ["r2" if sized else "r", "down.w"], "c"))
    names = ["x", *(f"h{k}" for k in range(1, calls)), "y"]
    main = [call("Mlp", [a], b) for a, b in pairwise(names)]
    return model_of(main, [value("x", 2, 4)], [value("y", 2, 4)], (), [function("Mlp", ["a"], ["c"], nodes)])


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("sized", [False, True])
def test_weights_stored_in_a_function_are_cut_for_all_its_calls(calls: int, sized: bool) -> None:
    model = with_weights_inside(calls, sized=sized)
    case = check(model, x_of())
    assert case.groups_of("up.w", 1) == case.groups_of("down.w", 0)
    assert case.groups.costs.full["macs"] == calls * 2 * 2 * 4 * 6
    small = rewrite(case.graph, make_plan(case.groups, "one-removed", np.random.default_rng(0)), case.groups)
    assert [f.name for f in small.functions] == ["Mlp"]
    assert list(small.graph.node) == list(model.graph.node)
    cut = {
        o for n, old in zip(small.functions[0].node, model.functions[0].node, strict=True) if n != old for o in n.output
    }
    assert cut == {"up.w", "up.b", "down.w"} | ({"shape", "back"} if sized else set())
    _, report = prune(model, budget=0.7)
    assert set(report.kept) == {"up.w", "up.b", "down.w"}


def test_one_name_in_two_functions_is_told_by_the_function() -> None:
    w = Weights()
    made = [
        function(name, ["a"], ["c"], [
            w.node("w", 4, size), op("MatMul", ["a", "w"], "m"), op("Relu", ["m"], "r"), w.node("v", size, 4),
            op("MatMul", ["r", "v"], "c"),
        ])
        for name, size in (("One", 6), ("Two", 7))
    ]  # fmt: skip
    main = [call("One", ["x"], "h"), call("Two", ["h"], "y")]
    _, report = prune(model_of(main, [value("x", 2, 4)], [value("y", 2, 4)], (), made), budget=0.5)
    assert set(report.kept) <= {"One/w", "One/v", "Two/w", "Two/v"}
    assert report.kept


# Calls that want different things ------------------------------------------------------------------------------------


def heads() -> onnx.ModelProto:
    """A function with the shape (0, 0, 2, 4) inside, called for q, k and v: the depths of v are their own."""
    w = Weights()
    split = function(
        "Split",
        ["a"],
        ["c"],
        [ints("shape", 0, 0, 2, 4), op("Reshape", ["a", "shape"], "s"), op("Transpose", ["s"], "c", perm=[0, 2, 1, 3])],
    )
    main = [
        op("MatMul", ["x", "q.w"], "q"), op("MatMul", ["x", "k.w"], "k"), op("MatMul", ["x", "v.w"], "v"),
        call("Split", ["q"], "qh"), call("Split", ["k"], "kh"), call("Split", ["v"], "vh"),
        op("Transpose", ["kh"], "kt", perm=[0, 1, 3, 2]), op("MatMul", ["qh", "kt"], "scores"),
        op("Softmax", ["scores"], "p", axis=-1), op("MatMul", ["p", "vh"], "o"),
        op("Transpose", ["o"], "ot", perm=[0, 2, 1, 3]), ints("flat", 0, 0, -1), op("Reshape", ["ot", "flat"], "of"),
        op("MatMul", ["of", "o.w"], "y"),
    ]  # fmt: skip
    stored = [w.tensor(n, *s) for n, s in {"q.w": (5, 8), "k.w": (5, 8), "v.w": (5, 8), "o.w": (8, 5)}.items()]
    return model_of(main, [value("x", 2, 3, 5)], [value("y", 2, 3, 5)], stored, [split])


def test_a_call_that_wants_another_shape_gets_a_copy_of_the_function() -> None:
    model = heads()
    case = check(model, x_of(0, 2, 3, 5))
    depth = next(
        g for g in case.groups.values() if g.size == 4 and ("v.w", 1) in {(m.tensor, m.axis) for m in g.members}
    )
    small = check_plan(case, only_group(case, depth.id, (0, 2)), x_of(0, 2, 3, 5))
    found = functions(small)
    assert set(found) == {"Split", "Split_pruned"}
    assert found["Split"] == functions(model)["Split"]
    assert "Split as pruned for vh" in found["Split_pruned"].doc_string
    assert [n.op_type for n in small.graph.node if n.domain] == ["Split", "Split", "Split_pruned"]


def only_group(case: Coupled, name: str, units: tuple[int, ...]) -> Plan:
    keep = {g.id: tuple(range(g.size)) for g in case.groups.values()} | {name: units}
    return Plan(keep, {g.id: g.size for g in case.groups.values()}, case.groups.fingerprint)


def test_all_calls_that_want_the_same_share_one_function() -> None:
    model = heads()
    case = coupled(model)
    head = next(g for g in case.groups.values() if g.kind == "head")
    small = check_plan(case, only_group(case, head.id, (1,)), x_of(0, 2, 3, 5))
    assert list(functions(small)) == ["Split"]
    assert small.graph.node[3:6] == model.graph.node[3:6]


# Attributes -----------------------------------------------------------------------------------------------------------


def with_reference(node: onnx.NodeProto, name: str, referred: str, kind: int) -> onnx.NodeProto:
    node.attribute.add(name=name, ref_attr_name=referred, type=kind)
    return node


def test_attributes_that_a_call_gives() -> None:
    """The function's nodes refer to the call's attributes, one of which has a default."""
    w = Weights()
    conv = with_reference(op("Conv", ["a", "k"], "m"), "group", "groups", onnx.AttributeProto.INT)
    leaky = with_reference(op("LeakyRelu", ["m"], "c"), "alpha", "slope", onnx.AttributeProto.FLOAT)
    made = function("ConvAct", ["a", "k"], ["c"], [conv, leaky], attributes=["groups"])
    made.attribute_proto.append(helper.make_attribute("slope", 0.3))
    main = [
        call("ConvAct", ["x", "k1"], "h1", groups=1), call("ConvAct", ["h1", "k2"], "h2", groups=6, slope=0.1),
        call("ConvAct", ["h2", "k3"], "y", groups=1),
    ]  # fmt: skip
    stored = [w.tensor("k1", 6, 3, 1, 1), w.tensor("k2", 6, 1, 1, 1), w.tensor("k3", 2, 6, 1, 1)]
    model = model_of(main, [value("x", 1, 3, 4, 4)], [value("y", 1, 2, 4, 4)], stored, [made])
    case = check(model, x_of(0, 1, 3, 4, 4))
    (group,) = case.groups.values()
    assert {(m.tensor, m.axis) for m in group.members} >= {("k1", 0), ("k2", 0), ("k3", 1)}
    assert case.groups.costs.full["macs"] == 16 * (18 + 6 + 12)
    small = rewrite(case.graph, only_group(case, group.id, (0, 2, 5)), case.groups)
    # The number of groups has changed for one call alone, and there it comes from the call: it is written into a copy.
    assert functions(small)["ConvAct"] == made
    assert [n.op_type for n in small.graph.node] == ["ConvAct", "ConvAct_pruned", "ConvAct"]


def test_a_weight_given_as_an_attribute_stays() -> None:
    w = Weights()
    nodes = [
        with_reference(helper.make_node("Constant", [], ["w"]), "value", "weight", onnx.AttributeProto.TENSOR),
        op("MatMul", ["a", "w"], "c"),
    ]  # fmt: skip
    made = function("Mul", ["a"], ["c"], nodes, attributes=["weight"])
    main = [
        op("MatMul", ["x", "w0"], "g"), call("Mul", ["g"], "h", weight=w.tensor("", 5, 6)), op("Relu", ["h"], "r"),
        op("MatMul", ["r", "w1"], "s"), op("Relu", ["s"], "t"), op("MatMul", ["t", "w2"], "y"),
    ]  # fmt: skip
    stored = [w.tensor("w0", 4, 5), w.tensor("w1", 6, 7), w.tensor("w2", 7, 3)]
    case = coupled(model_of(main, [value("x", 2, 4)], [value("y", 2, 3)], stored, [made]))  # onnxruntime aborts on it
    assert list(case.groups) == ["s"]
    assert case.why_frozen("h/w", 0) == "given to a function as an attribute"


# Optional inputs and outputs, odd results, opsets --------------------------------------------------------------------


def test_optional_inputs_and_unused_outputs() -> None:
    w = Weights()
    made = function(
        "Layer",
        ["a", "w", "b"],
        ["c", "norm"],
        [op("Gemm", ["a", "w", "b"], "g"), op("Relu", ["g"], "c"), op("ReduceL2", ["a"], "norm", keepdims=0)],
    )
    main = [call("Layer", ["x", "w1", ""], "h", ""), call("Layer", ["h", "w2", "b2"], "i", "n")]
    main += [op("Relu", ["i"], "j"), op("MatMul", ["j", "w3"], "y")]
    stored = [w.tensor("w1", 4, 6), w.tensor("w2", 6, 7), w.tensor("b2", 7), w.tensor("w3", 7, 3)]
    case = check(model_of(main, [value("x", 2, 4)], [value("y", 2, 3)], stored, [made]), x_of())
    assert list(case.groups) == ["i/g"]
    assert case.why_frozen("w1", 1)  # the norm is taken over it, if anyone should read it


def test_a_result_that_is_an_input_or_a_constant_or_given_twice() -> None:
    w = Weights()
    made = function(
        "Odd",
        ["a"],
        ["same", "w", "r", "again"],
        [w.node("w", 5, 6), op("Identity", ["a"], "again"), op("Relu", ["a"], "r"), op("Identity", ["a"], "same")],
    )
    main = [
        op("MatMul", ["x", "w0"], "g"), call("Odd", ["g"], "s", "weight", "r", "t"), op("Sum", ["s", "r", "t"], "u"),
        op("MatMul", ["u", "weight"], "v"), op("MatMul", ["v", "w3"], "y"),
    ]  # fmt: skip
    model = model_of(main, [value("x", 2, 4)], [value("y", 2, 3)], [w.tensor("w0", 4, 5), w.tensor("w3", 6, 3)], [made])
    case = check(model, x_of())
    assert {g.size for g in case.groups.values()} == {5, 6}


def test_a_function_for_another_opset() -> None:
    """Squeeze takes its axes as an input since opset 13: in the model's opset the function's node would be another."""
    w = Weights()
    old = function("Thin", ["a"], ["c"], [op("Softmax", ["a"], "c")], opset=11)
    same = function("Act", ["a"], ["c"], [op("Relu", ["a"], "c")], opset=16)
    main = [
        op("MatMul", ["x", "w0"], "g"), call("Act", ["g"], "h"), op("MatMul", ["h", "w1"], "i"),
        call("Thin", ["i"], "j"), op("MatMul", ["j", "w2"], "y"),
    ]  # fmt: skip
    stored = [w.tensor("w0", 4, 5), w.tensor("w1", 5, 6), w.tensor("w2", 6, 3)]
    graph = helper.make_graph(main, "net", [value("x", 2, 4)], [value("y", 2, 3)], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, ir_version=9, functions=[old, same], opset_imports=opsets)
    case = coupled(model)
    assert list(case.groups) == ["g"]
    assert "Thin" in case.why_frozen("w1", 1)


def test_a_function_that_calls_itself_is_refused() -> None:
    loop = function("Again", ["a"], ["c"], [call("Again", ["a"], "c")], domains=["local"])
    graph = helper.make_graph([call("Again", ["x"], "y")], "net", [value("x", 2, 4)], [value("y", 2, 4)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    with pytest.raises(ModelError, match="calls itself"):
        coupled(helper.make_model(graph, ir_version=9, functions=[loop], opset_imports=opsets))


def test_functions_that_call_functions_without_end_are_refused() -> None:
    """Thirty layers of two calls each would be a billion nodes."""
    made = [function("F0", ["a"], ["c"], [op("Relu", ["a"], "c")])]
    made += [
        function(
            f"F{k}", ["a"], ["c"], [call(f"F{k - 1}", ["a"], "b"), call(f"F{k - 1}", ["b"], "c")], domains=["local"]
        )
        for k in range(1, 31)
    ]
    graph = helper.make_graph([call("F30", ["x"], "y")], "net", [value("x", 2, 4)], [value("y", 2, 4)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    with pytest.raises(ModelError, match="nodes"):
        coupled(helper.make_model(graph, ir_version=9, functions=made, opset_imports=opsets))


def test_branches_in_functions() -> None:
    """Called twice, with different weights; a branch captures what the function was given, and has a constant."""
    w = Weights()
    yes = body("yes", [w.node("scale", 6), op("Mul", ["m", "scale"], "out")], [value("out", None, None)])
    no = body("no", [op("Relu", ["m"], "n"), op("Sub", ["n", "b"], "out")], [value("out", None, None)])
    made = function(
        "Layer", ["a", "w", "b", "v", "c"], ["z"],
        [
            op("MatMul", ["a", "w"], "m"), op("If", ["c"], "r", then_branch=yes, else_branch=no),
            op("MatMul", ["r", "v"], "z"),
        ],
    )  # fmt: skip
    main = [call("Layer", ["x", "w1", "b1", "v1", "c"], "h"), call("Layer", ["h", "w2", "b2", "v2", "c"], "y")]
    shapes = {"w1": (4, 6), "b1": (6,), "v1": (6, 4), "w2": (4, 6), "b2": (6,), "v2": (6, 4)}
    stored = [w.tensor(n, *s) for n, s in shapes.items()]
    inputs = [value("x", 2, 4), value("c", kind=BOOL)]
    model = model_of(main, inputs, [value("y", 2, 4)], stored, [made])
    runs = [run | {"c": np.array(c)} for run in x_of() for c in (True, False)]
    case = coupled(model)
    # The vector in the branch belongs to both calls, and each may keep other entries of it.
    plain = onnx.inliner.inline_local_functions(model)
    for kind in ("random", "one-kept", "random"):
        plan = make_plan(case.groups, kind, np.random.default_rng(3))
        small = rewrite(case.graph, plan, case.groups)
        onnx.checker.check_model(small, full_check=True)
        other = coupled(plain)
        assert [g.size for g in other.groups.values()] == [g.size for g in case.groups.values()] == [6, 4, 6]
        keep = dict(zip(other.groups, plan.keep.values(), strict=True))
        wanted = rewrite(other.graph, Plan(keep, plan.sizes, other.groups.fingerprint), other.groups)
        for run in runs:
            assert_same_outputs(small, wanted, run)


@pytest.mark.parametrize("model", [two_blocks(), with_weights_inside(2)], ids=["handed over", "inside"])
def test_a_pass_that_changes_weights_leaves_the_functions_where_they_are(model: onnx.ModelProto) -> None:
    data = {"x": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)}
    small, report = prune(model, budget=0.7, method="coreset", data=data)
    assert report.output.macs <= 0.7 * report.input.macs
    assert [f.name for f in small.functions] == [f.name for f in model.functions]
    assert [n.op_type for n in small.graph.node] == [n.op_type for n in model.graph.node]
    assert set(tensors(small)) == set(tensors(model))
