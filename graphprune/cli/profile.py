"""``graphprune profile MODEL``: how long nodes take on this machine, by their widths."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .options import Many, Quiet, Switch, Verbose, input_shapes
from .output import emit
from .progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from ..latency.profile import Profile, Steps

MOST_NODES = 15


@Parameter(name="*")
@dataclass(frozen=True)
class ProfileOptions:
    """Options of taking a profile, as given; ``help.PROFILE`` says what each does."""

    provider: str = "cpu"
    threads: int = 1
    batch: int | None = None
    input_shape: Many = None
    no_cache: Switch = False
    keep: Many = None
    allow_inexact: Switch = False
    prune: Many = None
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    force: Switch = False
    json: Switch = False
    quiet: Quiet = False
    verbose: Verbose = False


DEFAULTS = ProfileOptions()


def profile(model: Path, /, *, options: ProfileOptions = DEFAULTS) -> int:
    """Measure how long the model's nodes take by their widths, and write that to a file."""
    from ..backends.files import check_target
    from ..latency.inputs import with_batch
    from ..latency.machine import Machine
    from ..latency.profile import measure_profile
    from ..pipeline.opening import open_model, read
    from ..pipeline.settings import Settings

    machine = Machine(options.provider, options.threads, options.batch)
    machine.check()
    given = input_shapes(options.input_shape or ())
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        source = read(model, step)
        if options.output is not None:
            check_target(options.output, force=options.force, protect=source.loaded.files if source.loaded else ())
        settings = Settings.of(
            keep=tuple(options.keep or ()), allow_inexact=options.allow_inexact, prune=tuple(options.prune or ()),
            input_shapes=with_batch(source.model, given, options.batch),
        )  # fmt: skip
        opened = open_model(source, settings, step)
        found = measure_profile(opened.graph, opened.groups, machine, cache=not options.no_cache, progress=step)
    if options.output is not None:
        found.save(options.output, force=options.force)
    _tell(found, options)
    return 0


def _tell(found: Profile, options: ProfileOptions) -> None:
    """Print the profile: as JSON on stdout with --json, in words on stdout (or stderr, with --json)."""
    if options.json:
        emit(found.to_json() + "\n")
    if options.quiet:
        return
    from ..report.terminal import styled

    written = [f"wrote {options.output}"] if options.output is not None else []
    stream = sys.stderr if options.json else sys.stdout
    text = styled([*in_words(found, most=None if options.verbose else MOST_NODES), *written], stream)
    print(text, end="", file=sys.stderr) if options.json else emit(text)


def in_words(found: Profile, most: int | None = MOST_NODES) -> Iterator[Table | str]:
    """Yield where the time goes by class of kernels and by node, the steps that were found, and notes."""
    from ..report.latency import duration
    from ..report.terminal import plain_table

    table = plain_table("kernels", "nodes", "time", "%", "how they charge for widths", left=1)
    for kernel, (count, seconds) in _by_kernel(found).items():
        share = f"{100 * seconds / found.seconds:.1f}"
        table.add_row(kernel, str(count), duration(seconds), share, steps_in_words(found, kernel))
    if found.rest:
        table.add_row("starting them", "", duration(found.rest), f"{100 * found.rest / found.seconds:.1f}")
    yield table
    nodes = sorted((n for n in found.nodes if n.seconds), key=lambda n: -n.seconds)
    table = plain_table("node", "operator", "time", "%", left=2)
    for node in nodes[:most]:
        table.add_row(node.name, node.op, duration(node.seconds), f"{100 * node.seconds / found.seconds:.1f}")
    if most is not None and len(nodes) > most:
        rest = sum(n.seconds for n in nodes[most:])
        table.add_row(f"{len(nodes) - most} more", "", duration(rest), f"{100 * rest / found.seconds:.1f}")
    table.add_section()
    table.add_row("all", "", duration(found.seconds), "100.0")
    yield table
    machine = found.machine
    yield (
        f"{found.measurements} timings taken, {found.reused} from the cache; onnxruntime {machine['onnxruntime']}, "
        f"{machine['provider']}, threads {machine['threads']}, batch {found.batch}, {machine['cpu']}."
    )
    yield from (f"note: {note}" for note in found.notes)


def _by_kernel(found: Profile) -> Mapping[str, tuple[int, float]]:
    """Return number and seconds of nodes by class of kernels, or operator where none is known; most seconds first."""
    sums: dict[str, tuple[int, float]] = {}
    for node in found.nodes:
        if node.seconds:
            curve = found.curves.get(node.curve)
            kernel = curve.kernel if curve is not None else node.curve or node.op
            count, seconds = sums.get(kernel, (0, 0.0))
            sums[kernel] = count + 1, seconds + node.seconds
    return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def steps_in_words(found: Profile, kernel: str) -> str:
    """Say how a class of kernels charges for its variables."""
    from ..latency.templates import LETTERS

    steps = found.kernels[kernel].steps if kernel in found.kernels else {}
    axes = next((n.axes for n in found.nodes if n.curve in found.curves and found.curves[n.curve].kernel == kernel), ())
    words = []
    for letter, one in sorted(steps.items()):
        v = LETTERS.index(letter)
        side = ("in" if axes[v][0] == 0 else "out") if v < len(axes) else letter
        words.append(f"{side}: {one_in_words(one)}")
    return "; ".join(words)


def one_in_words(steps: Steps) -> str:
    """Say how a kernel charges for one variable."""
    periods = [str(p) for p, share in sorted(steps.share.items()) if p > 1 and share >= 0.1]
    words = f"steps of {' and '.join(periods)}" if periods else "evenly"
    if periods and steps.share.get(1, 0.0) >= 0.1:
        words += ", and evenly"
    return words if steps.only == 1 else f"{words}, slower off multiples of {steps.only}"
