"""Groups of width zero take their branch with them, where the graph allows; the file that is left runs and is clean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graphprune.passes import Magnitude
from models import floats, model_of, residual_cnn, weight
from onnx import helper

import graphprune as gp
from graphprune.errors import PlanError
from graphprune.plan import Plan
from graphprune.runtime import session


def node(op: str, inputs: Sequence[str], output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], output, **attrs)


def parallel(bias: bool = True) -> onnx.ModelProto:
    """Two branches of a convolution each, concatenated, then a convolution and a classifier."""
    rng = np.random.default_rng(0)
    tensors = [weight(rng, "a.w", 8, 3, 3, 3), weight(rng, "b.w", 6, 3, 1, 1), weight(rng, "c.w", 5, 14, 1, 1)]
    tensors += [weight(rng, "b.b", 6), weight(rng, "f.w", 5, 4)]
    nodes = [
        node("Conv", ["x", "a.w"], "a", pads=[1] * 4),
        node("Conv", ["x", "b.w", "b.b"] if bias else ["x", "b.w"], "b"),
        node("Sigmoid", ["b"], "s"),
        node("Concat", ["a", "s"], "cat", axis=1),
        node("Conv", ["cat", "c.w"], "c"),
        node("GlobalAveragePool", ["c"], "p"),
        node("Flatten", ["p"], "q"),
        node("MatMul", ["q", "f.w"], "y"),
    ]
    return model_of(nodes, [floats("x", 1, 3, 6, 6)], [floats("y", 1, 4)], tensors)


def residual(op: str = "Conv", *, activation: str | None = "Sigmoid", pooled: bool = False) -> onnx.ModelProto:
    """x + f(x) with a hidden group between two convolutions; ``pooled`` puts a pooling in the constant's way."""
    rng = np.random.default_rng(1)
    tensors = [weight(rng, "s.w", 4, 3, 1, 1), weight(rng, "a.w", 7, 4, 3, 3), weight(rng, "b.w", 4, 7, 3, 3)]
    tensors += [weight(rng, "b.b", 4), weight(rng, "f.w", 4, 2)]
    tensors += [weight(rng, f"bn.{k}", 4) for k in ("g", "b", "m")]
    variance = np.abs(rng.standard_normal(4)).astype(np.float32) + 0.5
    tensors.append(onnx.numpy_helper.from_array(variance, "bn.v"))
    nodes = [
        node("Conv", ["x", "s.w"], "s"),
        node("Conv", ["s", "a.w"], "a", pads=[1] * 4),
        node("Relu", ["a"], "r"),
        node("Conv", ["r", "b.w", "b.b"], "b", pads=[1] * 4),
        node("BatchNormalization", ["b", "bn.g", "bn.b", "bn.m", "bn.v"], "n"),
    ]
    last = "n"
    if activation:
        nodes.append(node(activation, [last], "act"))
        last = "act"
    if pooled:
        nodes.append(node("MaxPool", [last], "mp", kernel_shape=[3, 3], pads=[1] * 4))
        last = "mp"
    nodes += [
        node("Add", ["s", last], "sum"),
        node("GlobalAveragePool", ["sum"], "p"),
        node("Flatten", ["p"], "q"),
        node("MatMul", ["q", "f.w"], "y"),
    ]
    return model_of(nodes, [floats("x", "n", 3, 6, 6)], [floats("y", "n", 2)], tensors)


def emptied(model: onnx.ModelProto, *names: str) -> tuple[onnx.ModelProto, gp.Graph, gp.Groups, Plan]:
    graph = gp.trace(model)
    groups = gp.couple(graph)
    keep = {g.id: () if g.id in names else tuple(range(g.size)) for g in groups.values()}
    plan = Plan(keep, {g.id: g.size for g in groups.values()}, groups.fingerprint)
    return gp.rewrite(graph, plan, groups), graph, groups, plan


