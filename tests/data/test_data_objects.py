"""Samples from Python: arrays, data sets, loaders, iterables and functions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from graphprune.data import Batch, InputSpec, Samples, open_samples
from graphprune.errors import UsageError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
ONE = (InputSpec("x", F32, (None, 3)),)
TWO = (InputSpec("a", F32, (None, 3)), InputSpec("b", I64, (None,)))
OPEN = (InputSpec("x"),)
"""What is known of a torch module without example inputs."""
X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([3, 1, 2, 0])


def everything(samples: Samples) -> Batch:
    return samples.take(np.arange(len(samples)))


def check(samples: Samples, *, labelled: bool) -> None:
    assert len(samples) == 4
    batch = samples.take(np.array([2, 0]))
    np.testing.assert_array_equal(batch.inputs["x"], X[[2, 0]])
    assert batch.inputs["x"].dtype == (samples.specs[0].dtype or batch.inputs["x"].dtype)
    assert samples.has_labels == labelled
    if labelled:
        assert batch.labels is not None
        np.testing.assert_array_equal(batch.labels, Y[[2, 0]])


class Rows(Dataset):  # type: ignore[misc, unused-ignore]
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


class Columns:
    """What a Hugging Face data set looks like: items are dictionaries of Python values."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixels": X[index].tolist(), "label": int(Y[index]), "name": f"row {index}"}


class Stream(IterableDataset):  # type: ignore[misc, unused-ignore]
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(torch.from_numpy(X.copy()), torch.from_numpy(Y.copy()), strict=True))


def batches() -> Iterator[dict[str, NDArray[Any]]]:
    """One array, filled again and again, as fast loaders do."""
    buffer = np.empty((2, 3), np.float32)
    for k in (0, 2):
        buffer[:] = X[k : k + 2]
        yield {"x": buffer, "y": Y[k : k + 2]}


