"""Reading models: whatever is wrong with a file is told in one error with a code and a hint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import floats, mlp, model_of, residual_cnn
from onnx import helper, numpy_helper

from graphprune.errors import ModelError
from graphprune.frontends.files.load import Loaded, load
from graphprune.frontends.files.tensors import encoded_size, stored_tensors


def saved(folder: Path, model: onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def saved_external(folder: Path, location: str = "m.data", threshold: int = 0) -> Path:
    path = folder / "m.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location=location, size_threshold=threshold)
    return path


def fails(path: Path | str, code: str, *words: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(path)
    error = caught.value
    assert error.code == code, error
    assert error.hint
    assert error.where == str(path)
    assert error.exit_status == 2
    for word in words:
        assert word in error.message + error.hint
    return error


def point(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """Say that the first initializer lies in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def test_a_model_comes_back_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, residual_cnn())
    loaded = load(path)
    assert loaded.model == residual_cnn()
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.bytes == path.stat().st_size == encoded_size(loaded.model)
    assert loaded.files == (path,)
    assert loaded.external == {}
    assert loaded.warnings == ()


def test_external_data_is_read_and_its_layout_remembered(tmp_path: Path) -> None:
    path = saved_external(tmp_path)
    loaded = load(path)
    expected = {t.name: numpy_helper.to_array(t) for t in mlp().graph.initializer}
    for tensor in loaded.model.graph.initializer:
        assert np.array_equal(numpy_helper.to_array(tensor), expected[tensor.name])
    assert set(loaded.external) == set(expected)
    assert {e.location for e in loaded.external.values()} == {"m.data"}
    assert loaded.files == (path, (tmp_path / "m.data").resolve())
    assert loaded.bytes == path.stat().st_size + sum(a.nbytes for a in expected.values())
    assert loaded.external["w2"].length == 32 * 32 * 4


def test_external_data_can_be_left_alone(tmp_path: Path) -> None:
    path = saved_external(tmp_path)
    (tmp_path / "m.data").unlink()
    loaded = load(path, external=False)
    assert all(t.data_location == onnx.TensorProto.EXTERNAL for t in loaded.model.graph.initializer)


def test_a_download_cache_keeps_models_as_links(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    saved_external(blobs)
    (blobs / "m.data").rename(blobs / "0123")
    (blobs / "m.onnx").rename(blobs / "4567")
    (snapshot / "m.onnx").symlink_to(blobs / "4567")
    (snapshot / "m.data").symlink_to(blobs / "0123")
    assert load(snapshot / "m.onnx").model.graph.initializer[0].raw_data


def test_missing_file_suggests_a_near_one(tmp_path: Path) -> None:
    saved(tmp_path, mlp(), "resnet18.onnx")
    fails(tmp_path / "resnet19.onnx", "model-missing", "did you mean", "resnet18.onnx")


def test_folder(tmp_path: Path) -> None:
    saved(tmp_path, mlp())
    fails(tmp_path, "not-a-file", "folder", "m.onnx")


def test_what_is_no_regular_file() -> None:
    fails("/dev/null", "not-a-file")


def test_names_no_file_can_have(tmp_path: Path) -> None:
    fails(tmp_path / "a\0b", "model-unreadable")
    fails(tmp_path / ("x" * 300), "model-unreadable", "too long")
    fails(saved(tmp_path, mlp()) / "inner.onnx", "model-unreadable")


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (b"", "model-empty", "empty"),
        (b"hello, I am text\n", "not-onnx", "text file"),
        ("für alle ".encode() * 600, "not-onnx", "text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not-onnx", "git lfs pull"),
        (b"PK\x03\x04" + bytes(50), "not-onnx", "zip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "not-onnx", "HDF5"),
        (b"\x20\0\0\0ORTM" + bytes(50), "not-onnx", ".ort"),
        (b"\xff\xfe\xfd" * 100, "not-onnx", "damaged"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, code: str, word: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    fails(path, code, word)


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.999])
def test_truncated(tmp_path: Path, part: float) -> None:
    path = saved(tmp_path, mlp())
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(len(whole) * part))])
    fails(path, "model-truncated", "truncated")


