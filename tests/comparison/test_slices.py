"""Finding which slice of an array another one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphprune.comparison.slices import slice_of, taken

RNG = np.random.default_rng(0)
CODES: NDArray[Any] = RNG.integers(-128, 128, (24, 18, 3)).astype(np.int8)


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((12,), {0: (0, 3, 11)}),
        ((12, 7), {0: (1, 2, 10)}),
        ((12, 7), {1: (0, 6)}),
        ((12, 7), {0: (4,), 1: (2, 3)}),
        ((16, 8, 3, 3), {0: (0, 1, 9, 15), 1: (1, 5)}),
        ((6, 5, 4), {0: (0, 5), 1: (4,), 2: (1, 2)}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_what_was_kept_is_found(shape: tuple[int, ...], kept: dict[int, tuple[int, ...]], dtype: Any) -> None:
    whole = RNG.standard_normal(shape).astype(dtype)
    part = whole[np.ix_(*(kept.get(axis, range(n)) for axis, n in enumerate(shape)))]
    assert slice_of(whole, part) == kept
    assert np.array_equal(taken(whole, kept), part)


def test_codes_of_a_quantised_model_repeat_and_are_found_by_the_vote() -> None:
    kept = {0: tuple(range(0, 24, 2)), 1: (0, 5, 17)}
    found = slice_of(CODES, taken(CODES, kept))
    assert found is None or np.array_equal(taken(CODES, found), taken(CODES, kept))


@pytest.mark.parametrize(
    "part",
    [
        RNG.standard_normal((4, 5)),  # other values
        np.arange(40.0).reshape(8, 5)[[3, 1]],  # another order
        np.arange(40.0).reshape(8, 5)[[1, 2]] + 1e-9,  # nearly
        np.zeros((9, 5)),  # longer
        np.zeros(5),  # another rank
    ],
)
def test_what_is_no_slice_is_none(part: NDArray[Any]) -> None:
    assert slice_of(np.arange(40.0).reshape(8, 5), part) is None


def test_nothing_left_is_a_slice() -> None:
    assert slice_of(np.ones((4, 3)), np.ones((0, 3))) == {0: ()}
