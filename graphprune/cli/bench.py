"""``graphprune bench A B``: models timed in turns, and where their time goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from ..errors import UsageError
from ..seeds import check_seed
from .options import Many, Quiet, Switch, Verbose, input_shapes
from .output import emit
from .progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from ..frontends.files.load import Loaded
    from ..latency.bench import Bench
    from ..runtime import Feeds

MOST_NODES = 15


@Parameter(name="*")
@dataclass(frozen=True)
class BenchOptions:
    """Options of timing models, as given; ``help.BENCH`` says what each does."""

    provider: str = "cpu"
    threads: int = 1
    batch: int | None = None
    input_shape: Many = None
    data: str | None = None
    preprocess: str | None = None
    nodes: Switch = False
    seconds: float = 10.0
    seed: int = 0
    report: Path | None = None
    force: Switch = False
    json: Switch = False
    quiet: Quiet = False
    verbose: Verbose = False


DEFAULTS = BenchOptions()


def bench(*models: Path, options: BenchOptions = DEFAULTS) -> int:
    """Time models in turns and say how they compare."""
    from ..backends.files import File, check_target, write_files
    from ..frontends.files.load import load
    from ..latency.bench import bench as measure
    from ..latency.clock import Effort
    from ..latency.machine import Machine

    machine = Machine(options.provider, options.threads, options.batch)
    _check(models, options)
    machine.check()
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        step("load")
        loaded = {str(path): load(path) for path in models}
        files = tuple(file for one in loaded.values() for file in one.files)
        if options.report is not None:
            check_target(options.report, force=options.force, protect=files)
        feeds = _feeds(next(iter(loaded.values())), options)
        step("time")
        effort = Effort(seconds=options.seconds)
        done = measure(loaded, feeds, machine, effort=effort, nodes=options.nodes)
    if options.report is not None:
        write_files([File(options.report, (done.to_json().encode(),))], force=options.force, protect=files)
    _tell(done, options)
    return 0


def _check(models: tuple[Path, ...], options: BenchOptions) -> None:
    """Raise UsageError for what makes no sense whatever the models are."""
    if not models:
        hint = "graphprune bench model.onnx model.pruned.onnx"
        raise UsageError("model-missing", "there is no model to time", where="command line", hint=hint)
    if len(set(models)) < len(models):
        words = "a model is given twice"
        raise UsageError("model-twice", words, where="command line", hint="give each file once")
    if not 0 < options.seconds < float("inf"):
        words = f"{options.seconds} is no time limit"
        raise UsageError("bad-value", words, where="--seconds", hint="give a number of seconds, such as 10")
    check_seed(options.seed)


def _feeds(first: Loaded, options: BenchOptions) -> Feeds:
    from ..latency.inputs import first_samples, inputs_for, with_batch

    shapes = input_shapes(options.input_shape or ())
    if options.data is not None:
        return first_samples(options.data, first.model, options.batch, options.preprocess)
    return inputs_for(first.model, with_batch(first.model, shapes, options.batch), options.seed)


def _tell(done: Bench, options: BenchOptions) -> None:
    if options.json:
        emit(done.to_json())
    if options.quiet:
        return
    from ..report.terminal import styled

    written = [f"wrote {options.report}"] if options.report is not None else []
    stream = sys.stderr if options.json else sys.stdout
    text = styled([*in_words(done, most=None if options.verbose else MOST_NODES), *written], stream)
    print(text, end="", file=sys.stderr) if options.json else emit(text)


def in_words(done: Bench, most: int | None = MOST_NODES) -> Iterator[Table | str]:
    """Yield the table of models, how they were timed, and with kernels where the time went."""
    from ..report.latency import duration, nodes_table
    from ..report.terminal import plain_table

    table = plain_table("model", "latency", "half of the runs", "ratio", "half of the rounds")
    for k, name in enumerate(done.names):
        seconds, ratio = done.timing.spread(k), done.timing.ratio(k)
        within = f"{duration(seconds.low)} .. {duration(seconds.high)}"
        beside = (f"{ratio.median:.3f}", f"{ratio.low:.3f} .. {ratio.high:.3f}") if k else ("1", "")
        table.add_row(name, duration(seconds.median), within, *beside)
    yield table
    signature = done.machine.signature()
    threads = "as many threads as onnxruntime takes" if done.machine.threads == 0 else f"{done.machine.threads} threads"
    threads = "1 thread" if done.machine.threads == 1 else threads
    rounds = done.timing.spread().runs
    yield (
        f"{rounds} rounds in turns; onnxruntime {signature['onnxruntime']}, {signature['provider']}, {threads}, "
        f"batch {done.batch or 1}, {signature['cpu']}."
    )
    if not done.kernels:
        return
    for k in range(1, len(done.names)) if len(done.names) > 1 else (0,):
        yield f"Where the time goes, under the profiler: {done.names[0]}" + (f" and {done.names[k]}" if k else "")
        nodes = done.nodes(k)
        yield nodes_table(nodes, most if most is not None else len(nodes), one=k == 0)
