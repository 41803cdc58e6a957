"""What is timed of graphprune: the steps on a model in memory, and a whole run from file to file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from graphprune.passes import Magnitude
from onnx import ModelProto

import graphprune as gp
from graphprune.backends.save import save

Shapes = Mapping[str, Sequence[int]]


def steps(model: ModelProto, shapes: Shapes | None = None, macs: float = 0.5) -> ModelProto:
    """Trace, couple, score, solve and rewrite."""
    graph = gp.trace(model, input_shapes=shapes)
    groups = gp.couple(graph)
    scores = Magnitude()(graph, groups)
    plan = gp.solve(groups, scores, gp.Budget(macs=macs))
    return gp.rewrite(graph, plan, groups)


def whole(path: Path, out: Path, shapes: Shapes | None = None, progress: Callable[[str], None] | None = None) -> None:
    """Load, trace, couple, score, solve, rewrite, count, verify and save, as the command does."""
    model, _report = gp.prune(path, budget=0.5, input_shapes=shapes, progress=progress)
    if progress:
        progress("save")
    save(model, out, force=True)
    if progress:
        progress("")
