"""Verification catches what it is there for, names the place, and is not vacuous."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from models import floats, mlp, model_of, residual_cnn, weight
from onnx import helper, numpy_helper

import graphprune as gp
from graphprune.errors import ModelError, VerificationError
from graphprune.plan import Plan
from graphprune.verification.verify import integer_limits, prepare, verify
from graphprune.verification.watching import watched


def halved(model: onnx.ModelProto, *, allow_inexact: bool = False) -> tuple[gp.Graph, gp.Groups, Plan, onnx.ModelProto]:
    graph = gp.trace(model)
    groups = gp.couple(graph, allow_inexact=allow_inexact)
    keep = {g.id: tuple(range(0, g.size, 2)) for g in groups.values()}
    plan = Plan(keep, {g.id: g.size for g in groups.values()}, groups.fingerprint)
    return graph, groups, plan, gp.rewrite(graph, plan, groups)


@pytest.mark.parametrize("name", [t.name for t in residual_cnn().graph.initializer if t.name.endswith("weight")])
def test_weights_off_by_a_hundredth_are_found_and_named(name: str) -> None:
    graph, groups, plan, small = halved(residual_cnn(batch="n"))
    tensor = next(t for t in small.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    consumer = next(n for n in small.graph.node if name in n.input)
    with pytest.raises(VerificationError, match=f"first tensor that differs is tensor '{consumer.output[0]}'"):
        gp.verify(graph, groups, plan, small)


def test_wrong_units_are_found() -> None:
    """A model rewritten for other units than the plan's is not the masked original."""
    graph, groups, plan, _ = halved(mlp())
    other = Plan({k: tuple(u + 1 for u in v) for k, v in plan.keep.items()}, plan.sizes, plan.fingerprint)
    with pytest.raises(VerificationError):
        gp.verify(graph, groups, plan, gp.rewrite(graph, other, groups))


def test_a_pruned_model_that_does_not_run_says_so() -> None:
    graph, groups, plan, small = halved(mlp())
    del small.graph.node[0].input[2]
    small.graph.node[0].input[1] = "b1"
    with pytest.raises(VerificationError, match="cannot run the pruned model"):
        gp.verify(graph, groups, plan, small)


def test_agreement_is_with_the_original() -> None:
    graph, groups, _, _ = halved(mlp())
    whole = Plan({g.id: tuple(range(g.size)) for g in groups.values()}, {g.id: g.size for g in groups.values()}, "")
    same = Plan(whole.keep, whole.sizes, groups.fingerprint)
    check = gp.verify(graph, groups, same, gp.rewrite(graph, same, groups))
    assert check.agreement == pytest.approx(1.0)
    assert check.max_rel < 1e-6


def test_the_reference_may_be_prepared_before_the_plan() -> None:
    graph, groups, plan, small = halved(residual_cnn())
    early = verify(graph, groups, plan, small, reference=prepare(graph, groups))
    late = gp.verify(graph, groups, plan, small)
    assert early == late


