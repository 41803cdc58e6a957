"""``graphprune figures REPORT.json -o FOLDER``: single figures of a report or a sweep, for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .options import Many, Quiet, Switch
from .output import emit


def figures(
    file: Path, /, *, output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    format: str = "svg",
    only: Many = None, dpi: int = 300, force: Switch = False, quiet: Quiet = False,
) -> int:  # fmt: skip
    """Draw the figures of what --report wrote, and write each as a file."""
    from ..figures.canvas import matplotlib
    from ..figures.export import export

    matplotlib()
    formats = [part.strip() for part in format.split(",") if part.strip()]
    names = [part.strip() for item in only or () for part in item.split(",")]
    paths = export(file, output or Path(f"{file.stem}.figures"), formats=formats, only=names, dpi=dpi, force=force)
    if not quiet:
        emit("".join(f"wrote {path}\n" for path in paths))
    return 0
