"""``graphprune stats MODEL --data D -o FILE``: take statistics, all at once or shard by shard, and merge them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import UsageError
from ..seeds import check_seed
from .options import Many, Quiet, Switch, Verbose, input_shapes
from .output import emit
from .progress import Progress, progress

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..graph import Graph
    from ..groups import Groups
    from ..statistics import Statistics

SCHEMA = "graphprune.stats/1"


@Parameter(name="*")
@dataclass(frozen=True)
class StatsOptions:
    """Options of taking statistics, as given; ``help.STATS`` says what each does."""

    data: str | None = None
    preprocess: str | None = None
    samples: int | None = None
    rows: int = 8192
    shard: str | None = None
    merge: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=True)] = None
    batch_size: int | None = None
    provider: str = "cpu"
    allow_inexact: Switch = False
    input_shape: Many = None
    seed: int = 0
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    force: Switch = False
    json: Switch = False
    quiet: Quiet = False
    verbose: Verbose = False


DEFAULTS = StatsOptions()


def stats(model: Path, /, *, options: StatsOptions = DEFAULTS) -> int:
    """Take the moments of what layers read on samples, and write them to a file."""
    from ..backends.files import File, check_target, write_files

    shard = shard_of(options.shard)
    output = _output(model, shard, options)
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        graph, groups, loaded = _opened(model, options, step)
        protect = (*loaded.files, *(options.merge or ()))
        check_target(output, force=options.force, protect=protect)
        found = _found(graph, groups, options, shard, step)
        step("write")
        from ..statistics.files import encoded

        write_files([File(output, (encoded(found),))], force=options.force, protect=protect)
    _tell(found, graph, groups, output, options)
    return 0


def _opened(model: Path, options: StatsOptions, step: Progress) -> tuple[Graph, Groups, Any]:
    """Read and trace the model."""
    from ..coupling import couple
    from ..data import sizes_from
    from ..frontends.files.load import load
    from ..frontends.onnx.trace import trace

    step("load")
    loaded = load(model)
    step("trace")
    sizes = sizes_from(loaded.model, _given(loaded.model, options), options.data, preprocess=options.preprocess)
    graph = trace(loaded, input_shapes=sizes)
    return graph, couple(graph, allow_inexact=options.allow_inexact), loaded


def _given(model: ModelProto, options: StatsOptions) -> dict[str, tuple[int, ...]]:
    """Return the sizes to trace with: those that are given, and where files are merged the first one's own."""
    given = input_shapes(options.input_shape or ())
    if not options.merge:
        return given
    from ..data import specs_of_model
    from ..statistics.files import load

    known, wanted = load(options.merge[0]).sizes, {spec.name: spec.shape for spec in specs_of_model(model)}
    fitting = {n: size for n, size in known.items() if n in wanted and _fits(size, wanted[n])}
    return {**fitting, **given}


