"""What the method found: sizes of coresets, importances, how gates lie and how their training went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..method import Loss, Told, losses, told
from ..report import Report
from .charts import Axis, Mark, line_chart
from .markup import Content, Html, element, name
from .svg import spread
from .tables import Column, everything, scrolling, section, table

MISSING = "\u2013"
"""What the page's script sorts below all numbers."""
LINES = "The line is the loss while training, the dashed one that on samples held out."
WORDS = ("group", "guarantee")
"""Headings of columns that hold no numbers."""


def method_found(report: Report) -> Html | None:
    """Return the section on what a method tells of groups beside the units it keeps; None where it tells nothing."""
    tables, history = told(report.method or "", report.details), losses(report.details)
    parts: list[Content] = [part for one in tables for part in _table(one)]
    if len(history) > 1:
        parts += [_chart(history), element("p", LINES)]
    return section("method", f"What {report.method} found", *parts) if parts else None


def _table(one: Told) -> Iterator[Html | None]:
    yield element("p", one.meaning, class_="lede")
    columns = [Column(_capital(h), "text" if h in WORDS else "number") for h in one.headings]
    columns += [Column("Distribution", "picture")] if one.pictures else []
    rows: list[list[Content]] = [[name(row[0]), *(MISSING if c == "-" else c for c in row[1:])] for row in one.rows]
    for row, picture in zip(rows, one.pictures, strict=False):
        label = f"{sum(picture.kept)} above, {sum(picture.removed)} not"
        row.append(spread(picture, width=160, height=36, label=label))
    yield scrolling(table(f"method-{one.name}", one.caption, columns, rows), one.caption)
    yield everything(f"method-{one.name}", len(rows))


def _capital(heading: str) -> str:
    return heading[:1].upper() + heading[1:]


def _chart(history: Sequence[Loss]) -> Html:
    trained = [Mark(e.epoch, e.loss, f"epoch {e.epoch}: {e.loss:.4g} while training") for e in history]
    held = [
        Mark(e.epoch, e.held_out, f"epoch {e.epoch}: {e.held_out:.4g} held out")
        for e in history
        if e.held_out is not None
    ]
    top = max(mark.y for mark in (*trained, *held)) or 1.0
    across = Axis(history[0].epoch, history[-1].epoch, "epoch", percent=False)
    chart = line_chart(trained, across, Axis(0.0, top * 1.05, "loss", percent=False), "Loss over epochs", more=held)
    return scrolling(chart, "Loss over epochs")
