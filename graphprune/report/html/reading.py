"""Pages of files that were written before: a report, a sweep, a record of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import UsageError, reason_of
from .. import curve as curves
from .. import report as reports
from ..curve import Curve
from ..report import Report
from .page import curve_page, report_page

HINT = "give a file that --report wrote"


def page_of(path: Path, sweep: Path | None = None) -> str:
    """Return the page of a file that --report wrote; with a sweep of the same model, its curve is part of it.

    Raises UsageError for files that cannot be read, hold something else, or tell of different models.
    """
    from ...finetune import report as finetuned
    from .finetuned import finetune_page

    text = _read(path)
    schema = _schema(text, path)
    if sweep is not None and schema != reports.SCHEMA:
        words, hint = "a sweep goes with the report of a pruned model", "give the report first, or one file alone"
        raise UsageError("report-schema", words, where=str(path), hint=hint)
    if schema == reports.SCHEMA:
        report = Report.from_json(text, where=str(path))
        return report_page(report, None if sweep is None else _curve_for(report, sweep))
    if schema == curves.SCHEMA:
        return curve_page(Curve.from_json(text, where=str(path)))
    if schema == finetuned.SCHEMA:
        return finetune_page(finetuned.FinetuneReport.from_json(text, where=str(path)))
    words = f"this is a {schema!r} file, no report of pruning, of a sweep or of fine-tuning"
    raise UsageError("report-schema", words, where=str(path), hint=HINT)


def _curve_for(report: Report, path: Path) -> Curve:
    """Read the sweep of the model that a report is about."""
    text = _read(path)
    if _schema(text, path) != curves.SCHEMA:
        words, hint = "this is no sweep", "give a file that graphprune sweep --report wrote"
        raise UsageError("report-schema", words, where=str(path), hint=hint)
    curve = Curve.from_json(text, where=str(path))
    mine = (report.input.macs, report.input.params)
    if mine != tuple(round(curve.full.get(metric, -1)) for metric in ("macs", "params")):
        words = "the sweep is of another model: its MACs and parameters are not the report's"
        raise UsageError("report-mismatch", words, where=str(path), hint="sweep the model that the report is about")
    return curve


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words = f"cannot read it: {reason_of(error)}"
        raise UsageError("report-unreadable", words, where=str(path), hint=HINT) from error


def _schema(text: str, path: Path) -> str:
    """Return the kind of file that JSON text says it is."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("report-unreadable", reason_of(error), where=str(path), hint=HINT) from error
    schema = body.get("schema") if isinstance(body, dict) else None
    if not isinstance(schema, str):
        raise UsageError("report-unreadable", "it does not say what it is", where=str(path), hint=HINT)
    return schema