def _fits(size: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    """Tell whether a size is one that an input may have."""
    alike = wanted is not None and len(size) == len(wanted)
    return wanted is None or (alike and all(b in (None, a) for a, b in zip(size, wanted, strict=True)))


def _found(graph: Graph, groups: Groups, options: StatsOptions, shard: tuple[int, int], step: Progress) -> Statistics:
    from ..repair.samples import check_differ
    from ..statistics import Settings, collect, merge, surrogate_samples

    if options.merge is not None:
        if options.data is not None or options.shard is not None:
            words = "files are merged, or samples looked at, not both"
            raise UsageError("bad-value", words, where="--merge", hint="leave --data and --shard away")
        step("merge")
        return merge(options.merge, graph)
    if options.samples is not None and options.samples < 1:
        words = f"{options.samples} is not a number of samples"
        raise UsageError("bad-value", words, where="--samples", hint="give a positive number")
    check_seed(options.seed)
    step("statistics")
    settings = Settings(
        rows=options.rows or None, batch=options.batch_size, seed=options.seed, provider=options.provider
    )
    if options.data is None:
        data: Any = surrogate_samples(graph, options.samples or 256, options.seed)
        check_differ(data.samples, made_up=True)
    else:
        from ..data import open_samples, specs_of_model

        data = open_samples(options.data, specs_of_model(graph.source.model), preprocess=options.preprocess)
        data = data if options.samples is None else data.first(options.samples)
        check_differ(data)
    return collect(graph, groups, data, settings, shard=shard)


def shard_of(text: str | None) -> tuple[int, int]:
    """Read K/N, K from 1; by default what torchrun says in RANK and WORLD_SIZE, or all of it.

    Raises UsageError for anything else.
    """
    if text is None:
        rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        return (int(rank), int(world)) if rank.isdecimal() and world.isdecimal() else (0, 1)
    number, slash, of = text.partition("/")
    if not slash or not number.isdecimal() or not of.isdecimal() or not 1 <= int(number) <= int(of):
        hint = "write K/N with K from 1 to N, such as 2/8"
        raise UsageError("bad-shard", f"{text!r} is no shard", where="--shard", hint=hint)
    return int(number) - 1, int(of)


def _output(model: Path, shard: tuple[int, int], options: StatsOptions) -> Path:
    """Return where to write: every process of torchrun, given one name for all, has one of its own."""
    if options.output is None:
        return default_output(model, shard)
    if options.shard is not None or shard[1] == 1 or options.merge is not None:
        return options.output
    stem = options.output.name.removesuffix(".npz")
    return options.output.with_name(f"{stem}.{shard[0] + 1}of{shard[1]}.npz")


def default_output(model: Path, shard: tuple[int, int]) -> Path:
    """Return the output beside the model: a.onnx gives a.stats.npz, and its second shard of 8 a.stats.2of8.npz."""
    stem, (number, of) = model.name.removesuffix(".onnx") or model.name, shard
    part = f".{number + 1}of{of}" if of > 1 else ""
    return model.with_name(f"{stem}.stats{part}.npz")


def _tell(found: Statistics, graph: Graph, groups: Groups, output: Path, options: StatsOptions) -> None:
    """Print what was taken: as JSON on stdout with --json, in words on stdout (or stderr, with --json)."""
    facts = _facts(found, graph, groups, output)
    if options.json:
        from json import dumps

        emit(dumps(facts) + "\n")
    if not options.quiet:
        text = "\n".join(_in_words(facts)) + "\n"
        print(text, end="", file=sys.stderr) if options.json else emit(text)


def _facts(found: Statistics, graph: Graph, groups: Groups, output: Path) -> dict[str, Any]:
    from ..statistics import consumers_of, unseen

    layers = [c for c in consumers_of(graph, groups) if c.key in found.moments]
    return {
        "schema": SCHEMA, "output": str(output), "samples": found.samples, "complete": found.complete,
        "inputs": len(found.moments), "bytes": found.bytes,
        "layers": [{"parameter": c.parameter, "columns": c.columns, "rows": found.of(c).rows} for c in layers],
        "unseen": [{"tensor": u.tensor, "reason": u.reason} for u in unseen(graph, groups)],
        "notes": list(found.notes),
    }  # fmt: skip


def _in_words(facts: dict[str, Any]) -> Sequence[str]:
    rows = [layer["rows"] for layer in facts["layers"]]
    seen = f", {min(rows)} to {max(rows)} rows each; they take {facts['bytes'] / 1e6:.3g} MB" if rows else ""
    lines = [f"{len(rows)} layers with {facts['inputs']} different inputs on {facts['samples']} samples{seen}"]
    reasons: dict[str, int] = {}
    for one in facts["unseen"]:
        reasons[one["reason"]] = reasons.get(one["reason"], 0) + 1
    lines += [f"not looked at: {count} sums, because {reason}" for reason, count in reasons.items()]
    lines += [f"note: {note}" for note in facts["notes"]]
    if not facts["complete"]:
        lines.append("this is a part: graphprune stats MODEL --merge all the parts' files puts them together")
    return [*lines, f"wrote {facts['output']}"]
