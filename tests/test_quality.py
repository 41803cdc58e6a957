"""What pruning cost, on samples that nothing was chosen by."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax
from scipy.stats import entropy

import graphprune as gp
from graphprune.data import Share, open_samples, specs_of_model
from graphprune.errors import UsageError
from graphprune.report.quality import OutputQuality, Quality, in_words, warnings
from graphprune.report.report import Report
from graphprune.runtime import session
from graphprune.verification.quality import quality


def mlp(*, probabilities: bool = False, seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    stored = {
        "w1": rng.standard_normal((6, 16)), "b1": rng.standard_normal(16), "w2": rng.standard_normal((16, 4)),
        "b2": rng.standard_normal(4),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z" if probabilities else "y"], "second"),
    ]
    nodes += [helper.make_node("Softmax", ["z"], ["y"], "softmax")] if probabilities else []
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def answers(seed: int, samples: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((samples, 4)).astype(np.float32)
    return first, (first + 0.7 * rng.standard_normal((samples, 4))).astype(np.float32)


@pytest.mark.parametrize("probabilities", [False, True])
def test_measures_are_those_of_their_definitions(probabilities: bool) -> None:
    a, b = answers(1)
    if probabilities:
        a, b = (softmax(v, axis=1) for v in (a, b))
    graph = gp.trace(mlp(probabilities=probabilities))
    labels = np.arange(24) % 4
    pieces = [(a[i : i + 7], b[i : i + 7], labels[i : i + 7]) for i in range(0, 24, 7)]
    found = quality(graph, ([[x], [y], z] for x, y, z in pieces))
    p, q = (a, b) if probabilities else (softmax(a, axis=1), softmax(b, axis=1))
    (one,) = found.outputs
    assert one.meaning == ("probabilities" if probabilities else "logits")
    assert one.kl == pytest.approx(float(np.mean([entropy(x, y) for x, y in zip(p, q, strict=True)])), rel=1e-5)
    assert one.top1 == pytest.approx(float((a.argmax(1) == b.argmax(1)).mean()))
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    assert one.cosine == pytest.approx(float(np.mean(cosines)), rel=1e-5)
    apart = [np.linalg.norm(x - y) / np.linalg.norm(x) for x, y in zip(a, b, strict=True)]
    assert one.relative == pytest.approx(float(np.mean(apart)), rel=1e-5)
    assert found.samples == 24
    assert found.accuracy == tuple(float((v.argmax(1) == labels).mean()) for v in (a, b))


def test_log_probabilities_are_classes_with_labels_to_meet() -> None:
    graph, (a, b) = gp.trace(mlp(probabilities=True)), answers(seed=3)
    labels = np.arange(len(a)) % a.shape[1]
    logs = [np.log(softmax(v, axis=1)).astype(np.float32) for v in (a, b)]
    found = quality(graph, [([logs[0]], [logs[1]], labels)])
    one, (p, q) = found.outputs[0], (softmax(a, axis=1), softmax(b, axis=1))
    assert one.meaning == "logits"
    assert one.top1 == (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    np.testing.assert_allclose(one.kl, (p * np.log(p / q)).sum(axis=1).mean(), rtol=1e-5)
    assert found.accuracy == ((a.argmax(axis=1) == labels).mean(), (b.argmax(axis=1) == labels).mean())


def test_values_are_no_classes() -> None:
    model = mlp()
    model.graph.node[2].output[0] = "z"
    model.graph.node.append(helper.make_node("Tanh", ["z"], ["y"], "tanh"))
    a, b = answers(2)
    found = quality(gp.trace(model), [([np.tanh(a)], [np.tanh(b)], None)])
    assert (found.outputs[0].meaning, found.outputs[0].top1, found.accuracy) == ("values", None, None)


def test_what_is_no_number_is_told() -> None:
    a, b = answers(3)
    b[3, 1] = np.nan
    found = quality(gp.trace(mlp()), [([a], [b], None)])
    assert found.outputs[0].relative is None
    assert "no numbers" in warnings(found)[0]


def test_shares_are_disjoint_and_the_same_again() -> None:
    data = {"x": np.arange(6 * 40, dtype=np.float32).reshape(40, 6)}
    specs = specs_of_model(mlp())
    seen = Share(data, "seen", seed=3)
    parts = [open_samples(part, specs) for part in (seen, seen.other)]
    rows = [{float(v) for batch in part for v in batch.inputs["x"][:, 0]} for part in parts]
    assert (len(rows[0]), len(rows[1])) == (32, 8)
    assert not rows[0] & rows[1]
    again = {float(v) for batch in open_samples(seen.other, specs) for v in batch.inputs["x"][:, 0]}
    assert again == rows[1]


def test_of_few_samples_none_is_held_out_and_of_many_at_most_512() -> None:
    specs = specs_of_model(mlp())
    for count, held in ((4, 0), (5, 1), (6000, 512)):
        share = Share({"x": np.zeros((count, 6), np.float32)}, "held-out")
        assert len(open_samples(share, specs)) == held
        assert len(open_samples(share.other, specs)) == count - held


def test_a_holdout_that_is_no_fraction_is_refused() -> None:
    with pytest.raises(UsageError, match="no fraction"):
        gp.prune(mlp(), budget=0.5, data={"x": np.zeros((9, 6), np.float32)}, holdout=1.5)


def test_a_run_measures_on_what_was_held_out() -> None:
    model = mlp()
    data = {"x": np.random.default_rng(5).standard_normal((50, 6)).astype(np.float32)}
    small, report = gp.prune(model, budget=0.5, data=data, repair="none")
    assert report.quality is not None
    assert report.quality.samples == 10
    import onnxruntime

    held = open_samples(Share(data, "held-out"), specs_of_model(model)).take(np.arange(10)).inputs["x"]
    a, b = (onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": held})[0] for m in (model, small))
    apart = np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)
    assert report.quality.outputs[0].relative == pytest.approx(float(apart.mean()), rel=1e-4)
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize(("samples", "fitted"), [(None, 256), (40, 40), (300, 300)])
def test_repair_sees_as_many_samples_as_were_asked_for(samples: int | None, fitted: int) -> None:
    data = {"x": np.random.default_rng(5).standard_normal((400, 6)).astype(np.float32)}
    _, report = gp.prune(mlp(), budget=0.5, data=data, samples=samples)
    assert any(f"fitted on {fitted} samples" in note for note in report.notes)


def test_nothing_is_measured_without_data_or_without_samples_to_hold_out() -> None:
    assert gp.prune(mlp(), budget=0.5)[1].quality is None
    data = {"x": np.random.default_rng(5).standard_normal((50, 6)).astype(np.float32)}
    assert gp.prune(mlp(), budget=0.5, data=data, holdout=0.0, repair="none")[1].quality is None


def test_words_tell_the_cost_and_warn() -> None:
    good = Quality(20, (OutputQuality("y", "logits", 0.99, 0.1, 0.95, 0.01),), (0.9, 0.85))
    assert "95.0%" in in_words(good)
    assert "90.00% -> 85.00%" in in_words(good)
    assert not warnings(good)
    assert "another first class" in warnings(Quality(20, (OutputQuality("y", "logits", 0.9, 0.4, 0.5, 1.0),)))[0]
    changed = (OutputQuality("y", "logits", 0.9, 0.4, 0.85, 1.0),)
    assert warnings(Quality(20, changed, (0.8, 0.75)))
    assert not warnings(Quality(20, changed, (0.74, 0.78))), "a model that was trained answers otherwise, and better"
    assert "off by 40%" in warnings(Quality(20, (OutputQuality("y", "values", 0.9, 0.4),)))[0]


def test_whole_numbers_are_told_where_no_output_is_floating() -> None:
    """A classifier that ends in an ArgMax, and is scored by what that looks at."""
    model = mlp()
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["class"], "pick", axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("class", TensorProto.INT64, ["N"]))
    x = np.random.default_rng(5).standard_normal((100, 6)).astype(np.float32)
    small, report = gp.prune(model, budget=0.7, method="obs", data={"x": x})
    held = open_samples(Share({"x": x}, "held-out"), specs_of_model(model))
    a, b = (session(m).run(None, held.take(np.arange(20)).inputs)[0] for m in (model, small))
    assert report.quality is not None
    (told,) = report.quality.outputs
    assert (told.meaning, told.top1, told.relative, told.kl) == ("integers", (a == b).mean(), None, None)
    assert "stay the same" in in_words(report.quality)
    changed = Quality(20, (OutputQuality("y", "integers", None, None, 0.7),))
    assert "30.0% of the numbers in y are others" in warnings(changed)[0]
    assert Quality.of(changed.to_dict()) == changed


def test_places_where_the_original_is_infinite_are_left_out() -> None:
    graph = gp.trace(mlp())
    a, b = answers(3)
    plain = quality(graph, [([a], [b], None)])
    masked = [np.concatenate([v, np.full((len(v), 1), -np.inf)], axis=1) for v in (a, b)]
    found = quality(graph, [([masked[0]], [masked[1]], None)])
    one, other = plain.outputs[0], found.outputs[0]
    assert (other.cosine, other.relative, other.top1) == (one.cosine, one.relative, one.top1)
    assert other.kl == pytest.approx(one.kl)
    lost = quality(graph, [([a], [np.where(b == b[0, 0], np.nan, b)], None)])
    assert "no numbers" in warnings(lost)[0]


def test_one_class_for_all_samples_tells_little() -> None:
    """The answers differ, and what comes first does not."""
    graph = gp.trace(mlp())
    a, _ = answers(4)
    column = int(a[0].argmax())
    one, near = a.copy(), a.copy()
    one[:, column] = a.max() + 1
    near[:, column] = a.max() + 1.01
    found = quality(graph, [([one[:9]], [near[:9]], None), ([one[9:]], [near[9:]], None)])
    assert found.main is not None
    assert (found.main.classes, found.main.top1, found.alike) == (1, 1.0, False)
    assert "in one class" in warnings(found)[0]
    two = np.concatenate([one, a])
    assert len({*two.argmax(axis=1).tolist()}) > 1
    both = quality(graph, [([two], [two], None)])
    assert both.main is not None
    assert both.main.classes == len({*two.argmax(axis=1).tolist()})
    assert warnings(both) == ()
    assert warnings(quality(graph, [([one[:1]], [near[:1]], None)])) == ()


def test_one_answer_to_all_samples_tells_nothing() -> None:
    graph = gp.trace(mlp())
    a, b = answers(4)
    same = np.repeat(a[:1], len(a), axis=0)
    found = quality(graph, [([same[:9]], [b[:9]], None), ([same[9:] * (1 + 1e-7)], [b[9:]], None)])
    assert found.alike
    assert "one answer to all samples" in warnings(found)[0]
    assert not quality(graph, [([same[:9]], [b[:9]], None), ([a[9:]], [b[9:]], None)]).alike
    assert not quality(graph, [([a[:1]], [b[:1]], None)]).alike
