"""``graphprune report REPORT.json -o REPORT.html``: a report, a sweep or both as a page, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .options import Quiet, Switch
from .output import emit


def report(
    file: Path, sweep: Path | None = None, /, *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None, force: Switch = False,
    quiet: Quiet = False,
) -> int:  # fmt: skip
    """Draw what --report wrote as one HTML file."""
    from ..backends.files import File, check_target, write_files
    from ..report.html.reading import page_of

    target = output or file.with_suffix(".html")
    inputs = [path for path in (file, sweep) if path is not None]
    check_target(target, force=force, protect=inputs)
    page = page_of(file, sweep)
    write_files([File(target, (page.encode(),))], force=force, protect=inputs)
    if not quiet:
        emit(f"wrote {target}\n")
    return 0
