"""Sums of moments against NumPy in float64; float32 blocks within the bound that is stated; which rows are taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graphprune.errors import ModelError, UsageError
from graphprune.statistics import Cross, Moments, Settings
from graphprune.statistics.gram import BLOCK, MOST, WIDE, Accumulator
from graphprune.statistics.settings import chosen


def rows(count: int, columns: int, seed: int = 0) -> Any:
    """Rows of correlated columns, some with a mean far from zero."""
    stream = np.random.default_rng(seed)
    mixed = stream.standard_normal((count, columns)) @ stream.standard_normal((columns, columns))
    return (mixed + np.where(np.arange(columns) % 3, 0.0, 1000.0)).astype(np.float32)


def brute(x: Any, blocks: int) -> Moments:
    x = x.astype(np.float64)
    centred = (x - x.mean(axis=0)).reshape(len(x), blocks, -1)
    return Moments(len(x), x.mean(axis=0), np.einsum("nbi,nbj->bij", centred, centred))


def pieces(x: Any, *sizes: int) -> Iterator[Any]:
    start, k = 0, 0
    while start < len(x):
        yield x[start : start + sizes[k % len(sizes)]]
        start, k = start + sizes[k % len(sizes)], k + 1


@pytest.mark.parametrize(("columns", "blocks"), [(7, 1), (150, 1), (12, 4), (12, 12), (300, 2)])
@pytest.mark.parametrize("count", [1, 5, BLOCK, 2 * BLOCK + 17])
def test_blocks_add_up_within_the_bound(columns: int, blocks: int, count: int) -> None:
    x = rows(count, columns)
    total = Accumulator(columns, blocks, None, "here")
    for part in pieces(x, 300, 1, 1500):
        total.add(part)
    found, wanted = total.finish(), brute(x, blocks)
    assert found.rows == count
    assert found.mean == pytest.approx(wanted.mean, rel=1e-9, abs=1e-9)
    spread = np.sqrt(np.diagonal(wanted.scatter, axis1=1, axis2=2))
    # The stated bound, and what rounding a mean of 1000 to float32 adds.
    bound = (BLOCK + 3) * 2**-24 * spread[:, :, None] * spread[:, None, :] + count * (1000 * 2**-24) ** 2
    assert (np.abs(found.scatter - wanted.scatter) <= bound + 1e-12).all()
    assert np.array_equal(found.scatter, found.scatter.swapaxes(1, 2))


@pytest.mark.parametrize("count", [700, MOST + 700])
def test_wide_moments_in_float32_are_within_their_bound(count: int) -> None:
    columns = WIDE + 8
    x = np.random.default_rng(0).standard_normal((count, columns)).astype(np.float32) + np.float32(3)
    order = np.random.default_rng(1).permutation(columns)
    total = Accumulator(columns, 1, order, "here", 2, single=True)
    for part in pieces(x, 300, 1, 1500):
        total.add(part, part[:, :2] * 2)
    found, wanted = total.finish_cross(), brute(x[:, order], 1)
    assert found.x.scatter.dtype == np.float32
    assert found.x.rows == count
    assert found.x.mean == pytest.approx(wanted.mean, rel=1e-6)
    spread = np.sqrt(np.diagonal(wanted.scatter, axis1=1, axis2=2))
    bound = (MOST + 3) * 2**-24 * spread[:, :, None] * spread[:, None, :]
    apart = np.abs(found.x.scatter - wanted.scatter)
    assert (apart <= bound).all()
    assert (apart / bound).mean() < 0.02  # in practice about its root
    assert np.array_equal(found.x.scatter, found.x.scatter.swapaxes(1, 2))
    place = [int(np.flatnonzero(order == k)[0]) for k in range(2)]
    assert found.scatter[0] == pytest.approx(2 * wanted.scatter[0][place], rel=1e-3, abs=1e-1)


def test_many_means_are_put_together() -> None:
    x = rows(2 * 70 * 8, 5)
    total = Accumulator(5, 1, None, "here")
    for part in pieces(x, 8):
        total.add(part)
        total.flush()
    assert total.finish().scatter == pytest.approx(brute(x, 1).scatter, rel=1e-5, abs=1e-2)


@pytest.mark.parametrize(("columns", "blocks", "outputs"), [(9, 1, 4), (12, 3, 2), (200, 1, 3)])
def test_targets_and_rows_together(columns: int, blocks: int, outputs: int) -> None:
    x, y = rows(2500, columns), rows(2500, blocks * outputs, seed=1)
    total = Accumulator(columns, blocks, None, "here", outputs)
    for part, own in zip(pieces(x, 700), pieces(y, 700), strict=True):
        total.add(part, own)
        if len(part) % 2:
            total.flush()
    found = total.finish_cross()
    a, b = (
        x.astype(np.float64).reshape(-1, blocks, columns // blocks),
        y.astype(np.float64).reshape(-1, blocks, outputs),
    )
    assert found.mean == pytest.approx(b.mean(axis=0))
    scale = np.abs(a - a.mean(axis=0)).max() * np.abs(b - b.mean(axis=0)).max()
    assert found.covariance == pytest.approx(
        np.einsum("nbo,nbi->boi", b - b.mean(axis=0), a - a.mean(axis=0)) / 2500, abs=1e-5 * scale
    )
    assert found.second == pytest.approx(np.einsum("nbo,nbi->boi", b, a) / 2500, rel=1e-4, abs=1e-4 * scale)
    assert found.variance == pytest.approx(b.var(axis=0), rel=1e-5)


def test_least_squares_from_cross_moments_is_that_of_the_rows() -> None:
    stream = np.random.default_rng(2)
    x = stream.standard_normal((600, 8)).astype(np.float32) + 2
    y = (x @ stream.standard_normal((8, 3)) + 0.1 * stream.standard_normal((600, 3))).astype(np.float32)
    total = Accumulator(8, 1, None, "here", 3)
    total.add(x, y)
    cross = total.finish_cross()
    weights = np.linalg.solve(cross.x.covariance[0], cross.covariance[0].T).T
    shift = cross.mean[0] - weights @ cross.x.mean
    wanted = np.linalg.lstsq(np.column_stack([x, np.ones(600)]).astype(np.float64), y, rcond=None)[0].T
    assert weights == pytest.approx(wanted[:, :8], abs=1e-4)
    assert shift == pytest.approx(wanted[:, 8], abs=1e-4)


@pytest.mark.parametrize("blocks", [1, 3])
def test_sums_of_two_are_those_of_all_rows(blocks: int) -> None:
    x, y = rows(700, 6), rows(700, 2 * blocks, seed=3)

    def of(part: slice) -> Cross:
        total = Accumulator(6, blocks, None, "here", 2)
        total.add(x[part], y[part])
        return total.finish_cross()

    both, whole = of(slice(0, 300)) + of(slice(300, 700)), of(slice(0, 700))
    assert both.x.rows == 700
    for name in ("mean", "scatter"):
        assert getattr(both.x, name) == pytest.approx(getattr(brute(x, blocks), name), rel=1e-5, abs=1e-2)
    assert both.mean == pytest.approx(whole.mean)
    assert both.energy == pytest.approx(whole.energy, rel=1e-5)
    assert both.scatter == pytest.approx(whole.scatter, rel=1e-4, abs=1e-4 * np.abs(whole.scatter).max())


def test_parts_of_moments() -> None:
    x = rows(90, 6)
    whole, columns = brute(x, 1), np.array([4, 1])
    assert whole.take(columns).scatter == pytest.approx(brute(x[:, columns], 1).scatter)
    assert brute(x, 3).block(1).second == pytest.approx(brute(x[:, 2:4], 1).second)
    assert whole.second[0] == pytest.approx(x.T.astype(np.float64) @ x / 90, rel=1e-6)
    assert not whole.rank_deficient
    assert brute(x[:6], 1).rank_deficient
    with pytest.raises(UsageError, match="3 blocks"):
        brute(x, 3).take(columns)
    with pytest.raises(UsageError, match="do not add up"):
        _ = whole + brute(x, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e30])
def test_what_is_not_finite_is_refused(value: float) -> None:
    total = Accumulator(3, 1, None, "relu_7")
    total.add(np.array([[1, 2, value], [1, 2, -value]], np.float32))
    with pytest.raises(ModelError) as error:
        total.finish()
    assert (error.value.code, error.value.where) == ("activations-not-finite", "relu_7")


# Rows -----------------------------------------------------------------------------------------------------------------


def test_rows_of_a_sample_are_its_own_and_none_twice() -> None:
    found = chosen(10, 6, 49, 32, seed=3)
    assert found is not None
    assert found.shape == (6, 32)
    assert all(len(set(row.tolist())) == 32 for row in found)
    assert found.min() >= 0
    assert found.max() < 49
    later = chosen(12, 2, 49, 32, seed=3)
    assert np.array_equal(later, found[2:4])
    assert not np.array_equal(found[0], found[1])
    other = chosen(10, 6, 49, 32, seed=4)
    assert not np.array_equal(found, other)


def test_every_position_is_as_likely() -> None:
    found = chosen(0, 4000, 10, 3, seed=0)
    assert found is not None
    assert np.bincount(found.ravel(), minlength=10) == pytest.approx(1200, abs=120)


def test_all_rows_where_there_are_no_more() -> None:
    assert chosen(0, 2, 9, 9, seed=0) is None
    assert chosen(0, 2, 9, None, seed=0) is None
    assert Settings(rows=100).per_sample(30) == 4
    assert Settings(rows=None).per_sample(30) is None


@pytest.mark.parametrize("name", ["rows", "widest", "batch", "chunks"])
def test_settings_that_make_no_sense(name: str) -> None:
    with pytest.raises(UsageError, match="too few"):
        Settings(**{name: 0})
