"""What the profiler adds to a kernel is told from what the kernel takes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphprune.latency.machine import Machine
from graphprune.latency.overhead import LEAST_LEFT, chain, profiler_seconds, without
from graphprune.latency.timing import lower_mean


def test_it_is_taken_off_but_something_is_left() -> None:
    seconds = np.array([1e-5, 3e-6, np.nan])
    left = without(seconds, 2.5e-6)
    assert left[:2] == pytest.approx([7.5e-6, 5e-7])
    assert np.isnan(left[2])
    assert without(np.array(1e-6), 2.5e-6) == pytest.approx(LEAST_LEFT * 1e-6)


def test_chains_keep_all_their_nodes() -> None:
    """Against what onnxruntime runs: nothing of a chain is fused or folded away."""
    for count in (1, 7):
        model = chain(count)
        onnx.checker.check_model(model, full_check=True)
        out = Machine().session(model).run(None, {"x": np.full((1, 1, 1, 1), 0.5, np.float32)})[0]
        value = np.float32(0.5)
        for k in range(count):
            value = value * np.float32(0.5) if k % 2 else value + np.float32(0.5)
        assert out.item() == pytest.approx(float(value))


def test_it_is_some_microseconds_at_most() -> None:
    """Real timings: it is not negative, and a number."""
    assert 0 <= profiler_seconds(Machine(), lower_mean) < np.inf
