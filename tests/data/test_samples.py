"""Order, shuffling, batches, shares and the held-out part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import mlp
from onnx import TensorProto, helper

from graphprune.data import InputSpec, Samples, open_samples, specs_of_arrays, specs_of_model
from graphprune.data.spec import batch_size
from graphprune.errors import GraphpruneError, ModelError, UsageError

F32 = np.dtype(np.float32)


def numbers(count: int, batch: int | None = None) -> Samples:
    """Samples of which each holds its own number."""
    return open_samples(np.arange(count, dtype=np.float32)[:, None], [InputSpec("x", F32, (batch, 1))])


def seen(samples: Samples, size: int | None = None, **share: int) -> list[list[int]]:
    return [b.inputs["x"][:, 0].astype(int).tolist() for b in samples.batches(size, **share)]


def test_batches_are_in_order_even_and_whole() -> None:
    samples = numbers(10)
    assert seen(samples, 4) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert seen(samples, 10) == [list(range(10))]
    assert seen(samples, 99) == [list(range(10))]
    assert [b.size for b in samples] == [10]
    assert seen(samples, 4) == seen(samples, 4)
    assert samples.steps_in(4) == 3


def test_a_fixed_batch_is_kept_and_what_does_not_fill_it_is_told() -> None:
    samples = numbers(11, batch=4)
    assert seen(samples) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert seen(samples, 8) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert samples.notes == ("3 of 11 samples are left out: the model's batch is fixed at 4",)
    with pytest.raises(UsageError, match="a batch of 6") as caught:
        list(samples.batches(6))
    assert "multiple" in str(caught.value.hint)
    with pytest.raises(UsageError, match="a batch of 0"):
        list(numbers(3).batches(0))


@pytest.mark.parametrize("count", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [None, 2])
def test_shares_partition_every_step(count: int, world: int, batch: int | None) -> None:
    samples = numbers(count, batch)
    unit = batch or 1
    together: list[int] = []
    for k in range(samples.steps_in(6)):
        shares = [samples.step(k, 6, rank=r, world=world) for r in range(world)]
        mine = [[int(v) for b in share.batches for v in b.inputs["x"][:, 0]] for share in shares]
        assert {share.total for share in shares} == {sum(map(len, mine))}
        assert max(map(len, mine)) - min(map(len, mine)) <= unit
        assert all(b.size == unit for share in shares for b in share.batches) or batch is None
        together += [v for part in mine for v in part]
    assert together == list(range(count - count % unit))


def test_micro_batches() -> None:
    step = numbers(10).step(0, 10, micro=4)
    assert [b.size for b in step.batches] == [4, 4, 2]
    assert step.total == 10


def test_shuffling_follows_from_seed_and_epoch() -> None:
    samples = numbers(50)

    def order(*key: int) -> list[int]:
        return seen(samples.shuffled(*key), 50)[0]

    assert sorted(order(0)) == list(range(50))
    assert order(0) == order(0, 0)
    assert len({tuple(order(*key)) for key in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4
    assert seen(samples, 50)[0] == list(range(50))


def test_split_is_a_partition_that_follows_from_the_seed() -> None:
    samples = numbers(40)
    rest, held = samples.split(0.25, seed=3)
    assert (len(rest), len(held)) == (30, 10)
    ours, theirs = seen(rest, 40)[0], seen(held, 40)[0]
    assert sorted(ours + theirs) == list(range(40))
    assert ours == sorted(ours)
    assert theirs == sorted(theirs)
    assert theirs == seen(samples.split(0.25, seed=3)[1], 40)[0]
    assert theirs != seen(samples.split(0.25, seed=4)[1], 40)[0]
    assert [len(s) for s in samples.split(0.001)] == [39, 1]
    assert [len(s) for s in samples.split(0)] == [40, 0]
    assert [len(s) for s in numbers(40, batch=8).split(0.1)] == [32, 8]


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.5), (10, 1.0), (10, -0.1), (10, 0.99), (10, float("nan"))])
def test_a_split_that_leaves_nothing_is_refused(count: int, fraction: float) -> None:
    with pytest.raises(UsageError) as caught:
        numbers(count).split(fraction)
    assert caught.value.code == "data-split"


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_numbers_that_are_none_are_refused_by_the_number_that_the_data_has(bad: float) -> None:
    x, level = np.zeros((8, 2, 3), np.float32), np.array(1.0, np.float32)
    x[5, 1, 1] = bad
    specs = [InputSpec("x", F32, (None, 2, 3)), InputSpec("level", F32, ())]
    samples = open_samples({"x": x, "level": level}, specs)
    some = Samples(samples.specs, samples.source, np.array([7, 6, 5, 4])).finite()
    assert some.take(np.array([0, 1])).size == 2
    with pytest.raises(UsageError, match="'x' of sample 5 ") as caught:
        some.take(np.array([1, 2, 3]))
    assert caught.value.code == "data-not-finite"
    with pytest.raises(UsageError, match="'level' of sample 7 "):
        open_samples({"x": x, "level": level * bad}, specs).finite().take(np.array([7]))


def test_a_float_that_would_become_infinite_is_refused() -> None:
    spec = [InputSpec("x", F32, (None, 2))]
    for x in ([[1e39, 0]], [[-1e300, np.inf]]):
        with pytest.raises(UsageError, match="too large for float32"):
            open_samples(np.array(x), spec).take(np.array([0]))
    assert np.isinf(open_samples(np.array([[np.inf, 1e30]]), spec).take(np.array([0])).inputs["x"][0, 0])


def test_inputs_of_an_onnx_model() -> None:
    assert specs_of_model(mlp(batch="N")) == (InputSpec("x", F32, (None, 16)),)
    assert specs_of_model(mlp(batch=4)) == (InputSpec("x", F32, (4, 16)),)
    assert str(specs_of_model(mlp(batch="N"))[0]) == "float32 [N, 16]"
    sequence = mlp()
    sequence.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="not a tensor"):
        specs_of_model(sequence)


def test_inputs_by_example() -> None:
    x, level = np.zeros((2, 3), np.float32), np.float64(1)
    assert specs_of_arrays([x, level], ["image"]) == (
        InputSpec("image", F32, (None, 3)),
        InputSpec("1", np.dtype(np.float64), ()),
    )
    assert specs_of_arrays({"a": x})[0].name == "a"


def test_batches_fixed_at_different_sizes_are_refused() -> None:
    assert batch_size([InputSpec("a", F32, (4, 1)), InputSpec("b", F32, (None,)), InputSpec("c", F32, ())]) == 4
    with pytest.raises(ModelError, match="a 4, b 2"):
        batch_size([InputSpec("a", F32, (4, 1)), InputSpec("b", F32, (2, 1))])


@pytest.mark.parametrize("data", [np.zeros((2, 2), np.float32), {"x": np.zeros(3, bool)}])
def test_wrong_arrays(data: Any) -> None:
    with pytest.raises(GraphpruneError):
        open_samples(data, [InputSpec("x", F32, (None, 1))])
