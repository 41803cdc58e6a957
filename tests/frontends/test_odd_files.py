"""Files that are models in form only: what no sound exporter writes ends with an error that says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import Net, node

from graphprune import couple, trace
from graphprune.errors import GraphpruneError, ModelError
from graphprune.frontends.files.load import load
from graphprune.frontends.files.runnable import Runnable


def small() -> onnx.ModelProto:
    net = Net(opset=18)
    y = net.conv(net.input(1, 3, 4, 4, name="x"), 3, 8, name="first")
    return net.model(net.conv(net.op("ReduceMean", y, net.ints(2), name="mean"), 8, 3, name="last"))


def code_of(model: onnx.ModelProto, folder: Path, **bytes_for: bytes) -> str:
    data = model.SerializeToString()
    for text, other in bytes_for.items():
        data = data.replace(text.encode(), other)
    path = folder / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(GraphpruneError) as caught:
        loaded = load(path)
        with Runnable(model, str(path)):
            couple(trace(loaded))
    return caught.value.code


def test_names_that_are_not_text(tmp_path: Path) -> None:
    assert code_of(small(), tmp_path, first=b"f\xffrst") == "model-invalid"


def test_a_remark_that_is_not_text(tmp_path: Path) -> None:
    model = small()
    model.graph.doc_string = "remark"
    assert code_of(model, tmp_path, remark=b"rem\xffrk") == "model-invalid"


def test_operators_of_no_opset(tmp_path: Path) -> None:
    model = small()
    model.opset_import[0].domain = "com.microsoft"
    assert code_of(model, tmp_path) == "model-invalid"


def test_an_opset_beyond_all_numbers(tmp_path: Path) -> None:
    model = small()
    model.opset_import.append(onnx.helper.make_opsetid("own", 2**40))
    assert code_of(model, tmp_path) == "model-invalid"


@pytest.mark.parametrize("size", [2**26 + 1, 2**40, 2**63 - 1])
def test_huge_axes(size: int, tmp_path: Path) -> None:
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
    assert code_of(model, tmp_path) == "size-too-large"


def test_sizes_that_arithmetic_makes_negative(tmp_path: Path) -> None:
    net = Net(opset=18)
    y = net.op("Tile", net.conv(net.input(1, 3, 4, 4), 3, 8), net.ints(1, 1, 1, 6, name="repeats"))
    model = net.model(net.op("ReduceMean", y, net.ints(3)))
    repeats = next(t for t in model.graph.initializer if t.name == "repeats")
    repeats.raw_data = np.array([1, 1, 1, -6]).tobytes()
    assert code_of(model, tmp_path) in (
        "model-invalid",
        "model-does-not-run",
    )  # versions differ
    with pytest.raises(ModelError, match="would have a negative size: 1x8x4x-24"):
        trace(model)


def test_more_groups_than_can_be_laid_out(tmp_path: Path) -> None:
    model = small()
    next(a for a in node(model, "last").attribute if a.name == "group").i = 2**31
    assert code_of(model, tmp_path) in ("size-too-large", "model-does-not-run")


def test_what_only_running_shows(tmp_path: Path) -> None:
    """onnxruntime loads a convolution over a vector, and fails when it runs it; so does lowering it."""
    model = small()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(8, np.float32), "vector"))
    node(model, "last").input[1] = "vector"
    assert code_of(model, tmp_path) in ("model-invalid", "model-does-not-run")


def test_what_the_model_is_not_to_blame_for(tmp_path: Path) -> None:
    """It does not run at 1 x 1, which its free sizes would allow; and no model makes a disk full."""
    net = Net()
    pooled = net.op("MaxPool", net.conv(net.input("n", 3, "h", "w"), 3, 8), kernel_shape=[7, 7])
    model = net.model(net.op("Flatten", pooled))
    with pytest.raises(ZeroDivisionError), Runnable(model, "model"):
        raise ZeroDivisionError
    broken = small()
    node(broken, "last").op_type = "Unheard"
    with pytest.raises(OSError, match="No space"), Runnable(broken, "model"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ModelError, match="Unheard"), Runnable(broken, "model"):
        raise ZeroDivisionError


def test_too_little_memory() -> None:
    with pytest.raises(ModelError) as caught, Runnable(small(), "model"):
        raise MemoryError("1 TiB")
    assert caught.value.code == "out-of-memory"


def test_faults_of_ours_stay_what_they_are() -> None:
    with pytest.raises(IndexError), Runnable(small(), "model"):
        raise IndexError


def test_keepdims_is_one_or_not() -> None:
    """Any other number than 1 drops the axes, for onnxruntime."""
    model = small()
    node(model, "mean").attribute.append(onnx.helper.make_attribute("keepdims", 2))
    del model.graph.output[:], model.graph.node[-1]
    model.graph.output.append(onnx.helper.make_tensor_value_info("mean", 1, [1, 8, 4]))
    assert trace(model).shape("mean") == (1, 8, 4)
