"""What latency is measured on: settings, providers, the name of the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import mlp
from onnx import TensorProto, helper

from graphprune.errors import ModelError, UsageError
from graphprune.latency.inputs import first_samples, inputs_for, with_batch
from graphprune.latency.machine import Machine, processor
from graphprune.providers import short_name

FEEDS = {"x": np.ones((1, 16), np.float32)}


def test_short_names_are_onnxruntimes() -> None:
    assert Machine().full_provider == "CPUExecutionProvider"
    assert Machine("CUDA").full_provider == "CUDAExecutionProvider"
    assert Machine("dml").full_provider == "DmlExecutionProvider"
    assert Machine("CPUExecutionProvider").full_provider == "CPUExecutionProvider"
    assert short_name("CoreMLExecutionProvider") == "coreml"
    assert short_name("OtherExecutionProvider") == "OtherExecutionProvider"


def test_a_missing_provider_is_told_with_those_that_are_there() -> None:
    with pytest.raises(UsageError, match="no provider 'quantum'") as caught:
        Machine("quantum").lap(mlp(), FEEDS)
    assert (caught.value.code, caught.value.where) == ("provider-missing", "--provider")
    assert "cpu" in str(caught.value.hint)


@pytest.mark.parametrize(("options", "code"), [({"threads": -1}, "bad-threads"), ({"batch": 0}, "bad-batch")])
def test_numbers_must_make_sense(options: dict[str, int], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Machine(**options)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_lap_runs_the_model_so_many_times(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(mlp(), path)
    for model in (mlp(), path):
        assert Machine().lap(model, FEEDS)(3) > 0
    assert Machine(threads=0).lap(mlp(), FEEDS)(1) > 0


def test_a_model_that_does_not_load_is_told() -> None:
    broken = mlp()
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="cannot load") as caught:
        Machine().lap(broken, FEEDS)
    assert caught.value.code == "not-runnable"


def test_the_signature_names_what_decides_and_no_more() -> None:
    one, more = Machine(), Machine(threads=2)
    assert one.signature()["provider"] == "cpu"
    assert one.signature()["cpu"] == processor()[0] != ""
    assert one.key() == Machine(batch=8).key() == Machine("CPUExecutionProvider").key() != more.key()
    assert {k for k in one.signature() if one.signature()[k] != more.signature()[k]} == {"threads"}


def dynamic() -> onnx.ModelProto:
    return mlp(batch="N")


def test_the_batch_goes_where_the_model_leaves_it_open() -> None:
    assert with_batch(dynamic(), {}, None) == {}
    assert with_batch(dynamic(), {}, 8) == {"x": (8, 16)}
    assert with_batch(dynamic(), {"x": (4, 16)}, 4) == {"x": (4, 16)}
    assert with_batch(mlp(), {}, 1) == {}
    with pytest.raises(UsageError, match="batch of 8") as caught:
        with_batch(mlp(), {}, 8)
    assert caught.value.code == "batch-fixed"


def test_random_inputs_stay_within_lookup_tables() -> None:
    table = helper.make_tensor("table", TensorProto.FLOAT, [5, 2], [0.0] * 10)
    node = helper.make_node("Gather", ["table", "ids"], ["y"], "look")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 2])
    graph = helper.make_graph([node], "g", [ids], [y], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    drawn = inputs_for(model, {})["ids"]
    assert drawn.shape == (1, 64) and drawn.min() >= 0 and 2 <= drawn.max() < 5


def test_samples_fill_a_batch() -> None:
    data = {"x": np.arange(80, dtype=np.float32).reshape(5, 16)}
    assert np.array_equal(first_samples(data, dynamic(), 3)["x"], data["x"][:3])
    assert first_samples(data, mlp(), None)["x"].shape == (1, 16)
    with pytest.raises(UsageError, match="a batch 9"):
        first_samples(data, dynamic(), 9)