def with_zero(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in names:
            tensor.raw_data = bytes(len(tensor.raw_data))
    return result


def assert_same(small: onnx.ModelProto, reference: onnx.ModelProto, batch: int = 2) -> None:
    shape = [d.dim_value or batch for d in small.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    ours, theirs = session(small).run(None, {"x": x})[0], session(reference).run(None, {"x": x})[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def assert_clean(model: onnx.ModelProto) -> None:
    """An independent reader finds nothing unused: no node, no initializer."""
    onnx.checker.check_model(model, full_check=True)
    before = {n.name for n in gs.import_onnx(model).nodes}
    graph = gs.import_onnx(model)
    graph.cleanup()
    assert {n.name for n in graph.nodes} == before
    used = {name for n in model.graph.node for name in n.input}
    assert {t.name for t in model.graph.initializer} <= used


@pytest.mark.parametrize("activation", [None, "Sigmoid"])
def test_a_residual_branch_goes_and_leaves_the_constant_of_its_bias(activation: str | None) -> None:
    model = residual(activation=activation)
    small, graph, groups, plan = emptied(model, "a")
    assert groups["a"].can_vanish
    # What is left of the branch is its last bias through batch norm and activation, added at every position.
    assert_same(small, with_zero(model, "b.w"))
    assert [n.op_type for n in small.graph.node].count("Conv") == 1
    assert_clean(small)
    assert gp.verify(graph, groups, plan, small).max_rel < 1e-5
    assert gp.count(gp.trace(small))["macs"] == round(float(groups.costs.evaluate("macs", np.array([4, 0]))))


def test_a_constant_that_meets_a_pooling_keeps_its_branch() -> None:
    """A padded pooling of a constant map is not that constant everywhere in general: such a group keeps a unit."""
    model = residual(pooled=True)
    groups = gp.couple(gp.trace(model))
    assert not groups["a"].can_vanish
    with pytest.raises(PlanError, match="must keep some"):
        emptied(model, "a")


def test_a_parallel_branch_leaves_the_concatenation() -> None:
    model = parallel()
    small, graph, groups, plan = emptied(model, "b")
    (concat,) = [n for n in small.graph.node if n.op_type == "Concat"]
    assert list(concat.input) == ["a"]
    assert "s" not in {n.name for n in small.graph.node}
    reference = onnx.ModelProto()
    reference.CopyFrom(model)
    kernel = next(t for t in reference.graph.initializer if t.name == "c.w")
    array = onnx.numpy_helper.to_array(kernel).copy()
    array[:, 8:] = 0  # sigmoid(0) is not zero: the consumer's slice is what is removed
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, "c.w"))
    assert_same(small, reference)
    assert_clean(small)
    gp.verify(graph, groups, plan, small)


def test_not_all_branches_of_a_concatenation_may_go() -> None:
    groups = gp.couple(gp.trace(parallel()))
    assert sum(groups[name].can_vanish for name in ("a", "b")) == 1


def test_minimum_width_zero_lets_the_solver_remove_worthless_branches() -> None:
    """With all-zero weights in a branch, a run that allows width zero takes the whole branch."""
    model = with_zero(residual_cnn(), *[t.name for t in residual_cnn().graph.initializer if "block" in t.name])
    small, report = gp.prune(model, budget=0.1, min_width=0, multiple=1)
    assert report.output.macs <= 0.1 * report.input.macs
    assert not any("block.first" in n.name or "block.second" in n.name for n in small.graph.node if n.op_type == "Conv")
    assert_clean(small)


def test_the_solver_never_empties_what_must_stay() -> None:
    graph = gp.trace(residual(pooled=True))
    groups = gp.couple(graph)
    plan = gp.solve(groups, Magnitude()(graph, groups), gp.Budget(macs=0.2), min_width=0, multiple=1)
    assert plan.widths["a"] >= 1
    gp.verify(graph, groups, plan, gp.rewrite(graph, plan, groups))