def test_every_cut_is_an_error_of_ours(tmp_path: Path) -> None:
    """At some places the rest is valid protobuf: then the model lacks its graph or operator set."""
    model = mlp(width=2)
    whole = model.SerializeToString()
    codes = set()
    for end in range(len(whole)):
        path = tmp_path / "m.onnx"
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError) as caught:
            load(path)
        codes.add(caught.value.code)
    assert codes == {"model-empty", "model-truncated", "not-a-model", "model-invalid"}


@pytest.mark.parametrize(
    ("other", "codes", "word"),
    [
        (lambda: mlp().graph.initializer[0], {"not-a-model"}, "tensor"),
        (lambda: mlp().graph, {"not-a-model"}, "graph"),
        (lambda: onnx.ModelProto(ir_version=8), {"not-a-model"}, "no graph"),
        (lambda: onnx.ModelProto(graph=mlp().graph), {"not-a-model"}, "no IR version"),
        (lambda: mlp().graph.node[0], {"not-a-model", "not-onnx"}, ""),
        (lambda: mlp().graph.input[0], {"not-a-model", "not-onnx"}, ""),
        (lambda: helper.make_opsetid("", 17), {"not-a-model", "not-onnx"}, ""),
    ],
)
def test_valid_protobuf_that_is_no_model(
    tmp_path: Path, other: Callable[[], onnx.ModelProto], codes: set[str], word: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load(saved(tmp_path, other()))
    assert caught.value.code in codes
    assert word in caught.value.message


def test_random_bytes_never_end_in_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        path = tmp_path / "m.onnx"
        path.write_bytes(rng.integers(0, 32, rng.integers(1, 40)).astype(np.uint8).tobytes())
        with pytest.raises(ModelError):
            load(path)


def change(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    graph = model.graph
    if what == "undefined input":
        graph.node[2].input[0] = "nowhere"
    elif what == "written twice":
        graph.node[2].output[0] = "r1"
    elif what == "unknown output":
        graph.output[0].name = "z"
    elif what == "no opset":
        del model.opset_import[:]
    elif what == "same initializer twice":
        graph.initializer.append(graph.initializer[0])
    elif what == "wrong attribute":
        graph.node[1].attribute.append(helper.make_attribute("bogus", 1))
    elif what == "unknown operator":
        graph.node[1].op_type = "Relux"
    elif what == "short weight":
        graph.initializer[2].raw_data = graph.initializer[2].raw_data[:-4]
    elif what == "negative dimension":
        graph.initializer[2].dims[0] = -32
    elif what == "empty graph":
        graph.Clear()
        graph.name = "empty"
    elif what == "circle":
        graph.node[0].input[0] = "r2"
    return model


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("undefined input", "'fc2' (Gemm) reads 'nowhere'"),
        ("written twice", "'r1'"),
        ("unknown output", "'z'"),
        ("no opset", "operator set"),
        ("same initializer twice", "'w1'"),
        ("wrong attribute", "bogus"),
        ("unknown operator", "Relux"),
        ("short weight", "'w2'"),
        ("negative dimension", "'w2'"),
        ("empty graph", "no nodes"),
        ("circle", "circle"),
    ],
)
def test_invalid_graphs(tmp_path: Path, what: str, word: str) -> None:
    fails(saved(tmp_path, change(mlp(), what)), "model-invalid", word)


def test_checking_empties_no_weight(tmp_path: Path) -> None:
    model = mlp(width=64)
    path = saved(tmp_path, model)
    assert load(path).model == model


def test_old_operator_sets(tmp_path: Path) -> None:
    model = mlp()
    model.opset_import[0].version = 6
    fails(saved(tmp_path, model), "opset-unsupported", "opset 6")


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    model = mlp()
    nodes = [model.graph.node[k] for k in (1, 0, 2, 4, 3)]
    shuffled = model_of(nodes, model.graph.input, model.graph.output, model.graph.initializer)
    loaded = load(saved(tmp_path, shuffled))
    assert [n.name for n in loaded.model.graph.node] == ["fc1", "relu1", "fc2", "relu2", "fc3"]
    assert any("order" in w for w in loaded.warnings)


def test_what_the_checker_refuses_but_onnxruntime_runs_is_a_warning(tmp_path: Path) -> None:
    model = mlp()
    model.graph.node[1].op_type = "Gelu"  # an operator of opset 20 in a model of opset 17
    fails(saved(tmp_path, model), "model-invalid", "Gelu")
    model.graph.node[1].domain = "com.microsoft"  # where it is old, but the model does not import that domain
    assert "com.microsoft" in load(saved(tmp_path, model)).warnings[0]


