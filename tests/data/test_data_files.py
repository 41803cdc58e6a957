"""Samples from .npz and .npy files and folders of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphprune.data import Batch, InputSpec, Samples, open_samples
from graphprune.data import chunks as chunks_module
from graphprune.data.arrays import headers, load
from graphprune.errors import UsageError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
IMAGE = (InputSpec("x", F32, (None, 3, 4, 4)),)
TOKENS = (InputSpec("ids", I64, (None, None)), InputSpec("mask", I64, (None, None)))


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 4, 4)).astype(np.float32)


def everything(samples: Samples) -> Batch:
    return samples.take(np.arange(len(samples)))


def refused(data: Any, specs: tuple[InputSpec, ...], code: str, *words: str, **options: Any) -> None:
    with pytest.raises(UsageError) as caught:
        everything(open_samples(data, specs, **options))
    assert caught.value.code == code
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_by_input_name(tmp_path: Path, write: Callable[..., None]) -> None:
    ids, mask = np.arange(12).reshape(3, 4), np.ones((3, 4), np.int64)
    write(tmp_path / "d.npz", mask=mask, ids=ids, labels=np.array([2, 0, 1]))
    samples = open_samples(tmp_path / "d.npz", TOKENS)
    assert len(samples) == 3
    assert samples.has_labels
    batch = samples.take(np.array([2, 0]))
    np.testing.assert_array_equal(batch.inputs["ids"], ids[[2, 0]])
    np.testing.assert_array_equal(batch.inputs["mask"], mask[[2, 0]])
    np.testing.assert_array_equal(batch.labels, [1, 2])


def test_uncompressed_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    x = images(5)
    np.savez(tmp_path / "d.npz", x=x, f=np.asfortranarray(x), one=np.float32(3))
    np.savez_compressed(tmp_path / "c.npz", x=x)
    np.save(tmp_path / "d.npy", x)
    found = load(tmp_path / "d.npz")
    assert isinstance(found["x"], np.memmap)
    assert isinstance(found["f"], np.memmap)
    assert isinstance(load(tmp_path / "d.npy")["d"], np.memmap)
    assert not isinstance(load(tmp_path / "c.npz")["x"], np.memmap)
    for array in (found["x"], found["f"], load(tmp_path / "c.npz")["x"]):
        np.testing.assert_array_equal(array, x)
    assert found["one"] == 3


def test_a_zip_with_extra_fields_is_mapped_at_the_right_place(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images(2))
    info = zipfile.ZipInfo("x.npy")
    info.extra = b"\x99\x99\x04\x00abcd"
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr(info, (tmp_path / "a.npy").read_bytes())
    np.testing.assert_array_equal(load(tmp_path / "d.npz")["x"], images(2))


def test_the_only_array_serves_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images(4))
    np.savez(tmp_path / "b.npz", whatever=images(4), y=np.arange(4))
    for name, labelled in (("a.npy", False), ("b.npz", True)):
        samples = open_samples(tmp_path / name, IMAGE)
        np.testing.assert_array_equal(everything(samples).inputs["x"], images(4))
        assert samples.has_labels == labelled


def test_folder_in_the_order_of_names_of_one_sample_or_many(tmp_path: Path) -> None:
    x = images(6)
    np.savez(tmp_path / "b.npz", x=x[1:4], label=np.array([1, 2, 3]))
    np.savez(tmp_path / "a.npz", x=x[0], label=np.array(0))
    np.savez_compressed(tmp_path / "c.npz", x=x[4:], label=np.array([4, 5]))
    (tmp_path / "README").write_text("not data")
    samples = open_samples(tmp_path, IMAGE)
    order = np.array([5, 0, 3, 3, 1, 4, 2])
    batch = samples.take(order)
    np.testing.assert_array_equal(batch.inputs["x"], x[order])
    np.testing.assert_array_equal(batch.labels, order)


def test_folder_of_single_npy_samples(tmp_path: Path) -> None:
    x = images(3)
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", x[k])
    np.testing.assert_array_equal(everything(open_samples(str(tmp_path), IMAGE)).inputs["x"], x)


def test_npy_files_named_after_inputs_lie_side_by_side(tmp_path: Path) -> None:
    for name, values in (("ids", np.arange(8).reshape(2, 4)), ("mask", np.ones((2, 4), int)), ("y", np.arange(2))):
        np.save(tmp_path / f"{name}.npy", values)
    batch = everything(open_samples(tmp_path, TOKENS))
    np.testing.assert_array_equal(batch.inputs["ids"], np.arange(8).reshape(2, 4))
    np.testing.assert_array_equal(batch.labels, [0, 1])


def test_labels_by_name_and_inputs_that_are_called_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=images(2), kinds=np.array([5, 6]), y=np.array([0, 1]))
    assert everything(open_samples(tmp_path / "d.npz", IMAGE, labels="kinds")).labels.tolist() == [5, 6]
    assert everything(open_samples(tmp_path / "d.npz", IMAGE)).labels.tolist() == [0, 1]
    assert open_samples(tmp_path / "d.npz", IMAGE).notes == ("arrays of the data that serve no input: kinds",)
    specs = (*IMAGE, InputSpec("y", I64, (None,)))
    assert not open_samples(tmp_path / "d.npz", specs).has_labels
    refused(tmp_path / "d.npz", IMAGE, "data-labels-missing", "'classes'", "kinds int64 [2]", labels="classes")


def test_an_input_without_batch_axis_serves_every_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=images(3), level=np.float32(0.5))
    samples = open_samples(tmp_path / "d.npz", (*IMAGE, InputSpec("level", F32, ())))
    assert len(samples) == 3
    assert samples.take(np.array([1, 2])).inputs["level"] == np.float32(0.5)


def test_other_widths_of_a_number_are_converted_where_they_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", ids=np.array([[1, 2]], np.int32), mask=np.array([[1, 1]], np.uint8))
    batch = everything(open_samples(tmp_path / "d.npz", TOKENS))
    assert {a.dtype for a in batch.inputs.values()} == {I64}
    np.save(tmp_path / "f.npy", images(1).astype(np.float64))
    assert everything(open_samples(tmp_path / "f.npy", IMAGE)).inputs["x"].dtype == F32
    np.save(tmp_path / "i.npy", np.array([[2**40]]))
    narrow = (InputSpec("ids", np.dtype(np.int32), (None, None)),)
    refused(tmp_path / "i.npy", narrow, "data-dtype", "i.npy", str(2**40), "int32")


def test_what_does_not_fit_is_named_before_any_work(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", images(2))
    np.save(tmp_path / "1.npy", images(2)[:, :2])
    refused(tmp_path, IMAGE, "data-shape", "1.npy", "'x' is float32 [N, 3, 4, 4]", "float32 [2, 2, 4, 4]")
    np.save(tmp_path / "1.npy", (images(2) * 9).astype(np.uint8))
    refused(tmp_path, IMAGE, "data-dtype", "1.npy", "uint8 [2, 3, 4, 4]", "--preprocess")


def test_wrong_files(tmp_path: Path) -> None:
    x, good = images(2), tmp_path / "good"
    good.mkdir()
    refused(tmp_path / "none.npz", IMAGE, "data-missing", "none.npz")
    refused(good, IMAGE, "data-empty", "good")
    (tmp_path / "text.npz").write_text("hello")
    refused(tmp_path / "text.npz", IMAGE, "data-unreadable", "text.npz")
    (tmp_path / "text.npy").write_text("hello")
    refused(tmp_path / "text.npy", IMAGE, "data-unreadable", "text.npy")
    (tmp_path / "d.csv").write_text("1,2")
    refused(tmp_path / "d.csv", IMAGE, "data-unknown", "d.csv")
    np.savez(tmp_path / "other.npz", a=x, b=x)
    refused(tmp_path / "other.npz", IMAGE, "data-input-missing", "'x'", "a float32 [2, 3, 4, 4]")
    np.savez(tmp_path / "uneven.npz", ids=np.ones((2, 4), int), mask=np.ones((3, 4), int))
    refused(tmp_path / "uneven.npz", TOKENS, "data-count", "ids 2, mask 3")
    np.savez(tmp_path / "short.npz", x=x, labels=np.arange(3))
    refused(tmp_path / "short.npz", IMAGE, "data-count", "labels", "2 samples")
    np.savez(tmp_path / "words.npz", x=x, labels=np.array(["cat", "dog"]))
    refused(tmp_path / "words.npz", IMAGE, "data-labels", "words.npz")
    np.save(tmp_path / "empty.npy", x[:0])
    refused(tmp_path / "empty.npy", IMAGE, "data-empty", "empty.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    refused(tmp_path / "objects.npy", IMAGE, "data-dtype", "objects")


def test_labels_for_all_or_for_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=images(2), labels=np.arange(2))
    np.savez(tmp_path / "b.npz", x=images(2))
    refused(tmp_path, IMAGE, "data-labels-missing", "b.npz", "a.npz")


def test_samples_of_several_lengths_need_batches_of_one(tmp_path: Path) -> None:
    for k, length in enumerate((3, 5)):
        np.savez(tmp_path / f"{k}.npz", ids=np.ones((2, length), int), mask=np.ones((2, length), int))
    samples = open_samples(tmp_path, TOKENS)
    assert [b.inputs["ids"].shape for b in samples.batches(1)] == [(1, 3), (1, 3), (1, 5), (1, 5)]
    refused(tmp_path, TOKENS, "data-sizes-differ", "ids")


def test_a_file_that_changes_after_the_check_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images(4))
    samples = open_samples(tmp_path / "d.npy", IMAGE)
    np.save(tmp_path / "d.npy", images(3))
    with pytest.raises(UsageError, match="has changed"):
        everything(samples)


def test_memory_holds_few_compressed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(6):
        np.savez_compressed(tmp_path / f"{k}.npz", x=images(2, k))
    monkeypatch.setattr(chunks_module, "CACHED_BYTES", 2 * images(2).nbytes)
    samples = open_samples(tmp_path, IMAGE)
    np.testing.assert_array_equal(everything(samples).inputs["x"], np.concatenate([images(2, k) for k in range(6)]))
    assert isinstance(samples.source, chunks_module.Chunks)
    assert sorted(samples.source._cache) == [4, 5]


def test_headers_are_read_without_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images(1000))
    whole = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:200])
    assert str(headers(tmp_path / "cut.npy")["cut"]) == "float32 [1000, 3, 4, 4]"
