"""Sizes to trace at that nobody gave: the samples say them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphprune as gp
from graphprune.data import sizes_from
from graphprune.errors import UsageError

MODEL = Path(__file__).parents[2] / "examples" / "text_direction.onnx"


def two_inputs(image: list[str | int] | None, batch: str | int = "n") -> onnx.ModelProto:
    """Return a model of two inputs; only what they declare matters."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)]
    given.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [batch, 7]))
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    return helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", given, out))


def samples(count: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.zeros((count, 3, 20, 24), np.float32), "mask": np.zeros((count, 7), np.float32)}


def test_open_sizes_are_those_of_the_first_sample() -> None:
    assert sizes_from(two_inputs(["n", 3, "h", "w"]), {}, samples()) == {"x": (1, 3, 20, 24)}
    assert sizes_from(two_inputs(None), {}, samples()) == {"x": (1, 3, 20, 24)}


def test_a_fixed_batch_stays() -> None:
    assert sizes_from(two_inputs([2, 3, "h", "w"], 2), {}, samples(4)) == {"x": (2, 3, 20, 24)}


def test_a_batch_that_is_asked_for_is_that_of_open_inputs() -> None:
    assert sizes_from(two_inputs(["n", 3, "h", "w"]), {}, samples(), batch=8) == {"x": (8, 3, 20, 24)}
    assert sizes_from(two_inputs([2, 3, "h", "w"], 2), {}, samples(4), batch=8) == {"x": (2, 3, 20, 24)}
    images = {"x": np.zeros((6, 3, 48, 192), np.float32)}
    _, one = gp.prune(MODEL, budget=0.6, method="l2", repair="none", data=images)
    _, eight = gp.prune(MODEL, budget=0.6, method="l2", repair="none", data=images, batch=8)
    assert eight.input.macs == 8 * one.input.macs


def test_models_are_compared_at_the_sizes_of_samples() -> None:
    images = {"x": np.random.default_rng(0).standard_normal((4, 3, 48, 192), dtype=np.float32)}
    found = gp.compare(MODEL, MODEL, data=images)
    assert found.a.macs == gp.compare(MODEL, MODEL, input_shapes={"x": (1, 3, 48, 192)}).a.macs


def test_what_is_given_or_said_needs_no_samples() -> None:
    """Data that cannot be opened shows that it is not."""
    assert sizes_from(two_inputs(["n", 3, "h", "w"]), {"x": (1, 3, 8, 8)}, "no such file") == {"x": (1, 3, 8, 8)}
    assert sizes_from(two_inputs(["n", 3, 20, 24]), {}, "no such file") == {}
    assert sizes_from(two_inputs(["n", 3, "h", "w"]), {}, None) == {}


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="mask"):
        sizes_from(two_inputs(["n", 3, "h", "w"]), {}, {"x": samples()["x"]})


def test_a_model_with_dynamic_sizes_is_pruned_with_samples_alone() -> None:
    images = np.random.default_rng(0).standard_normal((6, 3, 48, 192), dtype=np.float32)
    given = {"budget": 0.6, "method": "l2", "repair": "none", "data": {"x": images}}
    _, told = gp.prune(MODEL, input_shapes={"x": (1, 3, 48, 192)}, **given)
    _, found = gp.prune(MODEL, **given)
    assert found.input.macs == told.input.macs
    assert found.groups == told.groups


def test_an_iterator_of_samples_may_be_gone_through_once() -> None:
    images = np.random.default_rng(0).standard_normal((6, 3, 48, 192), dtype=np.float32)
    _, listed = gp.prune(MODEL, budget=0.6, method="l2", repair="bias", data=list(images))
    _, streamed = gp.prune(MODEL, budget=0.6, method="l2", repair="bias", data=iter(images))
    assert streamed.quality == listed.quality
    assert streamed.quality is not None
