"""Saving models: bytes as they were, external data beside the output, nothing half written."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from models import mlp, residual_cnn
from onnx import numpy_helper

from graphprune.backends.save import encode, save, written_size
from graphprune.errors import OutputError
from graphprune.frontends.files.external import External
from graphprune.frontends.files.load import load


def external_model(folder: Path, name: str = "in.onnx") -> Path:
    path = folder / name
    onnx.save(mlp(width=64), path, save_as_external_data=True, location=f"{name}.data", size_threshold=512)
    return path


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_an_unchanged_model_is_written_byte_for_byte(tmp_path: Path) -> None:
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(residual_cnn().SerializeToString())
    done = save(load(source).model, output)
    assert output.read_bytes() == source.read_bytes()
    assert done.sha256 == hashlib.sha256(output.read_bytes()).hexdigest()
    assert done.bytes == output.stat().st_size == written_size(residual_cnn())
    assert names(tmp_path) == {"in.onnx", "out.onnx"}


def test_external_tensors_stay_external_and_others_inside(tmp_path: Path) -> None:
    loaded = load(external_model(tmp_path))
    assert set(loaded.external) == {"w1", "w2", "w3"}
    before = loaded.model.SerializeToString()
    done = save(loaded.model, tmp_path / "out.onnx", external=loaded.external)
    assert loaded.model.SerializeToString() == before
    assert names(tmp_path) == {"in.onnx", "in.onnx.data", "out.onnx", "out.onnx.data"}
    written = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    for tensor in written.graph.initializer:
        assert (tensor.data_location == onnx.TensorProto.EXTERNAL) == (tensor.name in loaded.external)
        assert {e.value for e in tensor.external_data if e.key == "location"} <= {"out.onnx.data"}
    for a, b in zip(onnx.load(tmp_path / "out.onnx").graph.initializer, mlp(width=64).graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
    size = sum((tmp_path / n).stat().st_size for n in ("out.onnx", "out.onnx.data"))
    assert done.bytes == size == written_size(loaded.model, loaded.external, "out.onnx")
    assert load(tmp_path / "out.onnx").model == loaded.model


def test_alignment_of_external_data_is_kept() -> None:
    layout = {"w1": External("d", 0, 4096), "w2": External("d", 4096, 16384), "w3": External("d", 20480, 2560)}
    done = encode(mlp(width=63), "out.onnx", external=layout)
    model = onnx.ModelProto.FromString(b"".join(done.files[-1].chunks))
    places = {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer if t.external_data}
    assert {n: int(p["offset"]) for n, p in places.items()} == {"w1": 0, "w2": 4096, "w3": 20480}
    data = b"".join(done.files[0].chunks)
    expected = {t.name: t.raw_data for t in mlp(width=63).graph.initializer}
    for name, place in places.items():
        start = int(place["offset"])
        assert data[start : start + int(place["length"])] == expected[name]
    assert len(data) == 20480 + len(expected["w3"])


def test_constants_and_metadata_survive_beside_external_data(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.doc_string, model.producer_name = "about", "me"
    model.metadata_props.add(key="k", value="v")
    model.graph.doc_string = "graph"
    model.graph.initializer[2].doc_string = "weights"
    path.write_bytes(model.SerializeToString())
    loaded = load(path)
    save(loaded.model, tmp_path / "out.onnx", external=loaded.external)
    expected = path.read_bytes().replace(b"in.onnx.data", b"12.onnx.data")
    written = (tmp_path / "out.onnx").read_bytes()
    assert onnx.ModelProto.FromString(written).metadata_props[0].value == "v"
    fields = [onnx.ModelProto.FromString(b) for b in (expected, written)]
    for field in fields:
        for tensor in field.graph.initializer:
            tensor.ClearField("external_data")
    assert fields[0] == fields[1]


def test_the_data_of_the_input_is_not_overwritten(tmp_path: Path) -> None:
    source = external_model(tmp_path, "in.onnx")
    data = tmp_path / "in.onnx.data"
    renamed = tmp_path / "other.onnx"
    source.rename(renamed)
    loaded = load(renamed)
    before = data.read_bytes()
    with pytest.raises(OutputError) as caught:
        save(loaded.model, source, external=loaded.external, force=True, protect=loaded.files)
    assert caught.value.code == "output-is-input"
    assert data.read_bytes() == before
    assert names(tmp_path) == {"in.onnx.data", "other.onnx"}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_disk_that_fills_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    loaded = load(external_model(tmp_path))
    left = iter([False] * after)
    real = Path.open

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            self.stream = real(path, mode)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def write(self, data: bytes) -> int:
            if next(left, True):
                self.stream.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.stream.write(data))

    monkeypatch.setattr(Path, "open", lambda self, mode="r": Full(self, mode))
    with pytest.raises(OutputError) as caught:
        save(loaded.model, tmp_path / "out.onnx", external=loaded.external)
    assert caught.value.code == "disk-full"
    assert caught.value.exit_status == 2
    assert names(tmp_path) == {"in.onnx", "in.onnx.data"}


def test_what_serialising_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        def SerializeToString(self) -> bytes:  # noqa: N802
            raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr("graphprune.backends.save._externalise", lambda *_: (Large(), {}))
    with pytest.raises(OutputError) as caught:
        encode(mlp(), "out.onnx")
    assert caught.value.code == "output-too-large"
