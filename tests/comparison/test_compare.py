"""Two models side by side: against what is known of a pruned model, and against onnxruntime by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from models import mlp, residual_cnn
from onnx import numpy_helper
from onnx_models import initializer

import graphprune as gp
from graphprune.comparison import compare
from graphprune.comparison.page import fragment, page
from graphprune.comparison.result import TensorChange
from graphprune.comparison.words import in_words
from graphprune.errors import GraphpruneError, UsageError
from graphprune.report.terminal import styled


def run(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0], np.float64)


def by_name(changes: tuple[TensorChange, ...]) -> dict[str, TensorChange]:
    return {t.name: t for t in changes}


def test_a_pruned_model_is_told_as_its_report_tells_it() -> None:
    model = residual_cnn()
    small, report = gp.prune(model, budget=0.5)
    found = compare(model, small)
    assert (found.a.macs, found.b.macs) == (report.input.macs, report.output.macs)
    assert (found.a.memory, found.b.memory) == (report.input.memory, report.output.memory)
    cut = {t.name: t for t in found.tensors if t.change == "cut"}
    assert cut.keys() == report.kept.keys()
    for name, axes in report.kept.items():
        whole, part = (numpy_helper.to_array(initializer_proto(m, name)) for m in (model, small))
        assert cut[name].before == whole.shape
        assert cut[name].after == part.shape
        assert (cut[name].absolute, cut[name].relative) == (0.0, 0.0)
        told = cut[name].kept
        assert told is not None
        assert np.array_equal(whole[np.ix_(*(told.get(a, range(n)) for a, n in enumerate(whole.shape)))], part)
        if whole.ndim == 4:  # weights: no two values are the same, so there is one answer
            assert told == {int(axis): index for axis, index in axes.items()}


def initializer_proto(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def altered(model: onnx.ModelProto, **new: Callable[[Any], Any]) -> onnx.ModelProto:
    """A copy with other values of some initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, change in new.items():
        tensor = initializer_proto(copy, name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    return copy


def test_values_that_changed_are_measured() -> None:
    model = mlp()
    other = altered(model, w1=lambda w: w + np.float32(0.25) * (np.arange(w.size) == 7).reshape(w.shape))
    found = by_name(compare(model, other).tensors)
    w1 = np.asarray(initializer(model, "w1"), np.float64)
    assert [name for name, t in found.items() if t.change != "same"] == ["w1"]
    assert found["w1"].absolute == pytest.approx(0.25, rel=1e-6)
    assert found["w1"].relative == pytest.approx(0.25 / np.linalg.norm(w1), rel=1e-6)


def test_what_was_repaired_is_compared_with_the_report() -> None:
    model, data = mlp(batch="N"), np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    small, report = gp.prune(model, budget=0.5, data=data, method="l2", repair="least-squares")
    blind, told = (by_name(compare(model, small, report=r).tensors) for r in (None, report))
    repaired = [name for name, t in blind.items() if t.change == "cut and changed"]
    assert repaired
    assert all(blind[name].absolute is None for name in repaired)
    for name in repaired:
        kept = [report.kept[name].get(str(a), range(n)) for a, n in enumerate(told[name].before or ())]
        left = np.asarray(initializer(model, name), np.float64)[np.ix_(*kept)]
        apart = np.asarray(initializer(small, name), np.float64) - left
        assert told[name].absolute == pytest.approx(np.abs(apart).max())
        assert told[name].relative == pytest.approx(np.linalg.norm(apart) / np.linalg.norm(left))


def test_added_removed_retyped_and_reshaped() -> None:
    model = mlp()
    other = altered(model, w2=lambda w: np.pad(w, ((0, 8), (0, 0))), b2=lambda b: np.pad(b, (0, 8)),
                    w3=lambda w: np.pad(w, ((0, 0), (0, 8))))  # fmt: skip
    initializer_proto(other, "b3").name = "bias"
    other.graph.node[-1].input[2] = "bias"
    found = by_name(compare(model, other).tensors)
    assert {n: t.change for n, t in found.items()} == {
        "w1": "same", "b1": "same", "w2": "reshaped", "b2": "reshaped", "w3": "reshaped", "b3": "removed",
        "bias": "added",
    }  # fmt: skip
    assert (found["b3"].before, found["b3"].after) == ((10,), None)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    tensor = initializer_proto(half, "b3")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), "half"))
    half.graph.node.insert(0, onnx.helper.make_node("Cast", ["half"], ["b3"], to=1))
    found = by_name(compare(model, half).tensors)
    assert (found["b3"].change, found["half"].change) == ("removed", "added")


def test_outputs_on_samples_are_what_onnxruntime_gives() -> None:
    model = mlp(batch="N")
    small, _ = gp.prune(model, budget=0.6)
    x = np.random.default_rng(3).standard_normal((40, 16)).astype(np.float32)
    y, z = run(model, x), run(small, x)
    labels = np.arange(40) % 10
    found = compare(model, small, data={"x": x, "labels": labels})
    assert (found.inputs, found.quality.samples) == ("samples", 40)
    (output,), (mean,) = found.outputs, found.quality.outputs
    assert output.absolute == pytest.approx(np.abs(y - z).max(), rel=1e-4)
    assert output.relative == pytest.approx(np.abs(y - z).max() / np.abs(y).max(), rel=1e-4)
    assert mean.top1 == pytest.approx((y.argmax(1) == z.argmax(1)).mean())
    assert found.quality.accuracy == pytest.approx(((y.argmax(1) == labels).mean(), (z.argmax(1) == labels).mean()))
    assert compare(model, small, data=x, samples=8).quality.samples == 8


def test_a_model_and_itself() -> None:
    found = compare(residual_cnn(), residual_cnn())
    assert found.counts == {"same": len(found.tensors)}
    assert found.outputs[0].absolute == 0.0
    assert found.inputs == "random inputs"
    assert found.quality.samples == 4
    body = json.loads(found.to_json())
    assert (body["schema"], body["tensors"]) == ("graphprune.compare/1", [])


def test_no_numbers_are_told_and_no_json_of_them_is_broken() -> None:
    found = compare(mlp(), altered(mlp(), b3=lambda b: np.full_like(b, np.nan)))
    assert by_name(found.tensors)["b3"].absolute == float("inf")
    assert json.loads(found.to_json())["outputs"][0]["absolute"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(m.graph.output[0], "name", "z"), "no output"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2), "other sizes"),
    ],
)
def test_models_that_cannot_be_compared(change: Callable[[Any], None], words: str) -> None:
    other = mlp()
    change(other)
    if words == "no output":
        other.graph.node[-1].output[0] = "z"
        words = "only the first model has an output 'y'"
    with pytest.raises(UsageError, match=words) as caught:
        compare(mlp(), other)
    assert caught.value.code == "models-not-alike"


def test_wrong_numbers_of_samples() -> None:
    with pytest.raises(GraphpruneError) as caught:
        compare(mlp(), mlp(), samples=0)
    assert caught.value.code == "data-empty"


def test_words_and_page_escape_names(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    model = mlp()
    initializer_proto(model, "b1").name = evil
    model.graph.node[0].input[2] = evil
    other = altered(model, **{evil: lambda b: b + 1})
    path = tmp_path / "<b>.onnx"
    onnx.save(model, path)
    found = compare(path, other)
    words = styled(in_words(found, verbose=True), None)
    assert evil in words
    assert "5 same" in words
    for text in (page(found), fragment(found), found._repr_html_()):
        assert "<img" not in text
        assert "&lt;img src=x" in text
        assert "script" not in text
    assert "<title>&lt;b&gt;.onnx and a model in memory</title>" in page(found)
