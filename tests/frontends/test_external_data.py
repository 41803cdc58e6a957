"""Weights outside the model's file: laid out in the output as they were, and left where they are in large models."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from models import floats, mlp, model_of, weight
from onnx import TensorProto, helper, numpy_helper

import graphprune as gp
from graphprune.backends.save import data_paths, save, written_size
from graphprune.cli import main
from graphprune.errors import ModelError, OutputError
from graphprune.frontends.files.load import load
from graphprune.frontends.files.mapped import array_of, is_mapped, map_to, write_cut

BENCH = Path(__file__).parents[1] / "bench"
Place = tuple[str, int]


def laid_out(model: onnx.ModelProto, path: Path, places: dict[str, Place]) -> Path:
    """Write a model with some tensors in other files, where ``places`` says: name -> (file, offset)."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.name in places:
            name, offset = places[tensor.name]
            file = path.with_name(name)
            held = bytearray(file.read_bytes() if file.exists() else b"")
            held.extend(bytes(max(0, offset + len(tensor.raw_data) - len(held))))
            held[offset : offset + len(tensor.raw_data)] = tensor.raw_data
            file.write_bytes(held)
            refer(tensor, name, offset, len(tensor.raw_data))
    path.write_bytes(copy.SerializeToString())
    return path


def refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def one_file(folder: Path, width: int = 64) -> Path:
    return laid_out(mlp(width), folder / "in.onnx", {"w1": ("in.w", 0), "w2": ("in.w", 8192), "b2": ("in.w", 32768)})


def many_files(folder: Path, width: int = 64) -> Path:
    return laid_out(mlp(width), folder / "in.onnx", {"w1": ("a.bin", 0), "w2": ("b.bin", 0), "w3": ("a.bin", 65536)})


def stated(path: Path) -> dict[str, dict[str, str]]:
    model = onnx.load(path, load_external_data=False)
    return {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer if t.external_data}


def weights_of(path: Path) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take models of more than 8000 bytes for large ones."""
    monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", 8000)


def pruned(path: Path, out: Path, *more: str) -> None:
    assert main([str(path), "--budget", "0.5", "-o", str(out), "-q", *more]) == 0


# Layout -----------------------------------------------------------------------------------------------------------


def test_several_files_stay_several_and_onnxruntime_loads_them(tmp_path: Path) -> None:
    path, out = many_files(tmp_path), tmp_path / "out.onnx"
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    pruned(path, out)
    assert {p.name for p in tmp_path.iterdir()} == {*before, "out.onnx", "out.onnx.data", "out.onnx.data.1"}
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    places = stated(out)
    assert {n: p["location"] for n, p in places.items()} == {
        "w1": "out.onnx.data", "w2": "out.onnx.data.1", "w3": "out.onnx.data",
    }  # fmt: skip
    assert int(places["w3"]["offset"]) == 65536
    expected, _ = gp.prune(mlp(64), budget=0.5)
    x = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
    mine = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    theirs = onnxruntime.InferenceSession(
        expected.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"x": x})[0]  # fmt: skip
    assert np.array_equal(mine, theirs)


def test_the_report_counts_all_files(tmp_path: Path) -> None:
    loaded = load(many_files(tmp_path))
    assert data_paths(tmp_path / "o.onnx", loaded.external) == (tmp_path / "o.onnx.data", tmp_path / "o.onnx.data.1")
    done = save(loaded.model, tmp_path / "o.onnx", external=loaded.external)
    assert done.bytes == sum(p.stat().st_size for p in tmp_path.glob("o.onnx*"))
    assert done.bytes == written_size(loaded.model, loaded.external, "o.onnx")


def twins(folder: Path) -> Path:
    """Two layers of one stored matrix: their tensors name the same bytes."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["h"], "one"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "back"], ["s"], "two"),
        helper.make_node("MatMul", ["s", "second"], ["g"], "three"),
        helper.make_node("Relu", ["g"], ["t"]),
        helper.make_node("MatMul", ["t", "end"], ["y"], "four"),
    ]
    tensors = [weight(rng, n, *s) for n, s in (("first", (32, 64)), ("back", (64, 32)), ("end", (64, 4)))]
    tensors.insert(2, numpy_helper.from_array(numpy_helper.to_array(tensors[0]), "second"))
    model = model_of(nodes, [floats("x", 1, 32)], [floats("y", 1, 4)], tensors)
    return laid_out(model, folder / "in.onnx", {"first": ("w", 0), "back": ("w", 8192), "second": ("w", 0)})


