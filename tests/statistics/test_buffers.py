"""Outputs in memory that is used again: the same numbers, for other inputs, other shapes and sizes that vary."""

from __future__ import annotations

import errno
import tempfile

import numpy as np
import pytest
from onnx import helper
from statistics_nets import residual, traced

from graphprune.errors import OutputError
from graphprune.graph import Array
from graphprune.runtime import session
from graphprune.statistics.buffers import Buffers
from graphprune.statistics.running import network
from graphprune.statistics.targets import Store


def images(count: int, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def test_runs_give_what_they_gave_and_write_over_it() -> None:
    model, shape = residual()
    graph, _, consumers = traced(model)
    names = [c.tensor for c in consumers.values()]
    plain, again = network(graph).fetching(names), network(graph).fetching(names, reuse=True)
    first = again({"x": images(3, *shape)})
    for seed, count in ((1, 3), (2, 2), (3, 1), (4, 3), (5, 2)):
        x = images(count, *shape, seed=seed)
        found, wanted = again({"x": x}), plain({"x": x})
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    inner = next(name for name in names if name != "x")
    assert np.shares_memory(first[inner], again({"x": images(2, *shape, seed=7)})[inner])
    assert not np.shares_memory(first[inner], again({"x": images(4, *shape, seed=8)})[inner])  # more than there is room


def test_sizes_that_depend_on_values_are_run_as_ever() -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    ends = [helper.make_tensor_value_info("x", 1, ["n"]), helper.make_tensor_value_info("y", 7, [1, None])]
    graph = helper.make_graph([node], "sizes", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    running, buffers = session(model), Buffers()
    for values in ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]):
        fed = np.array(values, np.float32)
        (found,) = buffers.run(running, [model.graph.output[0].name], {"x": fed}, None)
        assert found.tolist() == [np.flatnonzero(fed).tolist()]


@pytest.mark.parametrize("room", [0, 100, 1 << 20])
def test_what_is_stored_comes_back_whether_in_memory_or_in_the_file(room: int) -> None:
    store, stream = Store(room), np.random.default_rng(0)
    held: dict[int, Array] = {}
    types = (np.float32, np.float16, np.int64, np.bool_, np.float64)
    for number in range(60):
        values = stream.integers(0, 2, (number % 5, 3)).astype(types[number % len(types)])
        store.put(number, values, copy=number % 2 == 0)
        held[number] = values.copy()
        if number % 2 == 0:
            values[...] = 1 - values  # what was copied does not change
        if number % 3 == 2:
            gone = sorted(held)[stream.integers(len(held))]
            store.drop(gone)
            del held[gone]
            assert gone not in store
        for key, value in held.items():
            found = store.get(key)
            assert found.dtype == value.dtype
            assert np.array_equal(found, value)


def test_room_of_the_file_is_used_again() -> None:
    store = Store(0)
    for number in range(50):
        store.put(number, np.full(1000, number, np.float32))
        if number >= 2:
            store.drop(number - 2)
    assert store._end == 3 * 4000
    assert store.get(49)[0] == 49


def test_a_full_folder_for_temporary_files_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, at: int) -> None: ...

        def close(self) -> None: ...

        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **named: Full())
    store = Store(0)
    with pytest.raises(OutputError, match="folder for temporary files: No space left") as caught:
        store.put("a", np.ones(3, np.float32))
    assert "TMPDIR" in str(caught.value.hint)
    assert "a" not in store
