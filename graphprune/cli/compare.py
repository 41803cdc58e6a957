"""``graphprune compare A B``: what two models cost, which tensors differ, how far their outputs are apart."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from .options import Many, Quiet, Switch, Verbose, input_shapes
from .output import emit
from .progress import progress

if TYPE_CHECKING:
    from ..comparison.result import Comparison


@Parameter(name="*")
@dataclass(frozen=True)
class CompareOptions:
    """Options of the comparison, as given; ``help.COMPARE`` says what each does."""

    data: str | None = None
    labels: str | None = None
    preprocess: str | None = None
    samples: int | None = None
    run: Path | None = None
    seed: int = 0
    input_shape: Many = None
    report: Path | None = None
    html: Path | None = None
    force: Switch = False
    json: Switch = False
    quiet: Quiet = False
    verbose: Verbose = False


DEFAULTS = CompareOptions()


def compare(a: Path, b: Path, /, *, options: CompareOptions = DEFAULTS) -> int:
    """Compare two models of the same inputs and outputs."""
    from ..backends.files import File, check_target, write_files
    from ..comparison import compare as run
    from ..report.report import Report

    shapes = input_shapes(options.input_shape or ())
    inputs = [path for path in (a, b, options.run) if path is not None]
    for path in filter(None, (options.report, options.html)):
        check_target(path, force=options.force, protect=inputs)
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        found = run(
            a, b, data=options.data, labels=options.labels, preprocess=options.preprocess, samples=options.samples,
            seed=options.seed, input_shapes=shapes, progress=step,
            report=Report.load(options.run) if options.run is not None else None,
        )  # fmt: skip
    texts = [(options.report, found.to_json)]
    if options.html is not None:
        from ..comparison.page import page

        texts.append((options.html, lambda: page(found)))
    write_files([File(p, (t().encode(),)) for p, t in texts if p is not None], force=options.force, protect=inputs)
    _tell(found, options)
    return 0


def _tell(found: Comparison, options: CompareOptions) -> None:
    if options.json:
        emit(found.to_json())
    if options.quiet:
        return
    from ..comparison.words import in_words
    from ..report.terminal import styled

    written = ", ".join(str(p) for p in (options.report, options.html) if p is not None)
    stream = sys.stderr if options.json else sys.stdout
    text = styled([*in_words(found, verbose=options.verbose), *([f"wrote {written}"] if written else [])], stream)
    print(text, end="", file=sys.stderr) if options.json else emit(text)
