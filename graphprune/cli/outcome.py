"""What pruning leaves besides the model: files on what was done, and words."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .command import command_words
from .options import Options
from .output import emit

if TYPE_CHECKING:
    from ..backends.files import File
    from ..plan import Plan
    from ..report.report import Report


def texts(report: Report, plan: Plan, options: Options) -> list[File]:
    """Return the report, the page and the plan, those that are asked for, as files."""
    from ..backends.files import File

    files = []
    report = replace(report, command=command_words())
    if options.report is not None:
        files.append(File(options.report, (report.to_json().encode(),)))
    if options.html is not None:
        from ..report.html.page import report_page

        files.append(File(options.html, (report_page(report).encode(),)))
    if options.save_plan is not None:
        files.append(File(options.save_plan, (plan.to_json().encode(), b"\n")))
    return files


def tell(report: Report, output: Path, options: Options) -> None:
    """Print the report: as JSON on stdout with --json, in words on stdout (or stderr, with --json) unless --quiet."""
    if options.json:
        emit(replace(report, command=command_words()).to_json())
    if options.quiet:
        return
    from ..report.terminal import in_words, styled

    files = ", ".join(str(p) for p in (output, options.report, options.html, options.save_plan) if p is not None)
    last = f"dry run, not written: {files}" if options.dry_run else f"wrote {files}"
    stream = sys.stderr if options.json else sys.stdout
    text = styled([*in_words(report, verbose=options.verbose), last], stream)
    print(text, end="", file=sys.stderr) if options.json else emit(text)