def test_the_checker_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scaled = model_of(
        [helper.make_node("ImageScaler", ["x"], ["y"], "scale", scale=2.0, bias=[0.0] * 3)],
        [floats("x", 1, 3, 4, 4)], [floats("y", 1, 3, 4, 4)], [],
    )  # fmt: skip
    assert load(saved(tmp_path, scaled)).model == scaled
    assert capfd.readouterr() == ("", "")


def test_a_graph_without_a_name_is_fine(tmp_path: Path) -> None:
    model = mlp()
    model.graph.name = ""
    assert load(saved(tmp_path, model)).warnings == ()


@pytest.mark.parametrize("location", ["../m.data", "/etc/passwd", "a/../../m.data", "C:\\m.data", "..\\m.data", ""])
def test_external_data_outside(tmp_path: Path, location: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "m.data").write_bytes(bytes(4096))
    fails(saved(tmp_path / "inner", point(mlp(), location)), "external-data-outside", "outside")


def test_external_data_behind_a_link_outside(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    (tmp_path / "inner" / "m.data").symlink_to(tmp_path / "secret")
    fails(saved(tmp_path / "inner", point(mlp(), "m.data")), "external-data-outside", "link")


def test_external_data_in_a_linked_folder_outside(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "m.data").write_bytes(bytes(4096))
    (tmp_path / "inner" / "sub").symlink_to(tmp_path / "other")
    fails(saved(tmp_path / "inner", point(mlp(), "sub/m.data")), "external-data-outside")


def test_external_data_missing_or_a_folder(tmp_path: Path) -> None:
    path = saved(tmp_path, point(mlp(), "m.data"))
    fails(path, "external-data-missing", "m.data")
    (tmp_path / "m.data").mkdir()
    fails(path, "external-data-missing", "m.data")


def test_external_data_too_short(tmp_path: Path) -> None:
    path = saved_external(tmp_path)
    data = tmp_path / "m.data"
    data.write_bytes(data.read_bytes()[:-1])
    fails(path, "external-data-short", "'b3'")


@pytest.mark.parametrize(("key", "value"), [("offset", "-4"), ("length", "-2"), ("offset", "many")])
def test_external_data_with_odd_places(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "m.data").write_bytes(bytes(4096))
    model = point(mlp(), "m.data")
    model.graph.initializer[0].external_data.add(key=key, value=value)
    fails(saved(tmp_path, model), "external-data-invalid")


def test_external_data_without_a_place(tmp_path: Path) -> None:
    model = point(mlp(), "m.data")
    del model.graph.initializer[0].external_data[:]
    fails(saved(tmp_path, model), "external-data-invalid")


def test_too_large_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, mlp())
    monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", path.stat().st_size - 1)
    fails(path, "model-too-large", "GiB")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, mlp())

    def refuse(_self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    fails(path, "model-unreadable", "Permission denied")


def test_tensors_are_found_wherever_they_are() -> None:
    rng = np.random.default_rng(0)
    inner = helper.make_graph(
        [helper.make_node("Add", ["r", "inside"], ["s"])], "then", [], [floats("s", 1, 4)],
        [numpy_helper.from_array(rng.standard_normal((1, 4)).astype(np.float32), "inside")],
    )  # fmt: skip
    constant = numpy_helper.from_array(np.ones((1, 4), np.float32), "")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Add", ["x", "c"], ["r"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner),
    ]
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    model = model_of(nodes, [floats("x", 1, 4), flag], [floats("y", 1, 4)], [])
    assert [key for key, _ in stored_tensors(model)] == ["c", "inside", "inside#2"]


@pytest.mark.parametrize("build", [mlp, residual_cnn, lambda: mlp(width=200)])
def test_encoded_size_is_what_serialising_gives(build: Callable[[], onnx.ModelProto]) -> None:
    model = build()
    assert encoded_size(model) == len(model.SerializeToString())
    large = numpy_helper.from_array(np.zeros(5000, np.float32), "")
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=large))
    assert encoded_size(model) == len(model.SerializeToString())


def test_loaded_is_plain_data(tmp_path: Path) -> None:
    loaded = load(str(saved(tmp_path, mlp())))
    assert isinstance(loaded, Loaded)
    assert isinstance(loaded.path, Path)
    assert os.fspath(loaded.path).endswith("m.onnx")