@pytest.mark.parametrize("limit", [None, 8000])
def test_bytes_that_tensors_share_are_shared_while_they_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    if limit is not None:
        monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", limit)
    path = twins(tmp_path)
    loaded = load(path)
    assert loaded.bytes == path.stat().st_size + (tmp_path / "w").stat().st_size == path.stat().st_size + 16384
    graph = gp.trace(loaded)
    groups = gp.couple(graph)
    members = [(g.id, m.tensor, m.axis) for g in groups.values() for m in g.members]
    ids = [next(i for i, tensor, axis in members if (tensor, axis) == (t, 1)) for t in ("first", "second")]
    same, other = (tuple(range(0, 64, 2)), tuple(range(0, 64, 2))), (tuple(range(0, 64, 2)), tuple(range(32)))
    for kept, shared in ((same, True), (other, False)):
        keep = {g.id: tuple(range(g.size)) for g in groups.values()} | dict(zip(ids, kept, strict=True))
        plan = gp.Plan(keep, {g.id: g.size for g in groups.values()}, groups.fingerprint)
        small = gp.rewrite(graph, plan, groups)
        done = save(small, tmp_path / "out.onnx", external=loaded.external, force=True)
        places = stated(tmp_path / "out.onnx")
        assert (places["first"] == places["second"]) == shared
        assert done.bytes == sum(p.stat().st_size for p in tmp_path.glob("out.onnx*"))
        whole = numpy_helper.to_array(twin_weight())
        written = weights_of(tmp_path / "out.onnx")
        for name, units in zip(("first", "second"), kept, strict=True):
            assert np.array_equal(written[name], whole[:, list(units)])


def twin_weight() -> TensorProto:
    return weight(np.random.default_rng(0), "first", 32, 64)


# Mapped weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [one_file, many_files])
@pytest.mark.parametrize("options", [(), ("--method", "fpgm"), ("--steps", "2"), ("--method", "random")])
def test_large_models_come_out_byte_for_byte_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, options: Sequence[str]
) -> None:
    path = make(tmp_path)
    pruned(path, tmp_path / "read.onnx", *options)
    monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", 8000)
    assert any(is_mapped(t) for t in load(path).model.graph.initializer)
    pruned(path, tmp_path / "mapped.onnx", *options)
    for file in tmp_path.glob("read.onnx.data*"):
        assert file.read_bytes() == (tmp_path / file.name.replace("read", "mapped")).read_bytes()
    assert {k: v.tobytes() for k, v in weights_of(tmp_path / "read.onnx").items()} == {
        k: v.tobytes() for k, v in weights_of(tmp_path / "mapped.onnx").items()
    }


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_large_models_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, element: int) -> None:
    """They are checked in float32, weight by weight, which the report says, and come out as small ones do."""
    model, kind = mlp(64), helper.tensor_dtype_to_np_dtype(element)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element
    path = laid_out(model, tmp_path / "in.onnx", {"w1": ("w", 0), "w2": ("w", 4096)})
    small, _ = gp.prune(path, budget=0.5)
    monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", 8000)
    large, report = gp.prune(path, budget=0.5)
    assert any(is_mapped(t) for t in large.graph.initializer)
    assert any("float32" in w and "2 GiB" in w for w in report.warnings)
    assert report.verify is not None and report.verify.relative < 1e-5
    for mine, theirs in zip(large.graph.initializer, small.graph.initializer, strict=True):
        assert array_of(mine).dtype == kind
        assert array_of(mine).tobytes() == numpy_helper.to_array(theirs).tobytes()