def decided() -> onnx.ModelProto:
    """Scores that pass a threshold: on random inputs hardly any does, so the output is empty."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "a"),
        helper.make_node("Conv", ["h", "b"], ["s"], "b"),
        helper.make_node("Greater", ["s", "high"], ["over"]),
        helper.make_node("NonZero", ["over"], ["y"], "where"),
    ]
    tensors = [weight(rng, "a", 8, 3, 1, 1), weight(rng, "b", 2, 8, 1, 1)]
    tensors.append(numpy_helper.from_array(np.array(1e6, np.float32), "high"))
    output = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [4, None])
    return model_of(nodes, [floats("x", 1, 3, 4, 4)], [output], tensors)


def test_numbers_before_a_decision_are_compared() -> None:
    """The output is empty whatever the weights are; the scores it is taken on are not."""
    graph, groups, plan, small = halved(decided())
    assert watched(graph).extra == ("s",)
    gp.verify(graph, groups, plan, small)
    tensor = next(t for t in small.graph.initializer if t.name == "b")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, "b"))
    with pytest.raises(VerificationError, match="'s'"):
        gp.verify(graph, groups, plan, small)


def test_a_model_that_only_gives_nan_cannot_be_checked() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["z"]),
        helper.make_node("Abs", ["z"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["n"]),
        helper.make_node("Log", ["n"], ["y"]),
    ]
    tensors = [weight(rng, "w", 4, 8), weight(rng, "v", 8, 2), numpy_helper.from_array(np.float32(1e9), "big")]
    graph, groups, plan, small = halved(model_of(nodes, [floats("x", 1, 4)], [floats("y", 1, 2)], tensors))
    with pytest.raises(VerificationError, match="no finite number"):
        gp.verify(graph, groups, plan, small)


def test_sizes_that_the_model_refuses_are_the_models_error() -> None:
    """A Reshape to a fixed size behind dynamic axes: at other sizes onnxruntime cannot run the original either."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "a"),
        helper.make_node("Reshape", ["h", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    tensors = [weight(rng, "a", 4, 3, 1, 1), weight(rng, "w", 64, 2)]
    tensors.append(numpy_helper.from_array(np.array([1, 64], np.int64), "shape"))
    model = model_of(nodes, [floats("x", 1, 3, "h", "w")], [floats("y", 1, 2)], tensors)
    with pytest.raises(ModelError):
        gp.prune(model, budget=0.5, input_shapes={"x": [1, 3, 5, 5]})
    small, _ = gp.prune(model, budget=0.5, input_shapes={"x": [1, 3, 4, 4]})
    assert len(small.graph.node) == 3


def test_token_ids_stay_below_the_table() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "lookup"),
        helper.make_node("MatMul", ["e", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    tensors = [weight(rng, "table", 7, 4), weight(rng, "w", 4, 6), weight(rng, "v", 6, 2)]
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 50])
    model = model_of(nodes, [ids], [floats("y", 1, 50, 2)], tensors)
    graph, groups, plan, small = halved(model)
    assert integer_limits(graph) == {"ids": 7}
    assert prepare(graph, groups).inputs["ids"].max() == 6
    gp.verify(graph, groups, plan, small)


def chaotic() -> onnx.ModelProto:
    """A net whose last step, sin(1e7 h), turns one rounding of h into anything."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["h"]),
        helper.make_node("Mul", ["h", "much"], ["m"]),
        helper.make_node("Sin", ["m"], ["y"]),
    ]
    tensors = [weight(rng, "w", 16, 64), weight(rng, "v", 64, 8), numpy_helper.from_array(np.float32(1e7), "much")]
    return model_of(nodes, [floats("x", 1, 16)], [floats("y", 1, 8)], tensors)


@pytest.mark.parametrize(("factor", "first"), [(1 + 1e-6, None), (1.01, "h")])
def test_noise_of_the_model_itself_is_allowed_and_hides_nothing(factor: float, first: str | None) -> None:
    graph, groups, plan, small = halved(chaotic())
    tensor = next(t for t in small.graph.initializer if t.name == "v")
    array = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(array, "v"))
    if first is None:
        assert gp.verify(graph, groups, plan, small).max_rel > 0.01
    else:
        with pytest.raises(VerificationError, match=f"first tensor that differs is tensor '{first}'"):
            gp.verify(graph, groups, plan, small)


def test_a_head_of_zeros_hides_nothing() -> None:
    model = mlp()
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b3"):
            tensor.raw_data = bytes(len(tensor.raw_data))
    graph, groups, plan, small = halved(model)
    gp.verify(graph, groups, plan, small)
    tensor = next(t for t in small.graph.initializer if t.name == "w2")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), "w2"))
    with pytest.raises(VerificationError, match="'h2'"):
        gp.verify(graph, groups, plan, small)


def test_maps_and_sequences_are_compared_by_their_numbers() -> None:
    from graphprune.verification.differences import difference

    wanted = [{"a": 0.25, "b": 0.75}, {"a": 0.5, "b": 0.5}]
    near = [{"a": 0.25, "b": 0.75}, {"a": 0.5, "b": 0.50001}]
    found = difference(near, wanted)
    assert found.within
    assert found.relative == pytest.approx(2e-5, rel=0.01)
    assert not difference([{"a": 0.25, "b": 0.75}, {"a": 0.6, "b": 0.5}], wanted).within
    assert difference([{"a": 0.25, "c": 0.75}, {"a": 0.5, "b": 0.5}], wanted).relative == np.inf
    assert difference(wanted[:1], wanted).relative == np.inf
    tensors = [np.ones(3, np.float32), np.zeros((2, 2), np.float32)]
    assert difference([t.copy() for t in tensors], tensors).within
    assert not difference([tensors[0], tensors[1] + 1], tensors).within
