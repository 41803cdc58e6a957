"""What scores and repair cost beside the bare inference of the same samples, in one run, by part.

    python tests/bench/calibration_bench.py [resnet50|encoder|FILE.onnx ...] [--samples 256] [--budget 0.5]
        [--method obs] [--parts]

``resnet50`` is that network at 224 x 224, ``encoder`` one of the size of BERT base at 128 tokens, both with random
weights (``statistics_bench``). The model is scored on the samples, by ``obs`` or another method, solved for the budget,
rewritten, and repaired by least squares on the same samples, as ``graphprune model.onnx --data`` does. Times are of the
processor, all threads together: what other programs do does not count. A ratio is to the time that a bare onnxruntime
session takes for the samples, by batches of 8, measured before and after. Give ``taskset -c 0`` for one thread.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from statistics_bench import BATCH, MODELS

from graphprune.cli import keep_freed_memory
from graphprune.pipeline import fitting
from graphprune.pipeline.calibration import measured
from graphprune.pipeline.opening import open_model, read
from graphprune.pipeline.settings import Settings
from graphprune.runtime import session

COUNTED = ("scores", "repair")
"""Stages whose sum is what a user pays for samples: statistics are part of the scores."""


class Parts:
    """Seconds of the processor by what it does: the innermost part that is named gets them."""

    def __init__(self) -> None:
        self.seconds: Counter[tuple[str, str]] = Counter()
        self.clock: Counter[str] = Counter()
        self.stage = ""
        self._stack: list[str] = []
        self._since = 0.0

    def _settle(self) -> None:
        now = time.process_time()
        if self._stack:
            self.seconds[self.stage, self._stack[-1]] += now - self._since
        self._since = now

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count what happens inside as this part, but for the parts inside it."""
        self._settle()
        self._stack.append(name)
        try:
            yield
        finally:
            self._settle()
            self._stack.pop()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count what happens inside to a stage."""
        start, self.stage = time.perf_counter(), stage
        with self.within("other"):
            yield
        self.clock[stage] += time.perf_counter() - start

    def watch(self, holder: Any, name: str, part: str) -> None:
        """Count every call of a function of a module, or of a class, as a part."""
        inner: Callable[..., Any] = getattr(holder, name)

        def call(*given: Any, **named: Any) -> Any:
            with self.within(part):
                return inner(*given, **named)

        setattr(holder, name, call)

    def total(self, stage: str) -> float:
        """Return the seconds of a stage."""
        return sum(seconds for (own, _), seconds in self.seconds.items() if own == stage)


def watch_all(parts: Parts) -> None:
    """Name the parts: what runs networks, reads rows, adds up moments, solves."""
    from graphprune import runtime
    from graphprune.pipeline import fitting as stages
    from graphprune.repair import elimination, fit, group_layers, probing, stage, validation
    from graphprune.statistics import gram, targets, windows

    parts.watch(runtime.Session, "run", "running the network")
    parts.watch(runtime.Session, "run_into", "running the network")
    parts.watch(runtime, "_inference_session", "opening sessions")
    parts.watch(windows.Rows, "read", "reading rows")
    parts.watch(gram.Accumulator, "flush", "adding up moments")
    parts.watch(gram.Accumulator, "finish", "adding up moments")
    parts.watch(targets.Targets, "add", "targets")
    parts.watch(group_layers.Summing, "of", "finding consumers")
    parts.watch(group_layers.Summing, "layers", "layers of groups")
    parts.watch(probing, "fitted", "fits of probes")
    parts.watch(probing, "kept_by", "cuts of probes")
    parts.watch(probing, "cuts_of", "cuts of probes")
    parts.watch(elimination, "eliminate", "elimination")
    parts.watch(validation, "validated", "validation on halves")
    parts.watch(stage, "best_ridge", "choosing ridges")
    parts.watch(fit.Problem, "fit", "fitting")
    parts.watch(stages, "_solved", "solving for the budget")


def infer(model: onnx.ModelProto, feeds: dict[str, Any]) -> float:
    """Run a model on samples in a session of its own, forget what comes out, and return seconds of the processor."""
    running, count = session(model), len(next(iter(feeds.values())))
    start = time.process_time()
    for first in range(0, count, BATCH):
        running.run(None, {name: x[first : first + BATCH] for name, x in feeds.items()})
    return time.process_time() - start


def samples_of(model: onnx.ModelProto, shape: tuple[int, ...] | None, count: int) -> dict[str, Any]:
    """Return Gaussian samples of a shape, or those that fit a file's inputs."""
    if shape is not None:
        return {"x": np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)}
    import graphprune as gp
    from graphprune.statistics import surrogate_samples

    made = surrogate_samples(gp.trace(model), count, 1).samples
    return dict(made.take(np.arange(count)).inputs)


