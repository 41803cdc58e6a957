"""Case 15: bodies of Loop and Scan. What they carry from one iteration to the next stays; what is their own prunes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from bodies import BOOL, INT, Feeds, Weights, body, check, model_of, op, reasons, value
from checks import coupled
from onnx import TensorProto, helper, numpy_helper

from graphprune.pipeline.run import prune

CARRIED = "carries it from one iteration to the next"


def scalar(name: str, number: int | bool) -> TensorProto:
    return numpy_helper.from_array(np.array(number), name)


def mlp(w: Weights, x: str, y: str, *, as_nodes: bool) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """x (2, 6) -> 9 -> (2, 6), weights inside."""
    made = [("in.w", 6, 9), ("in.b", 9), ("out.w", 9, 6)]
    nodes = [w.node(*m) for m in made] if as_nodes else []
    nodes += [
        op("MatMul", [x, "in.w"], "m1"), op("Add", ["m1", "in.b"], "m2"), op("Relu", ["m2"], "m3"),
        op("MatMul", ["m3", "out.w"], y),
    ]  # fmt: skip
    return nodes, [] if as_nodes else [w.tensor(*m) for m in made]


def looped(trips: int | None = 3, *, again: str = "go", as_nodes: bool = False) -> onnx.ModelProto:
    """Loop: s <- s + tanh(mlp(s)) + f K with f captured, and s V gathered; a layer before, one behind."""
    w = Weights()
    nodes, stored = mlp(w, "s", "m4", as_nodes=as_nodes)
    nodes += [
        op("Tanh", ["m4"], "m5"), op("MatMul", ["f", "k.w"], "fk"), op("Sum", ["s", "m5", "fk"], "s_out"),
        op("MatMul", ["s", "v.w"], "stacked"), op("Identity", [again], "go_out"),
    ]  # fmt: skip
    step = body(
        "step", nodes, [value("go_out", kind=BOOL), value("s_out", 2, 6), value("stacked", 2, 3)],
        [*stored, w.tensor("k.w", 5, 6), w.tensor("v.w", 6, 3)],
        [value("i", kind=INT), value("go", kind=BOOL), value("s", 2, 6)],
    )  # fmt: skip
    main = [
        op("MatMul", ["x", "w0"], "g"), op("Relu", ["g"], "f"), op("MatMul", ["x", "w1"], "s0"),
        op("Loop", ["n", "yes", "s0"], "last", "all", name="loop", body=step), op("MatMul", ["last", "w2"], "h"),
        op("Relu", ["h"], "j"), op("MatMul", ["j", "w3"], "y"),
    ]  # fmt: skip
    inputs = [value("x", 2, 4)] + ([value("n", kind=INT)] if trips is None else [])
    constants = [
        w.tensor("w0", 4, 5),
        w.tensor("w1", 4, 6),
        w.tensor("w2", 6, 7),
        w.tensor("w3", 7, 3),
        scalar("yes", True),
    ]
    constants += [] if trips is None else [scalar("n", trips)]
    return model_of(main, inputs, [value("y", 2, 3), value("all", None, 2, 3)], constants)


def x_of(rng: np.random.Generator) -> Feeds:
    return {"x": rng.standard_normal((2, 4)).astype(np.float32)}


BODY = 2 * (6 * 9 + 9 * 6 + 5 * 6 + 6 * 3)
AROUND = 2 * (4 * 5 + 4 * 6 + 6 * 7 + 7 * 3)


@pytest.mark.parametrize("as_nodes", [False, True])
def test_the_hidden_layer_of_a_body_prunes_and_so_does_what_it_captures(as_nodes: bool) -> None:
    case = check(looped(as_nodes=as_nodes), [x_of(np.random.default_rng(0))])
    places = [{(m.tensor, m.axis) for m in g.members} for g in case.groups.values()]
    assert {("in.w", 1), ("in.b", 0), ("out.w", 0)} in places
    assert {("w0", 1), ("k.w", 0)} in places  # a layer outside, summed over inside
    assert {("w2", 1), ("w3", 0)} in places
    assert len(places) == 3
    for name, axis in (("w1", 1), ("in.w", 0), ("out.w", 1), ("k.w", 1), ("v.w", 0), ("w2", 0)):
        assert CARRIED in case.why_frozen(name, axis), (name, axis)


def test_a_body_costs_as_often_as_it_runs() -> None:
    case = coupled(looped(3))
    assert case.groups.costs.full["macs"] == AROUND + 3 * BODY
    assert not case.graph.notes
    _, report = prune(looped(3), budget=0.8)
    assert report.output.macs <= 0.8 * (AROUND + 3 * BODY)


def test_how_often_may_be_unknown() -> None:
    rng = np.random.default_rng(0)
    model = looped(None)
    case = check(model, [x_of(rng) | {"n": np.array(n)} for n in (0, 1, 5)])
    assert len(case.groups) == 3
    assert case.groups.costs.full["macs"] == AROUND + BODY
    assert case.graph.notes == (
        "how often the body of Loop 'loop' runs is not known: its costs are counted for one iteration",
    )
    _, report = prune(model, budget=0.8)
    assert any("how often the body" in words for words in report.warnings)


def test_a_loop_that_may_end_early_counts_for_the_most_it_can_run() -> None:
    """Its condition is computed from what it carries."""
    w = Weights()
    nodes, stored = mlp(w, "s", "s_out", as_nodes=False)
    nodes += [
        op("ReduceSum", ["s_out"], "total", keepdims=0), op("Less", ["total", "most"], "go_out"),
    ]  # fmt: skip
    step = body(
        "step", nodes, [value("go_out", kind=BOOL), value("s_out", 2, 6)],
        [*stored, numpy_helper.from_array(np.array(100, np.float32), "most")],
        [value("i", kind=INT), value("go", kind=BOOL), value("s", 2, 6)],
    )  # fmt: skip
    main = [op("Loop", ["n", "yes", "x"], "y", name="", body=step)]
    model = model_of(main, [value("x", 2, 6)], [value("y", 2, 6)], [scalar("n", 4), scalar("yes", True)])
    case = check(model, [{"x": np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)}])
    assert case.groups.costs.full["macs"] == 4 * 2 * (6 * 9 + 9 * 6)
    assert case.graph.notes == ("a condition may end a Loop (4) early: its costs are counted for the most iterations",)


def test_a_state_that_grows_freezes_what_depends_on_it() -> None:
    """Every iteration appends a row, so no shape of the first one holds later on."""
    w = Weights()
    nodes, stored = mlp(w, "row", "new", as_nodes=False)
    nodes += [op("Concat", ["s", "new"], "s_out", axis=0), op("Identity", ["go"], "go_out")]
    step = body(
        "step", nodes, [value("go_out", kind=BOOL), value("s_out", None, 6)], stored,
        [value("i", kind=INT), value("go", kind=BOOL), value("s", None, 6)],
    )  # fmt: skip
    main = [
        op("MatMul", ["x", "w0"], "row"), op("Loop", ["n", "yes", "row"], "s1", body=step),
        op("MatMul", ["s1", "w1"], "h"), op("Relu", ["h"], "j"), op("MatMul", ["j", "w2"], "y"),
    ]  # fmt: skip
    stored = [w.tensor("w0", 4, 6), w.tensor("w1", 6, 7), w.tensor("w2", 7, 3), scalar("n", 3), scalar("yes", True)]
    model = model_of(main, [value("x", 2, 4)], [value("y", None, 3)], stored)
    case = check(model, [x_of(np.random.default_rng(0))])
    places = [{(m.tensor, m.axis) for m in g.members} for g in case.groups.values()]
    assert {("in.w", 1), ("in.b", 0), ("out.w", 0)} in places  # what it captures has a fixed shape
    assert {("w1", 1), ("w2", 0)} in places
    assert case.groups.costs.full["macs"] == 2 * 4 * 6 + 3 * 2 * (6 * 9 + 9 * 6) + 8 * (6 * 7 + 7 * 3)


def test_scan() -> None:
    """Over the second axis of a sequence: h <- tanh(x_t A + h B), and a layer of its own for what comes out."""
    w = Weights()
    nodes = [
        op("MatMul", ["x_t", "a.w"], "xa"), op("Relu", ["xa"], "xr"), op("MatMul", ["xr", "a2.w"], "xb"),
        op("MatMul", ["h", "b.w"], "hb"), op("Add", ["xb", "hb"], "t"), op("Tanh", ["t"], "h_out"),
        op("MatMul", ["h_out", "o1.w"], "o1"), op("Relu", ["o1"], "o2"), op("MatMul", ["o2", "o2.w"], "out"),
    ]  # fmt: skip
    sizes = [("a.w", 4, 8), ("a2.w", 8, 5), ("b.w", 5, 5), ("o1.w", 5, 7), ("o2.w", 7, 3)]
    step = body(
        "step", nodes, [value("h_out", 2, 5), value("out", 2, 3)], [w.tensor(*s) for s in sizes],
        [value("h", 2, 5), value("x_t", 2, 4)],
    )  # fmt: skip
    main = [
        op("MatMul", ["u", "w0"], "x"),
        op("Scan", ["h0", "x"], "h1", "y", num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1], body=step),
    ]  # fmt: skip
    model = model_of(
        main, [value("u", 2, "t", 6)], [value("h1", 2, 5), value("y", 2, "t", 3)],
        [w.tensor("w0", 6, 4), numpy_helper.from_array(np.zeros((2, 5), np.float32), "h0")],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    runs = [{"u": rng.standard_normal((2, t, 6)).astype(np.float32)} for t in (1, 6)]
    case = check(model, runs, sizes={"u": (2, 6, 6)})
    places = [{(m.tensor, m.axis) for m in g.members} for g in case.groups.values()]
    assert places == [{("a.w", 1), ("a2.w", 0)}, {("o1.w", 1), ("o2.w", 0)}]
    assert case.groups.costs.full["macs"] == 2 * 6 * (6 * 4 + 4 * 8 + 8 * 5 + 5 * 5 + 5 * 7 + 7 * 3)
    assert any(CARRIED in reason for reason in reasons(case))


def test_a_loop_in_a_branch_and_a_branch_in_a_loop() -> None:
    w = Weights()
    inner, stored = mlp(w, "s", "s_new", as_nodes=True)
    keep = body("keep", [op("Identity", ["s"], "kept")], [value("kept", 2, 6)])
    change = body("change", inner, [value("s_new", 2, 6)], stored)
    step = body(
        "step",
        [
            op("If", ["d"], "s_out", then_branch=change, else_branch=keep), op("Identity", ["go"], "go_out"),
        ],
        [value("go_out", kind=BOOL), value("s_out", 2, 6)], (),
        [value("i", kind=INT), value("go", kind=BOOL), value("s", 2, 6)],
    )  # fmt: skip
    long = body("long", [op("Loop", ["n", "yes", "x"], "z", body=step)], [value("z", 2, 6)])
    short = body(
        "short", [op("MatMul", ["x", "p.w"], "p"), op("Relu", ["p"], "q"), op("MatMul", ["q", "q.w"], "z2")],
        [value("z2", 2, 6)], [w.tensor("p.w", 6, 8), w.tensor("q.w", 8, 6)],
    )  # fmt: skip
    model = model_of(
        [op("If", ["c"], "y", then_branch=long, else_branch=short)],
        [value("x", 2, 6), value("c", kind=BOOL), value("d", kind=BOOL)], [value("y", 2, 6)],
        [scalar("n", 3), scalar("yes", True)],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((2, 6)).astype(np.float32)}
    case = check(model, [data | {"c": np.array(c), "d": np.array(d)} for c in (True, False) for d in (True, False)])
    assert {g.size for g in case.groups.values()} == {9, 8}
    assert case.groups.costs.full["macs"] == max(3 * 2 * (6 * 9 + 9 * 6), 2 * (6 * 8 + 8 * 6))


def test_what_is_carried_around_a_scan_of_an_old_opset_is_frozen() -> None:
    """Opset 8 had another Scan, over batches: nobody looks inside."""
    w = Weights()
    step = body(
        "step", [op("MatMul", ["x_t", "inside"], "out")], [value("out", 5)], (), [value("x_t", 4)]
    )  # fmt: skip
    main = [op("Scan", ["", "x"], "s", num_scan_inputs=1, body=step), op("MatMul", ["s", "w1"], "h"),
            op("Relu", ["h"], "j"), op("MatMul", ["j", "w2"], "y")]  # fmt: skip
    stored = [w.tensor("inside", 4, 5), w.tensor("w1", 5, 6), w.tensor("w2", 6, 3)]
    graph = helper.make_graph(main, "net", [value("x", 1, 7, 4)], [value("y", 1, 7, 3)], stored)
    model = helper.make_model(graph, ir_version=4, opset_imports=[helper.make_opsetid("", 8)])
    case = coupled(model)
    assert case.why_frozen("inside", 0) == "the bodies of Scan are not pruned yet"
