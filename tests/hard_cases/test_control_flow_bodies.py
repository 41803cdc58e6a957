"""Case 15: the branches of If prune where both agree, a branch that is never taken does not stand in the way."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from bodies import (
    BOOL,
    INT,
    Feeds,
    Weights,
    body,
    check,
    check_plan,
    graphs,
    ints,
    model_of,
    op,
    reasons,
    tensors,
    value,
    zeroed,
)
from checks import Coupled, assert_same_outputs, coupled, make_plan
from onnx import TensorProto, helper, numpy_helper

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.count import count
from graphprune.coupling import couple, kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.pipeline.run import prune
from graphprune.plan import Plan


def both(rng: np.random.Generator, **shapes: tuple[int, ...]) -> list[Feeds]:
    """Inputs for either side of a condition."""
    data: Feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return [data | {"c": np.array(side)} for side in (True, False)]


def two_branches(*, as_nodes: bool = False, other: int = 6) -> onnx.ModelProto:
    """x W0 -> Relu -> If (both with a layer of their own, 5 -> 6) -> W3; weights are initializers or Constant nodes."""
    w = Weights()
    shapes = {"then.w": (5, 6), "else.w1": (5, 7), "else.w2": (7, other)}
    nodes = {n: [w.node(n, *s)] if as_nodes else [] for n, s in shapes.items()}
    stored = {n: [] if as_nodes else [w.tensor(n, *s)] for n, s in shapes.items()}
    first = body(
        "first", [*nodes["then.w"], op("MatMul", ["h", "then.w"], "a")], [value("a", 2, None)], stored["then.w"]
    )
    second = body(
        "second",
        [
            *nodes["else.w1"], *nodes["else.w2"], op("MatMul", ["h", "else.w1"], "m"), op("Tanh", ["m"], "n"),
            op("MatMul", ["n", "else.w2"], "b"),
        ],
        [value("b", 2, None)], [*stored["else.w1"], *stored["else.w2"]],
    )  # fmt: skip
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "h"),
        op("If", ["c"], "i", then_branch=first, else_branch=second), op("Relu", ["i"], "j"),
        op("MatMul", ["j", "w3"], "y"),
    ]  # fmt: skip
    return model_of(
        main,
        [value("x", 2, 4), value("c", kind=BOOL)],
        [value("y", 2, 3)],
        [w.tensor("w0", 4, 5), w.tensor("w3", 6, 3)],
    )


@pytest.mark.parametrize("as_nodes", [False, True])
def test_both_branches_prune_together(as_nodes: bool) -> None:
    model = two_branches(as_nodes=as_nodes)
    case = check(model, both(np.random.default_rng(0), x=(2, 4)))
    places = {g.id: {(m.tensor, m.axis) for m in g.members} for g in case.groups.values()}
    assert {("w0", 1), ("then.w", 0), ("else.w1", 0)} in places.values()
    assert {("then.w", 1), ("else.w2", 1), ("w3", 0)} in places.values()
    assert {("else.w1", 1), ("else.w2", 0)} in places.values()


def test_the_dearer_branch_counts_whichever_it_is() -> None:
    case = coupled(two_branches())
    assert case.groups.costs.full["macs"] == 2 * (4 * 5 + max(5 * 6, 5 * 7 + 7 * 6) + 6 * 3)
    middle = next(g.id for g in case.groups.values() if ("else.w1", 1) in {(m.tensor, m.axis) for m in g.members})
    keep = {g.id: tuple(range(g.size)) for g in case.groups.values()} | {middle: (0,)}
    widths = np.array([len(keep[g]) for g in case.groups])
    # With one unit left the second branch has become the cheaper one.
    assert case.groups.costs.evaluate("macs", widths) == 2 * (4 * 5 + max(5 * 6, 5 + 6) + 6 * 3)


def test_a_budget_holds_in_both_branches() -> None:
    model = two_branches()
    small, report = prune(model, budget=0.5)
    assert report.output.macs <= 0.5 * report.input.macs
    assert report.verify.samples >= 3  # the inputs, and each branch on demand
    assert set(report.kept) <= set(tensors(model))
    for name, axes in report.kept.items():
        array = numpy_helper.to_array(tensors(model)[name])
        for axis, indices in axes.items():
            array = array.take(indices, axis=int(axis))
        assert np.array_equal(numpy_helper.to_array(tensors(small)[name]), array)


def test_what_no_plan_touches_stays_byte_for_byte() -> None:
    model = two_branches(as_nodes=True)
    case = coupled(model)
    middle = next(g.id for g in case.groups.values() if ("else.w1", 1) in {(m.tensor, m.axis) for m in g.members})
    keep = {g.id: tuple(range(g.size)) for g in case.groups.values()}
    plan = make_plan(case.groups, "one-removed", np.random.default_rng(0))
    small = rewrite(case.graph, Plan({**keep, middle: (1, 4)}, plan.sizes, plan.fingerprint), case.groups)
    old, new = ({g.name: g for g in graphs(m)} for m in (model, small))
    assert new["first"].SerializeToString() == old["first"].SerializeToString()
    cut = {"else.w1", "else.w2"}
    for before, after in zip(old["second"].node, new["second"].node, strict=True):
        assert (before == after) == (before.output[0] not in cut)
    assert [n for n in model.graph.node if n.op_type != "If"] == [n for n in small.graph.node if n.op_type != "If"]
    untouched = rewrite(case.graph, Plan(keep, plan.sizes, plan.fingerprint), case.groups)
    assert untouched.SerializeToString() == model.SerializeToString()


def test_branches_of_different_ranks_freeze_what_they_give() -> None:
    w = Weights()
    flat = body("flat", [ints("at", 1), op("Squeeze", ["h", "at"], "a")], [value("a", None, None)])
    as_is = body("same", [op("Identity", ["h"], "b")], [value("b", None, None, None)])
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "f"), op("MatMul", ["f", "w1"], "h"),
        op("If", ["c"], "i", then_branch=flat, else_branch=as_is), op("MatMul", ["i", "w2"], "j"),
        op("Relu", ["j"], "k"), op("MatMul", ["k", "w3"], "y"),
    ]  # fmt: skip
    stored = [w.tensor("w0", 4, 5), w.tensor("w1", 5, 6), w.tensor("w2", 6, 7), w.tensor("w3", 7, 3)]
    model = helper.make_model(
        helper.make_graph(
            main, "net", [value("x", 2, 1, 4), value("c", kind=BOOL)],
            [onnx.ValueInfoProto(name="y", type=helper.make_tensor_type_proto(TensorProto.FLOAT, None))], stored,
        ),
        ir_version=9, opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    case = coupled(model)
    for run in both(np.random.default_rng(0), x=(2, 1, 4)):
        check_plan_of_unchecked(case, run)
    assert set(case.groups) == {"g"}
    assert case.why_frozen("w1", 1) == "the branches of If give different ranks"
    assert case.why_frozen("w2", 1) == "its rank depends on which branch of an If is taken"


def check_plan_of_unchecked(case: Coupled, run: Feeds) -> None:
    """As check_plan, for a model whose output has no rank that the checker would accept."""
    plan = make_plan(case.groups, "random", np.random.default_rng(1))
    small = rewrite(case.graph, plan, case.groups)
    assert_same_outputs(small, zeroed(case.model, kept_parameters(case.graph, case.groups, plan)), run)


CONDITIONS = {
    "an initializer": ([], [numpy_helper.from_array(np.array(True), "c")]),
    "a Constant node": ([helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))], []),
    "shape arithmetic": (
        [
            op("Shape", ["x"], "shape"), ints("last", 1), op("Gather", ["shape", "last"], "size"), ints("four", 4),
            op("Equal", ["size", "four"], "c"),
        ],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_branch_that_is_never_taken_does_not_freeze_the_other(condition: str) -> None:
    w = Weights()
    nodes, stored = CONDITIONS[condition]
    taken = body("taken", [op("MatMul", ["h", "then.w"], "a")], [value("a", None, 6)], [w.tensor("then.w", 5, 6)])
    never = body("never", [op("MatMul", ["h", "else.w"], "b")], [value("b", None, 6)], [w.tensor("else.w", 5, 6)])
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "h"), *nodes,
        op("If", ["c"], "i", then_branch=taken, else_branch=never), op("MatMul", ["i", "w3"], "y"),
    ]  # fmt: skip
    constants = [w.tensor("w0", 4, 5), w.tensor("w3", 6, 3), *stored]
    model = model_of(main, [value("x", "n", 4)], [value("y", "n", 3)], constants)
    rng = np.random.default_rng(0)
    runs = [{"x": rng.standard_normal((n, 4)).astype(np.float32)} for n in (1, 5)]
    case = check(model, runs)
    assert set(case.groups) == {"g", "a"}
    assert case.why_frozen("else.w", 0) == case.why_frozen("else.w", 1) == "in a branch that is never taken"
    assert case.groups.costs.full["macs"] == 4 * 5 + 5 * 6 + 6 * 3
    # What the dead branch captures has other sizes now: onnxruntime would refuse it.
    small = rewrite(case.graph, make_plan(case.groups, "one-kept", rng), case.groups)
    dead = next(g for g in graphs(small) if getattr(g, "name", "") == "never")
    assert [n.op_type for n in dead.node] == ["Constant", "ConstantOfShape"]
    widths = np.array([1, 1])
    assert case.groups.costs.evaluate("params", widths) - count(trace(small))["params"] == 5 * 6  # emptied
    # The last layer alone does not touch what the branch sees.
    plan = case.plan(a=(0, 2))
    assert any(g == never for g in graphs(rewrite(case.graph, plan, case.groups)))


def test_a_condition_on_a_size_that_follows_the_input_is_not_constant() -> None:
    """It comes out the same at every size tried, and still a caller may take the other branch."""
    w = Weights()
    one = body("one", [op("MatMul", ["h", "then.w"], "a")], [value("a", None, 6)], [w.tensor("then.w", 5, 6)])
    other = body("other", [op("MatMul", ["h", "else.w"], "b")], [value("b", None, 6)], [w.tensor("else.w", 5, 6)])
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "h"), op("Shape", ["h"], "s"), ints("zero", 0),
        op("Gather", ["s", "zero"], "n"), ints("seven", 7), op("Equal", ["n", "seven"], "c"),
        op("If", ["c"], "i", then_branch=one, else_branch=other), op("MatMul", ["i", "w3"], "y"),
    ]  # fmt: skip
    model = model_of(main, [value("x", "n", 4)], [value("y", "n", 3)], [w.tensor("w0", 4, 5), w.tensor("w3", 6, 3)])
    rng = np.random.default_rng(0)
    case = check(model, [{"x": rng.standard_normal((n, 4)).astype(np.float32)} for n in (1, 7)])
    places = [{(m.tensor, m.axis) for m in g.members} for g in case.groups.values()]
    assert {("then.w", 1), ("else.w", 1), ("w3", 0)} in places


def test_a_size_that_decides_stays() -> None:
    """With another size the other branch would be taken."""
    w = Weights()
    taken = body("taken", [op("Relu", ["h"], "a")], [value("a", None, 5)])
    never = body("never", [op("Tanh", ["h"], "b")], [value("b", None, 5)])
    main = [
        op("MatMul", ["x", "w0"], "h"), op("Shape", ["h"], "s"), ints("one", 1), op("Gather", ["s", "one"], "n"),
        ints("five", 5), op("Equal", ["n", "five"], "c"), op("If", ["c"], "i", then_branch=taken, else_branch=never),
        op("MatMul", ["i", "w1"], "j"), op("Relu", ["j"], "k"), op("MatMul", ["k", "w2"], "y"),
    ]  # fmt: skip
    stored = [w.tensor("w0", 4, 5), w.tensor("w1", 5, 6), w.tensor("w2", 6, 3)]
    case = check(model_of(main, [value("x", 2, 4)], [value("y", 2, 3)], stored), [{"x": np.ones((2, 4), np.float32)}])
    assert set(case.groups) == {"j"}
    assert "seen inside a body" in case.why_frozen("w0", 1)


def nested() -> onnx.ModelProto:
    """If in If in If; the inner ones use the same names over again, capture from every level, return constants."""
    w = Weights()

    def inner(k: int) -> list[onnx.NodeProto]:
        yes = body("yes", [op("MatMul", ["m", "w"], "out")], [value("out", 2, 6)], [w.tensor("w", 5, 6)])
        no = body(
            "no", [op("MatMul", ["h", "v"], "q"), op("Add", ["q", "bias"], "out")], [value("out", 2, 6)],
            [w.tensor("v", 5, 6), w.tensor("bias", 6)],
        )  # fmt: skip
        return [
            op("Relu" if k else "Tanh", ["h"], "m"),
            op("If", ["d"], "r", name="inner", then_branch=yes, else_branch=no),
        ]

    branches = [body(f"b{k}", inner(k), [value("r", 2, 6)]) for k in range(2)]
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "h"),
        op("If", ["c"], "i", name="outer", then_branch=branches[0], else_branch=branches[1]),
        op("MatMul", ["i", "w3"], "y"),
    ]  # fmt: skip
    inputs = [value("x", 2, 4), value("c", kind=BOOL), value("d", kind=BOOL)]
    return model_of(main, inputs, [value("y", 2, 3)], [w.tensor("w0", 4, 5), w.tensor("w3", 6, 3)])


def test_nested_branches_with_shadowed_names() -> None:
    model = nested()
    case = coupled(model)
    assert {g.size for g in case.groups.values()} == {5, 6}
    names = {m.tensor for g in case.groups.values() for m in g.members}
    assert names == {"w0", "w3"} | {
        f"outer/{one}_branch/inner/{end}" for one in ("then", "else")
        for end in ("then_branch/w", "else_branch/v", "else_branch/bias")
    }  # fmt: skip
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((2, 4)).astype(np.float32)}
    runs = [data | {"c": np.array(c), "d": np.array(d)} for c in (True, False) for d in (True, False)]
    renamed = with_flat_names(model)
    for kind in ("random", "one-kept", "random"):
        check_plan(case, make_plan(case.groups, kind, rng), runs, renamed)
    _, report = prune(model, budget=0.5)
    assert report.verify.samples >= 5


def with_flat_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The nested model with every weight under the name that the report gives it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outer = next(n for n in copy.graph.node if n.op_type == "If")
    for one in outer.attribute:
        deep = next(n for n in one.g.node if n.op_type == "If")
        for two in deep.attribute:
            for tensor in two.g.initializer:
                new = f"outer/{one.name}/inner/{two.name}/{tensor.name}"
                for node in two.g.node:
                    node.input[:] = [new if n == tensor.name else n for n in node.input]
                tensor.name = new
    return copy


def test_weights_that_a_branch_gives_are_cut_alike() -> None:
    """An If that chooses between two stored weights."""
    w = Weights()
    one = body("one", [w.node("then.w", 5, 6)], [value("then.w", 5, 6)])
    other = body("other", [w.node("else.w", 5, 6)], [value("else.w", 5, 6)])
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "h"),
        op("If", ["c"], "i", then_branch=one, else_branch=other), op("MatMul", ["h", "i"], "j"),
        op("MatMul", ["j", "w3"], "y"),
    ]  # fmt: skip
    model = model_of(
        main,
        [value("x", 2, 4), value("c", kind=BOOL)],
        [value("y", 2, 3)],
        [w.tensor("w0", 4, 5), w.tensor("w3", 6, 3)],
    )
    case = check(model, both(np.random.default_rng(0), x=(2, 4)))
    assert {g.size for g in case.groups.values()} == {5, 6}


def test_branches_of_different_sizes_freeze_that_axis_alone() -> None:
    """As around non-maximum suppression: nothing, or what was found."""
    w = Weights()
    none = body("none", [ints("from", 0), ints("to", 1), op("Slice", ["h", "from", "to"], "a")], [value("a", None, 6)])
    some = body("some", [op("Identity", ["h"], "b")], [value("b", None, 6)])
    main = [
        op("MatMul", ["x", "w0"], "h"), op("If", ["c"], "i", then_branch=none, else_branch=some),
        op("MatMul", ["i", "w1"], "j"), op("Relu", ["j"], "k"), op("MatMul", ["k", "w2"], "y"),
    ]  # fmt: skip
    stored = [w.tensor("w0", 4, 6), w.tensor("w1", 6, 7), w.tensor("w2", 7, 3)]
    model = model_of(main, [value("x", 5, 4), value("c", kind=BOOL)], [value("y", None, 3)], stored)
    case = check(model, both(np.random.default_rng(0), x=(5, 4)))
    assert {g.size for g in case.groups.values()} == {6, 7}


def test_a_branch_that_does_not_run_at_the_traced_sizes_is_neither_pruned_nor_counted() -> None:
    w = Weights()
    fits = body("fits", [op("MatMul", ["x", "then.w"], "a")], [value("a", None, 6)], [w.tensor("then.w", 4, 6)])
    misfit = body("misfit", [op("MatMul", ["x", "else.w"], "b")], [value("b", None, 6)], [w.tensor("else.w", 9, 6)])
    main = [
        op("If", ["c"], "i", name="pick", then_branch=fits, else_branch=misfit), op("Relu", ["i"], "j"),
        op("MatMul", ["j", "w1"], "k"), op("Relu", ["k"], "l"), op("MatMul", ["l", "w2"], "y"),
    ]  # fmt: skip
    inputs = [value("x", "n", "m"), value("c", kind=BOOL)]
    model = model_of(main, inputs, [value("y", "n", 3)], [w.tensor("w1", 6, 7), w.tensor("w2", 7, 3)])
    sizes = {"x": (2, 4)}
    graph = trace(model, input_shapes=sizes)
    groups = couple(graph)
    assert not groups  # nobody knows what the other branch would give
    assert groups.costs.full["macs"] == 2 * (4 * 6 + 6 * 7 + 7 * 3)
    assert any("else branch of If 'pick' does not run at the traced sizes" in note for note in graph.notes)
    assert reasons(coupled(model, sizes)) >= {
        "it lies in a branch of an If that does not run at the traced sizes, so that nobody could check it",
        "the branches of If 'pick' give shapes that are not known",
    }


def test_an_integer_that_chooses_gets_the_value_it_is_compared_with() -> None:
    """Random inputs would always take the other branch."""
    w = Weights()
    one = body("one", [op("MatMul", ["x", "then.w"], "a")], [value("a", 2, 6)], [w.tensor("then.w", 4, 6)])
    other = body("other", [op("MatMul", ["x", "else.w"], "b")], [value("b", 2, 6)], [w.tensor("else.w", 4, 6)])
    main = [
        ints("rate", 16000), op("Equal", ["sr", "rate"], "c"),
        op("If", ["c"], "i", then_branch=one, else_branch=other), op("Relu", ["i"], "j"),
        op("MatMul", ["j", "w1"], "y"),
    ]  # fmt: skip
    model = model_of(main, [value("x", 2, 4), value("sr", 1, kind=INT)], [value("y", 2, 3)], [w.tensor("w1", 6, 3)])
    from graphprune.verification.verify import prepare

    graph = trace(model)
    reference = prepare(graph, couple(graph))
    assert reference.inputs["sr"].tolist() == [16000]
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    check(model, [{"x": x, "sr": np.array([n])} for n in (8000, 16000)])