@pytest.mark.parametrize("specs", [ONE, OPEN])
@pytest.mark.parametrize(
    ("data", "labelled"),
    [
        (X, False),
        (torch.from_numpy(X), False),
        ({"x": X, "labels": Y}, True),
        ({"x": torch.from_numpy(X), "labels": torch.from_numpy(Y)}, True),
        (TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), True),
        (TensorDataset(torch.from_numpy(X)), False),
        (Rows([{"x": row, "target": y} for row, y in zip(X, Y, strict=True)]), True),
        (DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=3, shuffle=True), True),
        (Columns(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_data(specs: tuple[InputSpec, ...], data: Any, labelled: bool) -> None:
    check(open_samples(data, specs), labelled=labelled)


def test_iterables_are_collected_and_may_be_read_again() -> None:
    for data in (batches(), list(batches_copied()), Stream(), DataLoader(Stream(), batch_size=3)):
        samples = open_samples(data, ONE)
        check(samples, labelled=True)
        check(samples, labelled=True)


def batches_copied() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    yield X[:1], Y[:1]
    yield X[1:], Y[1:]


def test_a_loaders_own_collation_is_used() -> None:
    rows = Rows([(np.full(k + 1, k, np.float32), k) for k in range(3)])

    def padded(items: list[Any]) -> dict[str, Any]:
        x = np.zeros((len(items), 3), np.float32)
        for k, (row, _) in enumerate(items):
            x[k, : len(row)] = row
        return {"x": torch.from_numpy(x), "labels": torch.tensor([y for _, y in items])}

    batch = everything(open_samples(DataLoader(rows, batch_size=2, collate_fn=padded), ONE))
    np.testing.assert_array_equal(batch.inputs["x"], [[0, 0, 0], [1, 1, 0], [2, 2, 2]])
    np.testing.assert_array_equal(batch.labels, [0, 1, 2])


def test_several_inputs_by_order_and_by_name() -> None:
    rows = [(X[k], np.int64(k), Y[k]) for k in range(4)]
    for data in (Rows(rows), {"b": np.arange(4), "a": X, "label": Y}, [rows[0], rows[1], rows[2], rows[3]]):
        batch = everything(open_samples(data, TWO))
        np.testing.assert_array_equal(batch.inputs["a"], X)
        np.testing.assert_array_equal(batch.inputs["b"], np.arange(4))
        np.testing.assert_array_equal(batch.labels, Y)


def test_bfloat16_tensors_become_floats() -> None:
    batch = everything(open_samples({"x": torch.from_numpy(X).bfloat16()}, ONE))
    np.testing.assert_array_equal(batch.inputs["x"], X)


def test_a_function_gives_any_of_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    (tmp_path / "my_data_of_test.py").write_text(
        "import numpy as np\n"
        "def path(): return 'd.npz'\n"
        "def rows():\n    for k in range(4): yield np.load('d.npz')['x'][k], np.load('d.npz')['labels'][k]\n"
        "def nothing(): return None\n"
        "number = 3\n"
    )
    before = list(sys.path)
    for name in ("path", "rows"):
        check(open_samples(f"my_data_of_test:{name}", ONE), labelled=True)
    assert sys.path == before
    for name, code in (
        ("my_data_of_test:nothing", "data-function"),
        ("my_data_of_test:number", "function-missing"),
        ("my_data_of_test:absent", "function-missing"),
        ("no_such_module:f", "function-missing"),
    ):
        with pytest.raises(UsageError) as caught:
            open_samples(name, ONE)
        assert caught.value.code == code
        assert name in str(caught.value)


def test_a_function_that_fails_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_data_of_test.py").write_text(
        "import numpy as np\n"
        "def key(): return {}['a']\n"
        "def midway():\n    yield np.zeros((3, 4), np.float32)\n    raise RuntimeError('the disk is gone')\n"
        "def wants(more): return more\n"
    )
    for name, words in (("key", "KeyError: 'a'"), ("midway", "the disk is gone"), ("wants", "missing 1 required")):
        with pytest.raises(UsageError, match=words) as caught:
            open_samples(f"failing_data_of_test:{name}", ONE)
        assert caught.value.code == "data-function"
        assert "py, line " in caught.value.message


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (Rows([X[0], X[1], X[2, :2]]), "data-shape", "sample 2"),
        (Rows([(X[0], 1), (X[1],)]), "data-count", "sample 1"),
        (Rows([(X[0], 1, 2)]), "data-count", "sample 0"),
        (Rows([{"x": X[0]}, {"z": 1, "w": 2}]), "data-input-missing", "sample 1"),
        (Rows(["some words"]), "data-not-numbers", "sample 0"),
        (Rows([]), "data-empty", "data"),
        ([], "data-empty", "data"),
        ([X, X[:, :2]], "data-shape", "item 1"),
        ({"x": [[1, 2], [3]]}, "data-not-numbers", "'x'"),
        ((X, Y), "data-unknown", "tuple"),
        (3, "data-unknown", "int"),
        ({}, "data-input-missing", "no array at all"),
        ({"x": X[:0]}, "data-empty", "data"),
    ],
)
def test_what_does_not_fit_is_named(data: Any, code: str, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        everything(open_samples(data, ONE))
    assert caught.value.code == code
    assert place in str(caught.value)
    assert caught.value.hint


def test_items_of_several_sizes_do_not_share_a_batch() -> None:
    samples = open_samples(
        Rows([np.ones((2,), np.float32), np.ones((3,), np.float32)]), [InputSpec("x", F32, (None, None))]
    )
    assert [b.inputs["x"].shape for b in samples.batches(1)] == [(1, 2), (1, 3)]
    with pytest.raises(UsageError, match="sample 1"):
        everything(samples)


def test_samples_pass_through_where_they_fit() -> None:
    samples = open_samples(X, ONE)
    assert open_samples(samples, ONE) is samples
    with pytest.raises(UsageError, match="other inputs"):
        open_samples(samples, TWO)


def test_files_need_no_torch(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    code = (
        "import sys, numpy as np\n"
        "from graphprune.data import InputSpec, open_samples\n"
        f"s = open_samples({str(tmp_path / 'd.npz')!r}, [InputSpec('x', np.dtype('f'), (None, 3))])\n"
        "assert sum(b.size for b in s) == 4\n"
        "print(sorted(set(sys.modules) & {'torch', 'datasets', 'PIL', 'onnx'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
