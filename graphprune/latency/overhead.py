"""What onnxruntime's profiler adds to every kernel it reports: a few microseconds, more than small nodes take."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cost import FloatArray
from .clock import Effort, interleaved
from .events import SUFFIX
from .machine import Machine

if TYPE_CHECKING:
    from onnx import ModelProto

SHORT, LONG = 20, 60
"""Nodes of two chains; what the longer one takes more is what its nodes take when nobody looks."""
RUNS, WARM_UP = 30, 3
SHAPE = (1, 1, 1, 1)
LEAST_LEFT = 0.1
"""Part of a reported time that is left in any case."""


def profiler_seconds(machine: Machine, lower_mean: Callable[[FloatArray], float]) -> float:
    """Measure what the profiler adds to a kernel, in seconds, with chains of nodes that do next to nothing."""
    feeds = {"x": np.full(SHAPE, 0.5, np.float32)}
    effort = Effort(tolerance=0.02, least=7, most=15, seconds=0.2, turn=0.002)
    timing = interleaved([machine.lap(chain(n), feeds) for n in (SHORT, LONG)], effort).seconds
    unseen = (lower_mean(timing[:, 1]) - lower_mean(timing[:, 0])) / (LONG - SHORT)
    with tempfile.TemporaryDirectory() as folder:
        session = machine.session(chain(LONG), trace=Path(folder))
        for _ in range(WARM_UP + RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    seen = [e["dur"] / 1e6 for e in events if e.get("cat") == "Node" and str(e["name"]).endswith(SUFFIX)]
    return max(lower_mean(np.array(seen[WARM_UP * LONG :])) - unseen, 0.0) if len(seen) > WARM_UP * LONG else 0.0


def chain(nodes: int) -> ModelProto:
    """Return a model of so many nodes on a single number, none of which is fused with its neighbour.

    They have two inputs of four axes: the profiler writes down shapes, within what it takes for the kernel's time.
    """
    from onnx import TensorProto, helper

    names = ["x", *(f"t{k}" for k in range(nodes))]
    made = [helper.make_node(("Add", "Mul")[k % 2], [names[k], "x"], [names[k + 1]], f"n{k}") for k in range(nodes)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in (names[0], names[-1])]
    graph = helper.make_graph(made, "chain", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def without(seconds: FloatArray, overhead: float) -> FloatArray:
    """Take the profiler's part off reported seconds, of any shape."""
    return np.asarray(np.maximum(seconds - overhead, LEAST_LEFT * seconds))
