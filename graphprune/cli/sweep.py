"""``graphprune sweep MODEL --data DATA``: what pruning to several budgets costs, measured."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .command import command_words
from .options import SweepOptions, settings_of
from .output import emit
from .progress import progress

if TYPE_CHECKING:
    from ..budget import Budget
    from ..report.curve import Curve

RANGE = re.compile(r"(?:([a-z]+)=)?(\d*\.?\d+)\.\.(\d*\.?\d+)(?:/(\d+))?")
POINTS = 7


DEFAULTS = SweepOptions()


def sweep(model: Path, /, *, options: SweepOptions = DEFAULTS) -> int:
    """Prune a model to several budgets, measure what each costs, and write nothing but that."""
    from ..backends.files import File, check_target, write_files
    from ..frontends.files.load import load
    from ..pipeline.sweep import run_sweep
    from ..report.curve import Curve

    goals, settings = budgets_of(options.budgets or ["0.9..0.3"]), settings_of(options)
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        step("load")
        loaded = load(model)
        for path in filter(None, (options.report, options.svg, options.html)):
            check_target(path, force=options.force, protect=loaded.files)
        curve = run_sweep(loaded, goals, settings, step)
    curve = replace(curve, command=command_words())
    texts = [(options.report, Curve.to_json), (options.svg, _picture), (options.html, _page)]
    files = [File(path, (text(curve).encode(),)) for path, text in texts if path is not None]
    write_files(files, force=options.force, protect=loaded.files)
    _tell(curve, options)
    return 0


def _picture(curve: Curve) -> str:
    from ..report.curve_svg import svg

    return svg(curve)


def _page(curve: Curve) -> str:
    from ..report.html.page import curve_page

    return curve_page(curve)


def _tell(curve: Curve, options: SweepOptions) -> None:
    if options.json:
        emit(curve.to_json())
    if options.quiet:
        return
    from ..report.curve import in_words
    from ..report.terminal import styled

    written = [str(p) for p in (options.report, options.svg, options.html) if p is not None]
    stream = sys.stderr if options.json else sys.stdout
    text = styled([*in_words(curve), *([f"wrote {', '.join(written)}"] if written else [])], stream)
    print(text, end="", file=sys.stderr) if options.json else emit(text)


def budgets_of(texts: Sequence[str]) -> list[Budget]:
    """Read budgets: single ones, separated by commas or repeated, and ranges such as 0.9..0.3 or params=0.9..0.5/5.

    A range has 7 points unless told otherwise. Raises UsageError for anything else.
    """
    from ..budget import Budget

    found: list[Budget] = []
    for text in (part.strip() for item in texts for part in item.split(",")):
        match = RANGE.fullmatch(text)
        if match is None:
            found.append(Budget.parse(text))
            continue
        metric, (first, last), count = match[1] or "macs", map(float, match.group(2, 3)), int(match[4] or POINTS)
        if count < 2:
            hint = "0.9..0.3/5 gives five budgets"
            raise UsageError("budget-value", f"{text!r} has less than two points", where="--budgets", hint=hint)
        steps = (first + (last - first) * k / (count - 1) for k in range(count))
        found += [Budget.parse(f"{metric}={round(value, 6)}") for value in steps]
    return found