@pytest.mark.usefixtures("small_limit")
def test_large_weights_stay_in_their_files(tmp_path: Path) -> None:
    loaded = load(one_file(tmp_path))
    tensors = {t.name: t for t in loaded.model.graph.initializer}
    assert {n for n, t in tensors.items() if is_mapped(t)} == {"w1", "w2"}  # the small ones are read
    for name, array in {t.name: numpy_helper.to_array(t) for t in mlp(64).graph.initializer}.items():
        assert np.array_equal(array_of(tensors[name]), array)
    assert not tensors["w2"].raw_data
    small, report = gp.prune(loaded, budget=0.5)
    assert not any(t.raw_data for t in small.graph.initializer if t.name == "w2")
    assert report.verify is not None and report.verify.relative < 1e-5
    again, _ = gp.prune(small, budget=0.5)  # a cut of a cut, still without reading anything
    kept = {t.name: t for t in again.graph.initializer}["w2"]
    assert is_mapped(kept) and array_of(kept).shape == tuple(kept.dims)


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.INT8])
def test_a_cut_of_a_cut_is_the_cut_of_both(tmp_path: Path, element: int) -> None:
    kind = helper.tensor_dtype_to_np_dtype(element)
    array = np.random.default_rng(0).integers(-90, 90, (6, 5, 4)).astype(kind)
    (tmp_path / "w").write_bytes(b"12345678" + array.tobytes())
    tensor = TensorProto(name="w", dims=array.shape, data_type=element)
    map_to(tensor, tmp_path / "w", 8, array.nbytes)
    once, twice = TensorProto(data_type=element), TensorProto(data_type=element)
    write_cut(tensor, once, ((0, np.array([1, 2, 4, 5]).tobytes()), (2, np.array([0, 3]).tobytes())))
    write_cut(once, twice, ((0, np.array([0, 3]).tobytes()), (1, np.array([4]).tobytes())))
    expected = array[[1, 2, 4, 5]][:, :, [0, 3]]
    assert array_of(once).tobytes() == expected.tobytes()
    assert array_of(twice).tobytes() == expected[[0, 3]][:, [4]].tobytes()
    assert list(twice.dims) == [2, 1, 2]


@pytest.mark.usefixtures("small_limit")
def test_no_file_can_name_bytes_outside_its_folder_by_way_of_mapping(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16384))
    model = mlp(64)
    refer(model.graph.initializer[2], str(secret), 0, 16384)
    model.graph.initializer[2].external_data.add(key="graphprune-", value="")
    assert not is_mapped(model.graph.initializer[2])
    path = tmp_path / "inner" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code == "external-data-outside"


@pytest.mark.usefixtures("small_limit")
def test_what_needs_all_weights_in_memory_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        gp.to_torch(one_file(tmp_path))
    assert caught.value.code == "model-too-large"
    assert "2 GiB" in caught.value.message


def test_weights_that_cannot_be_mapped_have_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Constant node's tensor is read, and so counts as the file itself does."""
    model = mlp(64)
    tensor = model.graph.initializer.pop(2)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w2"], "c", value=tensor))
    held = model.graph.node[0].attribute[0].t
    (tmp_path / "w").write_bytes(held.raw_data)
    refer(held, "w", 0, len(held.raw_data))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert load(path).external
    monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", path.stat().st_size + 100)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code == "model-too-large"


def test_a_model_in_memory_that_cannot_be_serialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What protobuf says of more than 2 GiB is an error of ours."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    from graphprune import runtime

    class Large:
        def SerializeToString(self) -> bytes:  # noqa: N802
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(ModelError) as caught:
        runtime.serialised(Large())
    assert caught.value.code == "model-too-large"
    assert "external data" in str(caught.value.hint)


# What goes wrong --------------------------------------------------------------------------------------------------


def failing(path: Path, code: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code == code, caught.value
    assert caught.value.hint and caught.value.where == str(path)
    return caught.value


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("length", "16380", "external-data-invalid"),
        ("length", "16388", "external-data-invalid"),
        ("length", "999999", "external-data-short"),
        ("offset", "32764", "external-data-short"),
        ("offset", "-8", "external-data-invalid"),
        ("offset", "here", "external-data-invalid"),
        ("location", "../in.w", "external-data-outside"),
        ("location", "other.w", "external-data-missing"),
        ("location", "x" * 1000, "external-data-invalid"),
    ],
)
def test_places_that_cannot_be(tmp_path: Path, key: str, value: str, code: str) -> None:
    path = one_file(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for pair in model.graph.initializer[2].external_data:
        pair.value = value if pair.key == key else pair.value
    path.write_bytes(model.SerializeToString())
    error = failing(path, code)
    if key != "location":
        assert "'w2'" in error.message


@pytest.mark.usefixtures("small_limit")
def test_a_negative_dimension_of_a_large_tensor(tmp_path: Path) -> None:
    path = one_file(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[2].dims[:] = [-64, -64]
    path.write_bytes(model.SerializeToString())
    failing(path, "model-invalid")


class Filling:
    """A stream to a disk that is full after so many bytes."""

    room = 0

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, data: bytes) -> int:
        Filling.room -= len(data)
        if Filling.room < 0:
            self.stream.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self.stream.write(data))


