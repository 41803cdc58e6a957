"""The example of a latency budget, with seconds that follow the multiply-accumulates: nothing is timed."""

import runpy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from example_outputs import EXAMPLES, PAGE, differences, documented
from fake_clock import in_proportion, profile

import graphprune as gp
from graphprune.latency.machine import Machine

SCRIPT = "latency_budget.py"
SIZES = {"x": (1, 3, 48, 192)}


def lap(_self: Machine, model: Any, _feeds: Any) -> Callable[[int], float]:
    """Return seconds a run of a nanosecond for every 10 multiply-accumulates, to within a hundredth."""
    seconds, rng = 1e-10 * gp.count(gp.trace(model, input_shapes=SIZES))["macs"], np.random.default_rng(0)
    return lambda runs: float(runs * seconds * rng.uniform(0.99, 1.01))


def test_the_script_prints_what_the_documents_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Machine, "lap", lap)
    monkeypatch.setattr("graphprune.latency.profile.measure_profile", lambda *a, **k: profile())
    monkeypatch.setattr("graphprune.latency.model.latency_of", lambda graph, groups, _: in_proportion(groups, 1e-10))
    monkeypatch.setattr("graphprune.latency.model.alignment", lambda *a: {})
    monkeypatch.setattr(sys, "argv", [SCRIPT])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(EXAMPLES / SCRIPT), run_name="__main__")
    words = capsys.readouterr().out
    assert not differences(documented(PAGE.read_text(encoding="utf-8"))[SCRIPT], words)
    ratio = float(words.split("ratio:    ~")[1].split(";")[0])
    assert 0.7 < ratio <= 0.8
