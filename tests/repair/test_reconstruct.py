"""Repair block by block: what is trained, towards what, and where it ends up."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune as gp
from graphprune.coupling import couple_like
from graphprune.data import Samples, open_samples, specs_of_model
from graphprune.errors import ModelError, UsageError
from graphprune.layout import kept_by
from graphprune.plan import Plan
from graphprune.repair import descent, repair
from graphprune.repair.blocks import Held, advance, blocks_of
from graphprune.repair.descent import Lesson, train
from graphprune.repair.reconstruct import places, reconstruct
from graphprune.statistics.fragments import Fragments

RNG = np.random.default_rng(3)
HIDDEN, BLOCKS = 12, 3


def residual(seed: int = 0) -> onnx.ModelProto:
    """Blocks of two layers beside a stream, then a head: the hidden units of blocks can go, the stream cannot."""
    rng = np.random.default_rng(seed)
    stored, nodes, stream = {}, [], "x"
    for k in range(BLOCKS):
        stored |= {
            f"a{k}": rng.standard_normal((8, HIDDEN)) / 3, f"b{k}": rng.standard_normal(HIDDEN),
            f"c{k}": rng.standard_normal((HIDDEN, 8)) / 3, f"d{k}": rng.standard_normal(8),
        }  # fmt: skip
        nodes += [
            helper.make_node("Gemm", [stream, f"a{k}", f"b{k}"], [f"h{k}"], f"up{k}"),
            helper.make_node("Relu", [f"h{k}"], [f"r{k}"], f"relu{k}"),
            helper.make_node("Gemm", [f"r{k}", f"c{k}", f"d{k}"], [f"o{k}"], f"down{k}"),
            helper.make_node("Add", [f"o{k}", stream], [f"s{k}"], f"sum{k}"),
        ]
        stream = f"s{k}"
    stored |= {"w": rng.standard_normal((8, 3))}
    nodes.append(helper.make_node("MatMul", [stream, "w"], ["y"], "head"))
    graph = helper.make_graph(
        nodes, "residual", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def samples_of(model: onnx.ModelProto, count: int = 256, seed: int = 1) -> Samples:
    x = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return open_samples({"x": x}, specs_of_model(model))


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return found


def half_of(groups: gp.Groups) -> Plan:
    keep = {g.id: tuple(range(0, g.size, 2)) for g in groups.groups}
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def test_blocks_end_where_nothing_was_pruned_and_together_are_the_network() -> None:
    model = residual()
    graph = gp.trace(model, input_shapes={"x": (1, 8)})
    groups = gp.couple(graph)
    plan = half_of(groups)
    made = gp.rewrite(graph, plan, groups)
    small, kept = gp.trace(made, input_shapes={"x": (1, 8)}), kept_by(groups, plan)
    blocks = list(blocks_of(graph, small, lambda n: kept.changes(groups.layout.facts.tensor(n) or ())))
    assert len(blocks) == BLOCKS + 1
    assert [b.compared for b in blocks] == [("s0",), ("s1",), ("s2",), ("y",)]
    x = RNG.standard_normal((5, 8)).astype(np.float32)
    for whole, part in ((model, "teacher"), (made, "student")):
        held: Held = {"x": x}
        for block in blocks:
            advance(Fragments.of(graph if part == "teacher" else small), getattr(block, part), [held], {})
        np.testing.assert_allclose(held["y"], answers(whole, x), rtol=1e-5, atol=1e-5)


def test_chains_end_after_some_layers_though_units_are_gone() -> None:
    nodes = [helper.make_node("MatMul", [f"t{k}", f"w{k}"], [f"t{k + 1}"], f"m{k}") for k in range(9)]
    stored = [numpy_helper.from_array(RNG.standard_normal((6, 6)).astype(np.float32), f"w{k}") for k in range(9)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 6]) for n in ("t0", "t9")]
    model = helper.make_model(helper.make_graph(nodes, "chain", ends[:1], ends[1:], stored), ir_version=9)
    graph = gp.trace(model)
    assert [b.compared for b in blocks_of(graph, graph, lambda name: True)] == [("t4",), ("t8",), ("t9",)]


def test_one_unit_does_the_work_of_two() -> None:
    """Units that are never at zero are linear: one with the sum of two's weights does both, and no fit finds it."""
    first = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    stored = {"a": first, "b": np.full(2, 9.0, np.float32), "c": np.ones((2, 1), np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "c", "d"], ["y"]),
    ]  # fmt: skip
    stored["d"] = np.zeros(1, np.float32)
    graph_ = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )  # fmt: skip
    model = helper.make_model(graph_, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    x = np.random.default_rng(0).standard_normal((256, 2)).astype(np.float32)
    graph = gp.trace(model, input_shapes={"x": (1, 2)})
    groups = gp.couple(graph)
    plan = Plan({groups.groups[0].id: (0,)}, {groups.groups[0].id: 2}, groups.fingerprint)
    fitted = repair(graph, groups, plan, {"x": x})
    samples = open_samples({"x": x}, specs_of_model(model))
    own = couple_like(groups, fitted.graph)
    at = Plan(plan.keep, plan.sizes, own.fingerprint)
    done = reconstruct(fitted.graph, own, at, samples, original=graph, epochs=80, rate=0.03)
    missed = []
    for made in (fitted.graph, done.graph):
        again = couple_like(groups, made)
        small = gp.rewrite(made, Plan(plan.keep, plan.sizes, again.fingerprint), again)
        new = np.random.default_rng(5).standard_normal((200, 2)).astype(np.float32)
        apart = answers(small, new) - answers(model, new)
        missed.append(float(np.square(apart).mean()) / 2.0)  # y varies by 2 about its mean
    assert missed[0] > 0.3  # the best fit to the unit that is left misses the other half
    assert missed[1] < 0.01


def test_what_is_trained_stands_in_the_whole_model_where_it_stood() -> None:
    model = residual()
    graph = gp.trace(model, input_shapes={"x": (1, 8)})
    groups = gp.couple(graph)
    plan = half_of(groups)
    done = reconstruct(graph, groups, plan, samples_of(model), original=graph, epochs=10)
    assert all(done.after[name] <= done.before[name] for name in done.before)
    assert done.after["y"] < 0.5 * done.before["s0"]
    for k in range(BLOCKS):
        old, new = graph.parameter(f"a{k}"), done.graph.parameter(f"a{k}")
        np.testing.assert_array_equal(new[:, 1::2], old[:, 1::2])  # what goes stays as it was
        assert (new[:, ::2] != old[:, ::2]).any()
    again = couple_like(groups, done.graph)
    small = gp.rewrite(done.graph, Plan(plan.keep, plan.sizes, again.fingerprint), again)
    x = np.random.default_rng(9).standard_normal((100, 8)).astype(np.float32)
    before, after = (answers(m, x) - answers(model, x) for m in (gp.rewrite(graph, plan, groups), small))
    assert np.square(after).sum() < 0.5 * np.square(before).sum()
    twice = reconstruct(graph, groups, plan, samples_of(model), original=graph, epochs=10)
    np.testing.assert_array_equal(twice.graph.parameter("a1"), done.graph.parameter("a1"))


def test_weights_that_rewriting_computes_anew_are_left_out() -> None:
    model = residual()
    graph = gp.trace(model, input_shapes={"x": (1, 8)})
    groups = gp.couple(graph)
    plan = half_of(groups)
    made = gp.rewrite(graph, plan, groups)
    for tensor in made.graph.initializer:
        if tensor.name == "c1":
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), "c1"))
    found = places(graph, groups, kept_by(groups, plan), gp.trace(made, input_shapes={"x": (1, 8)}))
    assert "c1" not in found
    assert [len(i) for i in found["c0"]] == [HIDDEN // 2, 8]


def test_training_that_does_not_hold_on_other_samples_is_dropped() -> None:
    model = residual()
    x = [RNG.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]
    wrong = [{"y": answers(model, a)[::-1].copy()} for a in x]
    right = [{"y": answers(model, a) + np.float32(0.1)} for a in x]
    feeds = [{"x": a} for a in x]
    done = train(model, {"a0", "w"}, Lesson(feeds, wrong), Lesson(feeds, right), epochs=5, rate=0.1, seed=0)
    assert not done.values
    assert done.after == done.before


def test_only_what_is_named_is_trained() -> None:
    model = residual()
    x = [RNG.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]
    lesson = Lesson([{"x": a} for a in x], [{"y": answers(model, a) + np.float32(1.0)} for a in x])
    done = train(model, {"w"}, lesson, lesson, epochs=5, rate=0.1, seed=0)
    assert set(done.values) == {"w"}
    assert done.after < done.before


def test_the_command_of_python_says_what_was_trained() -> None:
    model = residual()
    data = {"x": np.random.default_rng(2).standard_normal((400, 8)).astype(np.float32)}
    stages: list[str] = []
    _, light = gp.prune(model, budget=0.5, data=data, seed=1)
    _, report = gp.prune(model, budget=0.5, data=data, repair="blocks", seed=1, progress=stages.append)
    assert any("blocks were trained on 256 samples" in note for note in report.notes)
    assert any(stage.startswith("repair, block 1 of") for stage in stages)
    assert report.quality is not None
    assert light.quality is not None
    assert report.quality.outputs[0].relative < light.quality.outputs[0].relative


def test_too_few_samples_and_no_data_are_told() -> None:
    model = residual()
    few = {"x": RNG.standard_normal((60, 8)).astype(np.float32)}
    with pytest.raises(UsageError, match="too few to train blocks on"):
        gp.prune(model, budget=0.5, data=few, repair="blocks")
    with pytest.raises(UsageError, match="needs data"):
        gp.prune(model, budget=0.5, repair="blocks")
    import torch

    with pytest.raises(UsageError, match="ONNX models"):
        gp.prune(torch.nn.Linear(3, 3), budget=0.5, example_inputs=torch.zeros(1, 3), data=few, repair="blocks")


def test_a_step_looks_at_some_samples_of_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "MOST", 40)
    x, y, draws = np.arange(80.0).reshape(10, 8), np.arange(20.0).reshape(10, 2), np.random.default_rng(0)
    feeds, targets = descent._some({"x": x}, {"y": y}, draws)
    assert len(feeds["x"]) == 4
    np.testing.assert_array_equal(feeds["x"][:, 0] / 8, targets["y"][:, 0] / 2)  # the same samples of both
    whole, _ = descent._some({"x": x, "mask": np.ones((1, 8))}, {"y": y}, draws)
    assert len(whole["x"]) == 10


def test_a_block_that_torch_cannot_run_is_told() -> None:
    """Normalisation by a batch's own statistics needs more than one number a channel."""
    stored = {"s": np.ones(2), "b": np.zeros(2), "m": np.zeros(2), "v": np.ones(2)}
    node = helper.make_node("BatchNormalization", ["x", *stored], ["y", "mean", "var"], training_mode=1)
    graph = helper.make_graph(
        [node], "learning", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 1, 1])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    lesson = Lesson([{"x": np.ones((1, 2, 1, 1), np.float32)}], [{"y": np.ones((1, 2, 1, 1), np.float32)}])
    with pytest.raises(ModelError, match="torch cannot run a block"):
        train(model, {"s"}, lesson, lesson, epochs=1, rate=0.1, seed=0)