@pytest.mark.parametrize("limit", [2**31, 8000])
@pytest.mark.parametrize("room", [0, 5000, 80000])
def test_a_disk_that_fills_while_one_of_several_files_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, limit: int
) -> None:
    monkeypatch.setattr("graphprune.frontends.files.load.LARGEST", limit)
    loaded = load(many_files(tmp_path))
    before = {p.name for p in tmp_path.iterdir()}
    total = written_size(loaded.model, loaded.external)
    assert room < total
    real, Filling.room = Path.open, room

    def opened(self: Path, mode: str = "r") -> Any:
        return Filling(real(self, mode)) if "x" in mode else real(self, mode)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputError) as caught:
        save(loaded.model, tmp_path / "out.onnx", external=loaded.external)
    assert caught.value.code == "disk-full"
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["out.onnx", "out.onnx.data", "out.onnx.data.1"])
def test_no_file_of_the_output_is_replaced_unasked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    path, out = many_files(tmp_path), tmp_path / "out.onnx"
    (tmp_path / name).write_bytes(b"mine")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert main([str(path), "--budget", "0.5", "-o", str(out)]) == 2
    assert "error[output-exists]" in capfd.readouterr().err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    pruned(path, out, "--force")
    assert len(stated(out)) == 3


def test_data_that_an_output_would_overwrite_is_refused_even_with_force(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The output's data file has the name of one of the input's."""
    path = laid_out(mlp(64), tmp_path / "in.onnx", {"w1": ("out.onnx.data", 0), "w2": ("b.bin", 0)})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert main([str(path), "--budget", "0.5", "-o", str(tmp_path / "out.onnx"), "--force"]) == 2
    assert "error[output-is-input]" in capfd.readouterr().err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_folder_that_may_not_be_written_to() -> None:
    """The command says so before any work, and leaves nothing; run as another user, as root may write everywhere."""
    code = (
        "import os, sys\nfrom graphprune.cli import main\n"
        "run = lambda out: main([sys.argv[1], '--budget', '0.5', '-q', '-o', out])\n"
        "assert run(sys.argv[1] + '.first') == 0\n"  # which imports what another user may not read
        "os.geteuid() or os.seteuid(65534)\nsys.exit(run(sys.argv[2]))"
    )
    with TemporaryDirectory() as name:  # in a folder that other users may enter
        folder, locked = Path(name), Path(name) / "locked"
        path = many_files(folder)
        locked.mkdir()
        for file, mode in ((locked, 0o555), (folder, 0o755)):
            file.chmod(mode)
        words = [sys.executable, "-c", code, str(path), str(locked / "out.onnx")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 2
        assert "error[not-writable]" in done.stderr
        assert not list(locked.iterdir())


# Memory -----------------------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from large import stack
from peak import highest
from graphprune.cli import main
from graphprune.frontends.files import load
folder = Path(sys.argv[2])
load.LARGEST = 1 << 16
def prune(name):
    assert main([str(folder / name), "--budget", "0.5", "-o", str(folder / f"{name}.out.onnx"), "-q"]) == 0
stack(folder / "warm.onnx", 1, 64, 256)
prune("warm.onnx")
before = highest()
prune("large.onnx")
print(before, highest())
"""


@pytest.fixture
def stacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    from large import stack

    yield stack


def test_memory_stays_below_the_size_of_the_weights(tmp_path: Path, stacked: Any) -> None:
    """A model of 67 MB with the limit lowered: what the run adds to the peak is less than 1.3 times its size."""
    size = stacked(tmp_path / "large.onnx", 4, 1024, 2048, files="many")
    words = [sys.executable, "-c", CHILD, str(BENCH), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    before, after = map(int, done.stdout.split())
    assert (after - before) / size < 1.3
    out = tmp_path / "large.onnx.out.onnx"
    found = weights_of(out)
    widths = {name: found[name].shape for name in ("b0.up", "b3.down")}
    assert widths["b0.up"][0] == widths["b3.down"][1] == 1024
    assert sum(a.size for a in found.values()) < 0.6 * size / 4


@pytest.mark.slow
def test_a_model_of_2_4_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command, in a process of its own: peak below 1.5 times the size, the imports included."""
    monkeypatch.syspath_prepend(str(BENCH))
    import large

    path, out = tmp_path / "large.onnx", tmp_path / "small.onnx"
    try:
        size = large.stack(path, 18)
        assert size > 2.4e9
        peak, _ = large.peak_of_command(path, out)
        assert peak / size < 1.5
        assert {p["location"] for p in stated(out).values()} == {"small.onnx.data"}
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_prepacking", "1")
        ours = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
        assert np.isfinite(ours.run(None, {"x": np.ones((1, large.WIDTH), np.float32)})[0]).all()
        assert 0.45 < sum(p.stat().st_size for p in tmp_path.glob("small.onnx*")) / size < 0.51
    finally:
        for file in tmp_path.iterdir():
            file.unlink()
