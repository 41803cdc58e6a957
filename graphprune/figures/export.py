"""All figures that a report or a sweep has, as files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.files import File, write_files
from ..errors import UsageError, reason_of
from ..report import curve as curves
from ..report import report as reports
from ..report.curve import Curve
from ..report.report import Report
from .budgets import curve
from .canvas import STYLE, matplotlib
from .distributions import scores
from .nodes import latency
from .units import widths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
OF_REPORT: dict[str, Callable[[Report], Figure]] = {"widths": widths, "scores": scores, "latency": latency}
NAMES = (*OF_REPORT, "curve")


def read(path: Path) -> Report | Curve:
    """Read a report or a sweep; raises UsageError for anything else."""
    hint = "give a file that --report wrote"
    try:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text)
        schema = body.get("schema") if isinstance(body, dict) else None
    except (OSError, ValueError, RecursionError) as error:
        words = f"cannot read it: {reason_of(error)}"
        raise UsageError("report-unreadable", words, where=str(path), hint=hint) from error
    if schema == reports.SCHEMA:
        return Report.from_json(text, where=str(path))
    if schema == curves.SCHEMA:
        return Curve.from_json(text, where=str(path))
    raise UsageError("report-schema", "this is no report of pruning, and no sweep", where=str(path), hint=hint)


def figures_of(found: Report | Curve, only: Sequence[str] = ()) -> dict[str, Figure]:
    """Return the figures by name that there is something to draw in; those named in ``only`` or none.

    Raises UsageError for one that was named and has nothing to draw, and where there is no figure at all.
    """
    for name in only:
        if name not in NAMES:
            hint = f"the figures are {', '.join(NAMES)}"
            raise UsageError("unknown-figure", f"there is no figure {name!r}", where="figures", hint=hint)
    makers: dict[str, Callable[[], Figure]]
    if isinstance(found, Curve):
        makers = {"curve": lambda: curve(found)}
    else:
        makers = {name: (lambda make=make: make(found)) for name, make in OF_REPORT.items()}  # type: ignore[misc]
    made: dict[str, Figure] = {}
    for name in only or makers:
        if name not in makers:
            words = f"a {'sweep' if isinstance(found, Curve) else 'report'} has no figure {name!r}"
            raise UsageError("figure-empty", words, where="figures", hint=f"it has {', '.join(makers)}")
        try:
            made[name] = makers[name]()
        except UsageError as error:
            if error.code != "figure-empty" or only:
                raise
    if not made:
        words, hint = "there is nothing to draw in it", "give the report of a run that pruned something"
        raise UsageError("figure-empty", words, where="figures", hint=hint)
    return made


def encoded(figure: Figure, form: str, *, dpi: int = 300) -> bytes:
    """Return a figure as the content of a file: svg, pdf or png; the same figure gives the same bytes."""
    if form not in FORMATS:
        hint = f"the formats are {', '.join(FORMATS)}"
        raise UsageError("unknown-format", f"there is no format {form!r}", where="--format", hint=hint)
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    stream = io.BytesIO()
    with matplotlib().rc_context(STYLE):
        figure.savefig(stream, format=form, dpi=dpi, metadata=stamp)
    return stream.getvalue()


def export(
    found: Report | Curve | str | Path, folder: str | Path, *, formats: Sequence[str] = ("svg",),
    only: Sequence[str] = (), dpi: int = 300, force: bool = False,
) -> tuple[Path, ...]:  # fmt: skip
    """Write the figures of a report or sweep (or of its file) to a folder, ``widths.svg`` and so on; return the paths.

    The folder is made where it is missing. Raises UsageError and OutputError; then nothing is written.
    """
    source = [Path(found)] if isinstance(found, (str, Path)) else []
    held = read(source[0]) if isinstance(found, (str, Path)) else found
    target = Path(folder)
    files = [
        File(target / f"{name}.{form}", (encoded(figure, form, dpi=dpi),))
        for name, figure in figures_of(held, only).items()
        for form in dict.fromkeys(formats)
    ]
    if target.parent.is_dir() and not target.exists():
        target.mkdir()
    write_files(files, force=force, protect=source)
    return tuple(f.path for f in files)