def measure(name: str, count: int, budget: float, method: str, *, by_part: bool) -> None:
    """Print the table of one model."""
    make, shape = MODELS.get(name, (lambda: onnx.load(name), None))
    model = make()
    holdout = 0.2
    feeds = samples_of(model, shape, round(count / (1 - holdout)))
    mine = {key: values[:count] for key, values in feeds.items()}
    print(f"{name}, {method}, {count} samples, {budget:.0%} of the MACs", flush=True)
    before, parts = infer(model, mine), Parts()
    watch_all(parts)
    settings = Settings.of(budget=budget, method=method, data=feeds, holdout=holdout, samples=count)
    with parts.of("trace and couple"):
        opened = open_model(read(model), settings)
    with parts.of("scores"):
        prepared = fitting.prepare(fitting.scoring_pass(settings), opened)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  scored; peak {peak:.2f} GiB", flush=True)
    inner = fitting.repaired

    def repaired(*given: Any) -> Any:
        with parts.of("repair"):
            made = inner(*given)
        parts.stage = "solve, rewrite and count"
        return made

    fitting.repaired = repaired  # type: ignore[assignment]
    with parts.of("solve, rewrite and count"):
        fitted = fitting.fit_prepared(prepared, opened, settings, lambda stage: None)
    fitting.repaired = inner
    with parts.of("agreement on samples held out"):
        cost = measured(settings.calibration, opened.graph, fitted.small)
    parts.stage = ""
    after = infer(model, mine)
    tell(parts, before, after, by_part=by_part)
    if cost is not None:
        print("  agreement:", "; ".join(f"cosine {o.cosine:.4f}, relative {o.relative:.4f}" for o in cost.outputs))


def tell(parts: Parts, before: float, after: float, *, by_part: bool) -> None:
    """Print seconds and ratios by stage, and by part."""
    bare = (before + after) / 2
    print(f"  bare inference {before:.1f} and {after:.1f} s of the processor, {bare:.1f} on average")
    for stage, clock in parts.clock.items():
        total = parts.total(stage)
        print(f"  {stage:32s} {total:8.1f} s {total / bare:6.2f} x   ({clock:.1f} s by the clock)")
        own = sorted(((s, p) for (of, p), s in parts.seconds.items() if of == stage), reverse=True)
        for seconds, part in own if by_part else ():
            print(f"      {part:28s} {seconds:8.1f} s {seconds / bare:6.2f} x")
    counted = sum(parts.total(stage) for stage in COUNTED)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"  scores and repair together       {counted:8.1f} s {counted / bare:6.2f} x;  peak {peak:.2f} GiB", flush=True
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), help="names, or files")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--method", default="obs")
    parser.add_argument("--parts", action="store_true", help="tell what each stage spends its time on")
    given = parser.parse_args()
    keep_freed_memory()  # as the command does
    for name in given.models:
        if name not in MODELS and not Path(name).is_file():
            parser.error(f"there is no model {name!r}")
        measure(name, given.samples, given.budget, given.method, by_part=given.parts)


if __name__ == "__main__":
    main()
